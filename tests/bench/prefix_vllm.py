"""The figures beside vLLM: its pooling with prefix caching on, in its own environment and process.

Every turn scores a group that neither side has seen, so that vLLM's cache shares within the group only.
"""

import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hub_process import report

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
    "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """What vLLM is asked for: the pooling ``task``, and of each row the outputs at ``places``, scores by ``read``."""

    name: str
    task: Literal["classify", "token_classify"]
    places: Sequence[int]
    read: Callable[[float], float]
    peer: str


def vllm_figure(
    figure: Figure, checkpoint: Path, groups: Sequence[Sequence[list[int]]], images: Sequence[bytes],
    ours: Callable[[int], list[float]],
) -> None:  # fmt: skip
    """Prints the ratio of vLLM's time to ours over the groups but the first, or that there is no vLLM.

    ``groups`` are the token ids of each group's rows with one placeholder for the image; ``ours(turn)``
    scores the same rows here, as many numbers a row as there are places.
    """
    python = os.environ.get("REWARDHUB_VLLM_PYTHON", "")
    if not python:
        print(f"{figure.name} skipped vLLM (REWARDHUB_VLLM_PYTHON is not set)")
        return
    ratios, apart = [], 0.0
    with _vllm(python, figure, checkpoint) as process:
        for turn, (rows, image) in enumerate(zip(groups, images, strict=True)):
            theirs = _ask(process, {"rows": rows, "image": image.hex(), "places": figure.places})
            # While we are timed its threads, which wait busily, must not take the cores.
            process.send_signal(signal.SIGSTOP)
            started, used = time.perf_counter(), time.process_time()
            scores = ours(turn)
            seconds, cpu = time.perf_counter() - started, time.process_time() - used
            process.send_signal(signal.SIGCONT)
            wanted = map(figure.read, theirs["outputs"])
            apart = max(apart, *(abs(a - b) for a, b in zip(scores, wanted, strict=True)))
            print(
                f"{figure.name}: {len(rows) / theirs['seconds']:.1f} and {len(rows) / seconds:.1f} responses/s, "
                f"{theirs['cpu']:.2f} and {cpu:.2f} s of processor time"
            )
            ratios.append(theirs["seconds"] / seconds)
    if apart > 1e-5:
        raise SystemExit(f"{figure.name}: scores differ by {apart:.2g}")
    print(f"{figure.name}: scores within {apart:.1g}")
    report(figure.name, statistics.median(ratios[1:]), figure.peer)


@contextmanager
def _vllm(python: str, figure: Figure, checkpoint: Path) -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(SHIM)
        process = subprocess.Popen(
            [python, SCRIPT, checkpoint, figure.task], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | SETTINGS | {"PYTHONPATH": folder, "PYTHONSAFEPATH": ""},
        )  # fmt: skip
        try:
            _answer(process)
            yield process
        finally:
            process.kill()
            process.wait()


def _ask(process: Any, group: dict[str, Any]) -> Any:
    process.stdin.write(json.dumps(group) + "\n")
    process.stdin.flush()
    return _answer(process)


def _answer(process: Any) -> Any:
    """The next answer; other lines are vLLM's own talk."""
    for line in process.stdout:
        if line.startswith("ANSWER "):
            return json.loads(line.removeprefix("ANSWER "))
    raise SystemExit(f"vLLM ended with code {process.wait()}")
