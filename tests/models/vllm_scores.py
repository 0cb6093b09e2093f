"""Run by the interpreter of a vLLM environment: CHECKPOINT REQUESTS ANSWERS. Writes raw scores as JSON."""

import json
import sys
from pathlib import Path


def main(checkpoint: str, requests: Path, answers: Path) -> None:
    from PIL import Image
    from vllm import LLM, PoolingParams

    llm = LLM(
        model=checkpoint, runner="pooling", dtype="float32", enforce_eager=True, max_model_len=1024,
        limit_mm_per_prompt={"image": 1, "video": 0}, seed=0,
    )  # fmt: skip
    scores = []
    for request in json.loads(requests.read_text()):
        prompt = {"prompt": request["text"]}
        if request["image"]:
            prompt["multi_modal_data"] = {"image": Image.open(request["image"]).convert("RGB")}
        output = llm.classify([prompt], pooling_params=PoolingParams(use_activation=False), use_tqdm=False)
        scores.append(output[0].outputs.probs[0])
    answers.write_text(json.dumps(scores))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
