"""IoU of 10^5 box pairs, beside shapely one pair at a time. Both get the coordinates as they hold them best:
an array for ours, tuples of Python numbers for shapely. The verdicts are compared before any time counts.

    .venv/bin/python -P tests/bench/boxes.py [PAIRS]
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import box

sys.path.insert(0, str(Path(__file__).parent))
from hub_process import hardware, report

from rewardhub.verifiers.geometry.overlaps import aligned_iou

TURNS = 5


def random_boxes(count: int, seed: int) -> np.ndarray:
    """Boxes of 1 to 500 pixels in an image of 1,000: four of five pairs of a set and its twin overlap."""
    random = np.random.default_rng(seed)
    corners = random.integers(0, 500, (count, 2))
    return np.concatenate([corners, corners + random.integers(1, 500, (count, 2))], axis=1).astype(float)


def one_by_one(ones: list[tuple[float, ...]], others: list[tuple[float, ...]]) -> list[float]:
    """Shapely's polygons, made and intersected pair by pair."""
    ious = []
    for one, other in zip(ones, others, strict=True):
        first, second = box(*one), box(*other)
        shared = first.intersection(second).area
        ious.append(shared / (first.area + second.area - shared))
    return ious


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main(pairs: int) -> None:
    ones, others = random_boxes(pairs, 1), random_boxes(pairs, 2)
    first, second = [tuple(row) for row in ones.tolist()], [tuple(row) for row in others.tolist()]
    apart = np.abs(aligned_iou(ones, others) - one_by_one(first, second)).max()
    assert apart < 1e-9, f"the verdicts differ by {apart}"
    times = [
        (
            seconds(lambda: aligned_iou(ones, others)),
            seconds(lambda: aligned_iou(np.array(first), np.array(second))),
            seconds(lambda: one_by_one(first, second)),
        )
        for _ in range(TURNS)
    ]
    ours, listed, theirs = (statistics.median(each) for each in zip(*times, strict=True))
    print(f"{hardware()}; {pairs} pairs, median of {TURNS} turns, largest difference {apart:.1e}")
    print(f"array {ours * 1e3:.2f} ms, lists {listed * 1e3:.1f} ms, shapely {theirs * 1e3:.0f} ms")
    report("boxes.pairs_100k", theirs / ours, f"shapely-{shapely.__version__}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
