"""The figure beside vLLM: its pooling with prefix caching on, in its own environment and process.

Every turn scores a group that neither side has seen, so that vLLM's cache shares within the group only.
"""

import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hub_process import report

FIGURE = "prefix.vllm_300_70_8"
SCRIPT = Path(__file__).with_name("prefix_vllm_server.py")
# Beside torch for CPUs, torchvision asks for two operators that it does not bring.
SHIM = """
import torch
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}  # fmt: skip


def vllm_figure(
    checkpoint: Path, groups: Sequence[Sequence[list[int]]], images: Sequence[bytes],
    ours: Callable[[int], list[float]], turns: int,
) -> None:  # fmt: skip
    """Prints the ratio of vLLM's time to ours over ``turns`` groups, or that there is no vLLM.

    ``groups`` are the token ids of each group's rows with one placeholder for the image; ``ours(turn)``
    scores the same rows here.
    """
    python = os.environ.get("REWARDHUB_VLLM_PYTHON", "")
    if not python:
        print(f"{FIGURE} skipped vLLM (REWARDHUB_VLLM_PYTHON is not set)")
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(SHIM)
        process = subprocess.Popen(
            [python, SCRIPT, checkpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | SETTINGS | {"PYTHONPATH": folder, "PYTHONSAFEPATH": ""},
        )  # fmt: skip
        try:
            _answer(process)
            ratios, apart = [], 0.0
            for turn in range(turns + 1):
                theirs = _ask(process, groups[turn], images[turn])
                # While we are timed its threads, which wait busily, must not take the cores.
                process.send_signal(signal.SIGSTOP)
                started, used = time.perf_counter(), time.process_time()
                scores = ours(turn)
                seconds, cpu = time.perf_counter() - started, time.process_time() - used
                process.send_signal(signal.SIGCONT)
                apart = max(apart, *(abs(a - b) for a, b in zip(scores, theirs["scores"], strict=True)))
                print(
                    f"vllm_300_70_8: {len(scores) / theirs['seconds']:.1f} and {len(scores) / seconds:.1f} responses/s, "
                    f"{theirs['cpu']:.2f} and {cpu:.2f} s of processor time"
                )
                ratios.append(theirs["seconds"] / seconds)
        finally:
            process.kill()
            process.wait()
    if apart > 1e-5:
        raise SystemExit(f"{FIGURE}: scores differ by {apart:.2g}")
    print(f"vllm_300_70_8: scores within {apart:.1g}")
    report(FIGURE, statistics.median(ratios[1:]), "vLLM pooling, prefix caching on")


def _ask(process: Any, rows: Sequence[list[int]], image: bytes) -> Any:
    process.stdin.write(json.dumps({"rows": rows, "image": image.hex()}) + "\n")
    process.stdin.flush()
    return _answer(process)


def _answer(process: Any) -> Any:
    """The next answer; other lines are vLLM's own talk."""
    for line in process.stdout:
        if line.startswith("ANSWER "):
            return json.loads(line.removeprefix("ANSWER "))
    raise SystemExit(f"{FIGURE}: vLLM ended with code {process.wait()}")
