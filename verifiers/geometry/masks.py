"""Binary masks as runs: read from rows of 0 and 1 or from COCO's run-length codes, compared unexpanded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewardhub.verifiers.geometry.reading import numbers
from rewardhub.verifiers.geometry.space import Flags, Floats

MAX_SIDE = 65_536
"""Pixels along a side. Work grows with the number of runs, not with the pixels that a mask claims."""

_MAX_CHUNKS = 7
Runs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask of ``height`` x ``width`` pixels in column-major order.

    ``ends`` are the ends of alternating runs of 0 and 1, beginning with 0; the last is the size.
    """

    height: int
    width: int
    ends: Runs

    def at(self, pixels: Runs) -> Flags:
        """The mask's value at column-major pixel numbers."""
        ones: Flags = np.searchsorted(self.ends, pixels, side="right") % 2 == 1
        return ones

    def holds(self, points: Floats) -> Flags:
        """Whether each point (n, 2), x to the right and y down in pixels, lies in a pixel of the mask."""
        with np.errstate(invalid="ignore"):
            inside: Flags = np.all((points >= 0) & (points < (self.width, self.height)), axis=1)
        column, row = np.where(inside[:, None], np.floor(points), 0).astype(np.int64).T
        return inside & self.at(column * self.height + row)


def mask_overlap(one: Mask, other: Mask) -> float:
    """Intersection over union of two masks of one size, in pixels; 1.0 where both are empty."""
    ends = np.union1d(one.ends, other.ends)
    starts = np.concatenate(([0], ends[:-1]))
    lengths, ones, others = ends - starts, one.at(starts), other.at(starts)
    union = int(lengths[ones | others].sum())
    return int(lengths[ones & others].sum()) / union if union else 1.0


def read_mask(value: Any) -> Mask | str:
    """The mask that a JSON value or text stands for, or why it is none.

    ``{"size": [height, width], "counts": …}`` with counts as a list of run lengths or as COCO's
    compressed text; a list of rows, each a list of 0 and 1 or a text of such digits; or lines of digits.
    """
    if isinstance(value, Mapping):
        return _from_runs(value.get("size"), value.get("counts"))
    rows = value.split() if isinstance(value, str) else value
    if not isinstance(rows, Sequence) or not rows:
        return "not a mask: neither runs nor rows"
    return _from_rows(rows)


def _from_rows(rows: Sequence[Any]) -> Mask | str:
    lists = [_digits(row) if isinstance(row, str) else row for row in rows]
    if not all(isinstance(row, list | tuple) and len(row) == len(lists[0]) for row in lists):
        return "the rows are not lists of one length"
    if any(type(cell) not in (int, float, bool) or cell not in (0, 1) for row in lists for cell in row):
        return "a cell is neither 0 nor 1"
    grid = np.array(lists, dtype=np.int8)
    if not grid.size or max(grid.shape) > MAX_SIDE:
        return f"the sides are not within 1 to {MAX_SIDE}"
    flat = grid.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=np.int8(0)))
    height, width = grid.shape
    return Mask(height, width, np.append(changes, flat.size).astype(np.int64))


def _digits(row: str) -> list[int]:
    return [ord(digit) - ord("0") for digit in row]


def _from_runs(size: Any, counts: Any) -> Mask | str:
    sides = numbers(size, 2)
    if sides is None or not all(1 <= side <= MAX_SIDE and side == int(side) for side in sides):
        return f"size is not [height, width] within 1 to {MAX_SIDE}"
    lengths = _decoded(counts) if isinstance(counts, str) else _listed(counts)
    height, width = map(int, sides)
    if lengths is None or (lengths < 0).any() or (lengths > height * width).any():
        return "counts are not run lengths"
    ends = np.cumsum(lengths)
    if not len(ends) or ends[-1] != height * width:
        return f"the runs do not sum to {height} x {width}"
    return Mask(height, width, ends)


def _listed(counts: Any) -> Runs | None:
    found = numbers(counts, len(counts)) if isinstance(counts, list | tuple) else None
    lengths = np.array(found or (), dtype=np.float64)
    whole = len(lengths) > 0 and (np.abs(lengths) <= MAX_SIDE**2).all() and (lengths == np.floor(lengths)).all()
    return lengths.astype(np.int64) if whole else None


def _decoded(text: str) -> Runs | None:
    """The run lengths of COCO's compressed text; None where it is malformed.

    Six bits a character from "0" on: five of the number, lowest first, and one that says whether more
    follow; the last of them carries the sign. From the fourth number on each is the difference to the
    one two before. Source: the public COCO API.
    """
    codes = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    last = np.flatnonzero((codes & 32) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    if (last - first).max() >= _MAX_CHUNKS:
        return None
    place = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    found = np.add.reduceat((codes & 31) << (5 * place), first)
    found -= np.where(codes[last] & 16, np.int64(1) << (5 * (place[last] + 1)), 0)
    for start in (1, 2):
        found[start::2] = np.cumsum(found[start::2])
    return found
