"""``grid_puzzle``: twenty kinds of grid puzzles, checked by their rules."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from rewardhub.errors import ReferenceUnparseable, nearest
from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.geometry.reading import Wrong, answer_text, missing
from rewardhub.verifiers.puzzles import digits, marks, places
from rewardhub.verifiers.puzzles.board import Board, Puzzle, find_boards
from rewardhub.verifiers.puzzles.side import Side

Part = Literal["answer", "perception"]

PUZZLES: Mapping[str, Callable[[Side], Puzzle]] = {
    "aquarium": marks.aquarium,
    "battleships": marks.battleships,
    "binairo": places.binairo,
    "coloredsudoku": digits.coloured_sudoku,
    "fieldexplore": places.field_explore,
    "futoshiki": digits.futoshiki,
    "hitori": places.hitori,
    "jigsawsudoku": digits.jigsaw_sudoku,
    "kakurasu": marks.kakurasu,
    "kakuro": digits.kakuro,
    "killersudoku": digits.killer_sudoku,
    "lightup": places.light_up,
    "nonogram": marks.nonogram,
    "oddevensudoku": digits.odd_even_sudoku,
    "renzoku": digits.renzoku,
    "skyscraper": digits.skyscraper,
    "starbattle": marks.star_battle,
    "sudoku": digits.sudoku,
    "thermometers": marks.thermometers,
    "treesandtents": places.trees_and_tents,
}
"""What reads the reference of each puzzle."""

_SUDOKU = {"puzzle": "sudoku", "givens": [[1, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]]}
_EMPTY = {"puzzle": "sudoku", "size": 4}
_SOLVED = "[[1,2,3,4],[3,4,1,2],[2,1,4,3],[4,3,2,1]]"
_KAKURASU = {"puzzle": "kakurasu", "clues": {"row": [1, 3], "col": [3, 2]}}
_BINAIRO = {"puzzle": "binairo", "size": 4}
_WHITE = "[[w,w,w,b],[b,b,w,w],[w,w,b,b],[b,b,w,b]]"
_HIGH = "[[5,6,7,8],[7,8,5,6],[6,5,8,7],[8,7,6,5]]"
_SIZES = {"left": [0, 0, 2, 0], "right": [0] * 4, "top": [0] * 4, "bottom": [0] * 4}
_SKYLINE = {"puzzle": "skyscraper", "size": 4, "clues": _SIZES}
_SEEN, _SEE = "Perception: [[1,*,*,*],[*,4,*,*],[*,*,4,*],[*,*,*,1]]", {"part": "perception"}
_EXAMPLES = (
    Example(f"<answer>{_SOLVED}</answer>", _SUDOKU, 1.0),
    Example(f"{_SEEN}\nAnswer: {_SOLVED}", _SUDOKU, 1.0),
    Example(f"{_SEEN}\nAnswer: {_HIGH}", _SUDOKU, 1.0, _SEE),
    Example(f"{_SEEN.replace('4', '3')}\nAnswer: {_SOLVED}", _SUDOKU, 0.0, _SEE),
    Example(f"<answer>{_SOLVED}</answer>", _SUDOKU, 0.0, _SEE),
    Example(f"{_SEEN}\nAnswer: {_SOLVED}", _EMPTY, None, _SEE, status=Status.REFERENCE_UNPARSEABLE),
    Example(_SOLVED, _EMPTY, 1.0),
    Example(_HIGH, _EMPTY, 0.0),
    Example("[[0,0,0,0],[0,0,0,0],[0,0,0,0],[0,0,0,0]]", _EMPTY, 0.0),
    Example("[[2,1,3,4],[3,4,1,2],[1,2,4,3],[4,3,2,1]]", _SUDOKU, 0.0),
    Example("[[s,e],[s,s]]", _KAKURASU, 1.0),
    Example("[['s','e'],['e','s']]", _KAKURASU, 0.0),
    Example(_WHITE, _BINAIRO, 0.0),
    Example("[[1,2,3,4],[3,4,1,2],[2,1,4,3],[4,3,2,1]]", _SKYLINE, 1.0),
    Example("<answer>the board is full</answer>", _EMPTY, 0.0),
    Example("I give up", _EMPTY, None, status=Status.NO_ANSWER),
    Example(_SOLVED, {"puzzle": "sudokus"}, None, status=Status.REFERENCE_UNPARSEABLE),
)  # fmt: skip


@verifier(
    "grid_puzzle",
    examples=_EXAMPLES,
    libraries=("google-re2", "scipy"),
    sources=(
        "rewardhub.verifiers.puzzles.board", "rewardhub.verifiers.puzzles.side", "rewardhub.verifiers.puzzles.digits",
        "rewardhub.verifiers.puzzles.marks", "rewardhub.verifiers.puzzles.places",
        "rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.tags",
    ),
)  # fmt: skip
def grid_puzzle(response: Response, reference: Json, *, part: Part = "answer") -> Score:
    """1.0 where the answered board keeps the givens and every rule of its puzzle, else 0.0.

    Reference: ``puzzle``, one of the twenty of VGRP-Bench (ryf1123/VGRP-Bench), and what it shows: ``givens``
    (0 or * is blank) or ``size``, and ``clues {row, col}`` (or left, right, top, bottom for skyscraper),
    ``hints`` (nonogram: runs per row and col; renzoku: 1 for a dot), ``inequalities {row, col}``, ``regions``,
    ``colors``, ``cell_types`` (odd, even), ``cages`` and ``sums`` (``{"sum", "cells"}``, cells as [row, column]
    from 0), ``numbers`` (hitori), ``wall_numbers``, ``thermometers`` (cells from the bulb), ``ships``, ``stars``,
    ``block``, ``unique_lines``. Boards have at most 50 rows and columns.

    The answer is the last two-dimensional array, behind a heading "Answer" or "Solution" where there are
    headings; one behind "Perception" or "Initial State" is compared with the givens. Symbols: numbers,
    ``s`` chosen (star, bulb, ship, mine, water, shaded), ``e`` empty, ``w`` and ``b`` colours, ``w`` wall, ``t``
    tree, ``r`` tent, ``#`` black (kakuro). A blank cell or another symbol breaks "domain", before any rule runs.
    With ``part="perception"`` the value is 1.0 where the perceived board is the given one, whatever is answered.
    Details: ``broken``, the broken rules; ``perception_ok``, None without a perceived board.
    """
    name = need(reference, "puzzle")
    if name not in PUZZLES:
        raise ReferenceUnparseable(f"unknown puzzle {name!r}{nearest(name, PUZZLES)}", field="reference.puzzle")
    puzzle = PUZZLES[name](Side(reference))
    text, stated = answer_text(response)
    perceived, board = find_boards(text)
    seen = _perception(response, puzzle, perceived)
    if part == "perception":
        return _perceived(seen, puzzle)
    try:
        if board is None:
            raise missing("board", stated)
    except Wrong as wrong:
        return wrong.score()
    broken = puzzle.broken(board)
    details: dict[str, Any] = {"broken": broken, "perception_ok": seen}
    if broken:
        details["reason"] = f"broken: {', '.join(broken)}"
    return Score(float(not broken), details=details)


def _perceived(seen: bool | None, puzzle: Puzzle) -> Score:
    if puzzle.givens is None:
        raise ReferenceUnparseable("reference.givens is missing: nothing to perceive", field="reference.givens")
    reason = "no perceived board" if seen is None else "" if seen else "not the given board"
    return Score(float(bool(seen)), details={"reason": reason} if reason else {})


def _perception(response: Response, puzzle: Puzzle, perceived: Board | None) -> bool | None:
    """Whether the perceived board, in the answer or before it, is the given one; None where there is none."""
    seen = perceived
    if seen is None:
        seen, _ = find_boards(response.text)
    if seen is None or puzzle.givens is None:
        return None
    return seen == puzzle.givens or _blanked(seen) == puzzle.givens


def _blanked(board: Board) -> Board:
    return tuple(tuple("*" if cell == "0" else cell for cell in row) for row in board)
