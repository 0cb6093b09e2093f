"""Has what a process makes from now on lie side by side, away from what it made before.

Python puts a new small object into a gap between old ones of its size. In a fork every page that is
written to is copied first, so that a few objects in many gaps cost it dearly.
"""

from itertools import count
from typing import Any

_STEP, _LARGEST, _POOL = 16, 512, 1 << 14
_HEAD = len(b"").__sizeof__()
"""Sizes and addresses of CPython's allocator of small objects; where they differ, gaps stay."""
_MOST = 50_000


def fill_gaps() -> list[Any]:
    """Fills the gaps with objects, which the caller is to keep."""
    kept: list[Any] = []
    for size in range(_STEP, _LARGEST + 1, _STEP):
        kept += _fill(size)
    return kept


def _fill(size: int) -> list[Any]:
    """Objects of one size, as many as it takes until they come one behind the other."""
    enough, kept, row, last = min(64, _POOL // size // 2), [], 0, 0
    for number in count(1 << 20):
        thing = _thing(size, number)
        row = row + 1 if id(thing) == last + size else 0
        last = id(thing)
        kept.append(thing)
        if row >= enough or len(kept) > _MOST:
            return kept
    return kept


def _thing(size: int, number: int) -> Any:
    if size == 16:
        return object()
    return number if size == 32 else bytes(size - 33)
