"""Scoring a group on its shared prompt, beside right-padded full rows and beside vLLM, on the same checkpoint.

A 33.6 M vision-language reward model with random weights, fp32, one image in every prompt. (P,R,G) are the
tokens of the prompt, image included, the tokens of a response, and the responses. The peer is the model's
own forward in transformers over one padded batch, each row with its image. Inputs are tokenised and cut
into patches beforehand for both; scores are compared first; the two are timed in turns. Beside vLLM, which
takes a decoded image, our time includes cutting it too.

    .venv/bin/python -P tests/bench/prefix.py [TURNS]

REWARDHUB_VLLM_PYTHON names the interpreter of an environment that holds vLLM.
"""

import ctypes
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

# As a model worker is started; the second is read by the loader of a process.
SETTINGS = {"GOMP_SPINCOUNT": "20000", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
if __name__ == "__main__" and SETTINGS.keys() - os.environ.keys():
    os.execve(sys.executable, [sys.executable, "-P", *sys.argv], SETTINGS | os.environ)

import numpy as np
import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile
from transformers import Qwen2_5_VLModel
from transformers.utils import logging

sys.path.append(str(Path(__file__).parent))
from hub_process import hardware, report
from prefix_model import build_classifier
from prefix_vllm import Figure, vllm_figure

from rewardhub.models import Card, load
from rewardhub.models.card import Calibration
from rewardhub.models.chat import Picture
from rewardhub.models.checkpoint import tensors_under
from rewardhub.models.head import PREFIXES, head_from
from rewardhub.models.inputs import Encoded, Row
from rewardhub.models.memory import keep_freed_memory
from rewardhub.models.pictures import as_tensors
from rewardhub.models.process import ProcessModel
from rewardhub.models.rows import RowModel
from rewardhub.models.scalar import ScalarModel
from rewardhub.types import Media

TOLERANCE = 1e-5
RESPONSES = 8
MIXED = (30, 45, 70, 110, 180, 290, 440, 600)
CASES = {
    "rows_1200_300_8": (1200, (300,) * 8),
    "rows_mixed": (1200, MIXED),
    "rows_300_70_8": (300, (70,) * 8),
    "rows_256_64_8": (256, (64,) * 8),
}
STEPS = tuple(300 + 14 * step - 1 for step in range(1, 6))
"""The last tokens of five steps of a response of 70 tokens behind a prompt of 300."""

PROBABILITY = Calibration(squash="sigmoid")
ENDS = Figure("prefix.vllm_300_70_8", "classify", (-1,), float, "vLLM pooling, prefix caching on")
OF_STEPS = Figure("prefix.vllm_steps_300_70_8", "token_classify", STEPS, PROBABILITY, "vLLM pooling of all tokens")
Timed = tuple[float, float]
"""Seconds by the wall clock and by the processor time of this process."""


class Rows:
    """The peer: the stock model over full rows, padded on the right to the longest."""

    def __init__(self, checkpoint: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        self.model = Qwen2_5_VLModel.from_pretrained(str(checkpoint), dtype=dtype).eval().to(device)
        self.head = head_from(tensors_under(checkpoint, PREFIXES), "none").to(device)

    def inputs(self, rows: Sequence[Encoded], image_id: int) -> dict[str, Any]:
        width = max(map(len, rows))
        ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, : len(row)], mask[index, : len(row)] = torch.from_numpy(row.ids), 1
        pixels, grids = as_tensors([image for row in rows for image in row.images])
        types = (ids == image_id).long()
        found = {
            "input_ids": ids, "attention_mask": mask, "mm_token_type_ids": types,
            "pixel_values": pixels.to(self.model.dtype), "image_grid_thw": grids,
        }  # fmt: skip
        return {name: tensor.to(self.model.device) for name, tensor in found.items()}

    def score(self, inputs: dict[str, Any]) -> list[float]:
        """The score of each row, read at its last token."""
        return self.outputs(inputs, inputs["attention_mask"].sum(-1, keepdim=True) - 1).flatten().tolist()

    @torch.inference_mode()
    def outputs(self, inputs: dict[str, Any], places: torch.Tensor) -> torch.Tensor:
        """What the head gives [B, K] at places [B, K], on the CPU."""
        states = self.model(**inputs, use_cache=False).last_hidden_state
        rows = torch.arange(len(places), device=places.device)[:, None]
        return self.head(states[rows, places]).cpu()


def picture(seed: int) -> bytes:
    """A PNG of 336 x 448 pixels, 192 tokens."""
    pixels = np.random.default_rng(seed).integers(0, 256, (448, 336, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def group_rows(model: RowModel, prompt: int, lengths: Sequence[int], seed: int) -> list[Encoded]:
    """The rows of one group: ``prompt`` tokens with an image among them, then each response's tokens."""
    encoder, rng = model.loaded.encoder, np.random.default_rng(seed)

    def text(length: int) -> Encoded:
        return Encoded(rng.integers(0, 256, length), np.tile(np.arange(length), (3, 1)), (), (), length)

    image = encoder.patches(Media.from_bytes(picture(seed)))
    start = text(24) + encoder.pieces([Picture(0)], [image])
    start = start + text(prompt - len(start))
    return [start + text(length) for length in lengths]


def timed(run: Callable[[], object]) -> Timed:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def in_turns(first: Callable[[], object], second: Callable[[], object], turns: int) -> tuple[list[Timed], list[Timed]]:
    """Both runs timed alternately, after one run of each that does not count."""
    first(), second()
    pairs = [(timed(first), timed(second)) for _ in range(turns)]
    return [one for one, _ in pairs], [two for _, two in pairs]


def ratio(slow: list[Timed], fast: list[Timed], clock: int) -> float:
    """The median over turns of how many times longer ``slow`` took."""
    return statistics.median(one[clock] / two[clock] for one, two in zip(slow, fast, strict=True))


def agree(name: str, ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest difference between scores; ends the run where it is over the tolerance."""
    apart = max(abs(one - two) for one, two in zip(ours, theirs, strict=True))
    if apart > TOLERANCE:
        sys.exit(f"{name}: scores differ by {apart:.2g}")
    return apart


def values_against_rows(model: ScalarModel, rows: Rows, name: str, turns: int) -> None:
    group = group_rows(model, *CASES[name], seed=1)
    inputs, kin = rows.inputs(group, model.loaded.encoder.image_id), [range(len(group))]
    against_rows(name, lambda: model.values(group, kin), lambda: rows.score(inputs), turns)


def steps_against_rows(model: ProcessModel, rows: Rows, turns: int) -> None:
    group = group_rows(model, *CASES["rows_300_70_8"], seed=1)
    inputs, places = rows.inputs(group, model.loaded.encoder.image_id), torch.tensor([STEPS] * len(group))
    against_rows(
        "steps_300_70_8",
        lambda: chances(model, group),
        lambda: rows.outputs(inputs, places).sigmoid().flatten().tolist(),
        turns,
    )


def chances(model: ProcessModel, group: Sequence[Encoded]) -> list[float]:
    """The chances of each row's steps, row by row."""
    scores = model.readings([Row(row, STEPS) for row in group], [range(len(group))], ())
    return [chance for score in scores for chance in score.steps]


def against_rows(name: str, ours: Callable[[], list[float]], theirs: Callable[[], list[float]], turns: int) -> None:
    apart = agree(name, ours(), theirs())
    slow, fast = in_turns(theirs, ours, turns)
    rate = RESPONSES / statistics.median(wall for wall, _ in fast)
    print(
        f"{name}: {rate:.1f} responses/s, {ratio(slow, fast, 0):.2f}x by the wall clock, "
        f"{ratio(slow, fast, 1):.2f}x by processor time, scores within {apart:.1g}"
    )
    report(f"prefix.{name}", ratio(slow, fast, 0), "full rows")


def eight_groups(model: ScalarModel) -> tuple[Callable[[], list[float]], Callable[[], list[float]]]:
    """Scores eight groups in one call, and in one call each."""
    groups = [group_rows(model, *CASES["rows_1200_300_8"], seed) for seed in range(8)]
    together = [row for group in groups for row in group]
    kin = [range(8 * index, 8 * index + 8) for index in range(8)]
    return lambda: model.values(together, kin), lambda: [
        value for group in groups for value in model.values(group, [range(8)])
    ]


def eight_at_once(model: ScalarModel, turns: int) -> None:
    at_once, one_by_one = eight_groups(model)
    agree("eight_at_once", at_once(), one_by_one())
    slow, fast = in_turns(one_by_one, at_once, max(2, turns // 3))
    report("prefix.eight_at_once", ratio(slow, fast, 0), "one at a time")
    single = group_rows(model, *CASES["rows_1200_300_8"], seed=0)
    double = group_rows(model, 1200, (300,) * 20, seed=9)
    runs: tuple[Callable[[], object], ...] = (
        lambda: model.values(single, [range(8)]),
        lambda: model.values(double, [range(20)]),
        at_once,
    )
    for name, measure in (("tensors", tensors_mb), ("resident", resident_mb)):
        one, two, eight = [least(measure, run) for run in runs]
        print(
            f"{name}: {one:.0f} MB for 3,600 tokens, {two:.0f} MB for 7,200 in one group, {eight:.0f} MB for 8 groups"
        )
        report(f"prefix.{name}_of_twice_the_tokens", two / one, "the memory of one group")


def least(measure: Callable[[Callable[[], object]], float], run: Callable[[], object]) -> float:
    """The least of three measurements; the first also takes what oneDNN keeps of its products."""
    return min(measure(run) for _ in range(3))


def tensors_mb(run: Callable[[], object]) -> float:
    """The most memory, in MB, that the tensors of a run have at one time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        run()
    assert watched.profiler is not None and watched.profiler.kineto_results is not None
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(sizes) / 2**20


def resident_mb(run: Callable[[], object]) -> float:
    """The most memory, in MB, that the process held during the run above what it held before."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    run()
    return (_resident("VmHWM") - before) / 1024


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def against_vllm(
    model: RowModel, figure: Figure, score: Callable[[Sequence[Encoded]], list[float]], checkpoint: Path, turns: int
) -> None:
    seeds = range(20, 21 + turns)
    groups = [group_rows(model, *CASES["rows_300_70_8"], seed) for seed in seeds]
    encoder = model.loaded.encoder

    def one_placeholder(row: Encoded) -> list[int]:
        ((start, stop),) = row.spans
        return [*row.ids[:start].tolist(), encoder.image_id, *row.ids[stop:].tolist()]

    asked = [[one_placeholder(row) for row in group] for group in groups]
    images = [picture(seed) for seed in seeds]
    decoded = [Image.open(io.BytesIO(image)).convert("RGB") for image in images]

    def ours(turn: int) -> list[float]:
        shown = encoder.reader.cut(decoded[turn], b"")
        return score([replace(row, images=(shown,)) for row in groups[turn]])

    vllm_figure(figure, checkpoint, asked, images, ours)


def main(turns: int) -> None:
    keep_freed_memory()
    torch.set_num_threads(min(2, len(os.sched_getaffinity(0))))
    print(f"{hardware()}; {torch.get_num_threads()} threads, median of {turns} turns")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = build_classifier(Path(folder))
        model = load(Card(name="bench", kind="scalar", path=checkpoint, system="", prefix_cache_mb=0))
        assert isinstance(model, ScalarModel)
        assert model.runner.attention == "packed"
        rows = Rows(checkpoint)
        for name in CASES:
            values_against_rows(model, rows, name, turns)
        eight_at_once(model, turns)
        process = load(Card(name="bench", kind="process", path=checkpoint, system="", prefix_cache_mb=0))
        assert isinstance(process, ProcessModel)
        steps_against_rows(process, rows, turns)
        against_vllm(model, ENDS, lambda group: model.values(group, [range(len(group))]), checkpoint, turns)
        against_vllm(process, OF_STEPS, lambda group: chances(process, group), checkpoint, turns)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 3)
