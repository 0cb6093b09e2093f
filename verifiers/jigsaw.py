"""``jigsaw``: the order of the pieces of a cut picture."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import re2

from rewardhub.errors import NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.geometry.reading import answer_text

Measure = Literal["patches", "connections", "exact"]
Grid = tuple[tuple[int, ...], ...]

_MOST, _LONGEST = 400, 20_000
_TOKEN = re2.compile(r"[\pL\pN_.+-]+")

_FOUR = {"grid": [[1, 2], [3, 4]]}
_EXAMPLES = (
    Example("1 2 3 4", _FOUR, 1.0),
    Example("<answer>1 2\n4 3</answer>", _FOUR, 0.5),
    Example("1 2 4 3", _FOUR, 0.25, {"measure": "connections"}),
    Example("1 2 3 4", _FOUR, 1.0, {"measure": "connections"}),
    Example("1 2 4 3", _FOUR, 0.0, {"measure": "exact"}),
    Example("1 2 5 4", _FOUR, 0.0),
    Example("1 2 5 4", _FOUR, 0.0, {"measure": "connections"}),
    Example("1 2 3", _FOUR, 0.0),
    Example("1 1 1 1", _FOUR, 0.0),
    Example("[[1, 2], [3, 4]]", _FOUR, 1.0),
    Example("<answer>one two three four</answer>", _FOUR, 0.0),
    Example("I cannot tell", _FOUR, None, status=Status.NO_ANSWER),
)


@verifier(
    "jigsaw",
    examples=_EXAMPLES,
    libraries=("google-re2",),
    sources=("rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.tags"),
)
def jigsaw(response: Response, reference: Json, *, measure: Measure = "patches") -> Score:
    """The share of pieces in their place, or of right neighbourhoods; ``exact`` is all or nothing.

    Reference: ``grid``, rows of the piece numbers 1…m·n, each once (2 to 400 pieces). A connection is an
    ordered pair, left and right or above and below; an m by n grid has 2mn - m - n of them. The answer
    lists the numbers row by row; a wrong count, a number out of range, a repeated one (which no picture
    has) or another word in a stated answer is 0.0. Jigsaw-R1 (zifuwanggg/Jigsaw-R1).
    """
    grid = _grid(reference)
    text, stated = answer_text(response)
    if len(text) > _LONGEST:
        return Score(0.0, details={"reason": f"over {_LONGEST} characters"})
    tokens = _TOKEN.findall(text)
    if not stated and not any(token.isdecimal() for token in tokens):
        raise NoAnswer("no piece numbers in the response")
    flat = [piece for row in grid for piece in row]
    pieces = [int(token) for token in tokens if token.isdecimal() and len(token) <= 4]
    if len(pieces) != len(tokens) or sorted(pieces) != sorted(flat):
        return Score(0.0, details={"reason": f"not the numbers 1 to {len(flat)}, each once"})
    if measure == "exact":
        return Score(float(pieces == flat))
    if measure == "patches":
        return Score(sum(map(int.__eq__, pieces, flat)) / len(flat))
    width = len(grid[0])
    predicted = [pieces[start : start + width] for start in range(0, len(pieces), width)]
    right = set(_connections(grid))
    return Score(len(right & set(_connections(predicted))) / len(right))


def _grid(reference: Json) -> Grid:
    rows = need(reference, "grid", (list, tuple))
    good = all(isinstance(row, list | tuple) and row and len(row) == len(rows[0]) for row in rows)
    flat = [piece for row in rows for piece in row] if good else []
    whole = all(isinstance(piece, int) and not isinstance(piece, bool) for piece in flat)
    if not 2 <= len(flat) <= _MOST or not whole or sorted(flat) != list(range(1, len(flat) + 1)):
        raise ReferenceUnparseable(
            f"reference.grid must be rows of the numbers 1 to m·n, each once, at most {_MOST}", field="reference.grid"
        )
    return tuple(tuple(row) for row in rows)


def _connections(grid: Sequence[Sequence[int]]) -> Iterator[tuple[str, int, int]]:
    """Every ordered pair of neighbours, with its direction."""
    for row in grid:
        for left, right in pairwise(row):
            yield "right", left, right
    for upper, lower in pairwise(grid):
        for above, below in zip(upper, lower, strict=True):
            yield "down", above, below
