"""Run by the interpreter of a vLLM environment: CHECKPOINT TASK. Scores the groups that come as lines of JSON.

The task is classify, the output of the last token, or token_classify, those of all tokens.
"""

import io
import json
import sys
import time


def answer(value: object) -> None:
    print("ANSWER " + json.dumps(value), flush=True)


def main(checkpoint: str, task: str) -> None:
    from PIL import Image
    from vllm import LLM, PoolingParams
    from vllm.config import PoolerConfig

    llm = LLM(
        model=checkpoint, runner="pooling", dtype="float32", enforce_eager=True, max_model_len=1024, seed=0,
        limit_mm_per_prompt={"image": 1, "video": 0}, enable_prefix_caching=True, pooler_config=PoolerConfig(task=task),
    )  # fmt: skip
    params = PoolingParams(use_activation=False)
    answer("ready")
    for line in sys.stdin:
        group = json.loads(line)
        image = Image.open(io.BytesIO(bytes.fromhex(group["image"]))).convert("RGB")
        prompts = [{"prompt_token_ids": ids, "multi_modal_data": {"image": image}} for ids in group["rows"]]
        started, used = time.perf_counter(), time.process_time()
        outputs = llm.encode(prompts, pooling_task=task, pooling_params=params, use_tqdm=False)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
        found = [output.outputs.data.flatten() for output in outputs]
        outputs = [float(values[place]) for values in found for place in group["places"]]
        answer({"outputs": outputs, "seconds": seconds, "cpu": cpu})


if __name__ == "__main__":
    main(*sys.argv[1:])
