"""A checkpoint written here is served by vLLM with the same scores.

REWARDHUB_VLLM_PYTHON names the interpreter of an environment that holds vLLM.
"""

import json
import os
import subprocess
from itertools import islice
from pathlib import Path

import pytest
import torch

from rewardhub.models import Card, load
from rewardhub.models.backbone import load_headless
from rewardhub.models.checkpoint import save_classifier
from rewardhub.models.colours import answer, colour_items
from rewardhub.models.head import new_head
from rewardhub.models.tiny import build_tiny
from rewardhub.types import Group, Response

SCRIPT = Path(__file__).with_name("vllm_scores.py")
# Beside torch for CPUs, torchvision asks for two operators that it does not bring.
SHIM = """
import torch
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}  # fmt: skip


@pytest.fixture(scope="module")
def vllm_python() -> str:
    name = os.environ.get("REWARDHUB_VLLM_PYTHON", "")
    if not name:
        pytest.skip("REWARDHUB_VLLM_PYTHON is not set: no vLLM environment is at hand")
    return name


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(400)
def test_vllm_gives_the_same_scores(vllm_python, tmp_path):
    """Text and image responses get raw scores within 1e-3 of ours (1e-6 measured with vLLM 0.32 on a CPU)."""
    base = build_tiny(tmp_path / "base", seed=2, heads=2)
    backbone = load_headless(base)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)
    checkpoint = tmp_path / "checkpoint"
    save_classifier(backbone.base, new_head(64, "none", 1).named_tensors(), base, checkpoint)
    model = load(Card(name="tiny", kind="scalar", path=checkpoint, system=""))
    requests, ours = [], []
    for index, item in enumerate(islice(colour_items(5), 4)):
        image = tmp_path / f"{index}.png"
        image.write_bytes(item.image)
        for media, shown in (((item.media,), str(image)), ((), "")):
            text = answer(item.colour) * (index + 1)
            holes = "<|vision_start|><|image_pad|><|vision_end|>" if shown else ""
            turns = f"<|im_start|>user\n{holes}{item.question}<|im_end|>\n<|im_start|>assistant\n{text}<|im_end|>\n"
            requests.append({"text": turns, "image": shown})
            ours += model.score([Group("0", item.question, (Response(text),), media=media)])[0].values
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    (tmp_path / "sitecustomize.py").write_text(SHIM)
    command = [vllm_python, SCRIPT, checkpoint, tmp_path / "requests.json", tmp_path / "answers.json"]
    done = subprocess.run(
        command, env=os.environ | SETTINGS | {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": ""},
        capture_output=True, text=True, check=False, timeout=380,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads((tmp_path / "answers.json").read_text())
    assert theirs == pytest.approx(ours, abs=1e-3)
    assert torch.tensor(ours).std() > 0.05
