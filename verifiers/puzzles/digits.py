"""The puzzles that are filled with numbers: the Latin family, cages and sums."""

from collections.abc import Callable
from functools import partial
from math import isqrt

from rewardhub.verifiers.puzzles.board import (
    Board,
    Cell,
    Check,
    Puzzle,
    at,
    columns,
    different,
    lines,
    neighbours,
)
from rewardhub.verifiers.puzzles.side import Side

_PARITY = {"odd": 1, "o": 1, "even": 0, "e": 0}


def _latin(side: Side, **rules: Check) -> Puzzle:
    """A square of the numbers 1…n, each once in every row and column, with further rules."""
    size = side.square
    symbols = frozenset(map(str, range(1, size + 1)))
    both: dict[str, Check] = {
        "rows": lambda board: all(map(different, board)),
        "columns": lambda board: all(map(different, columns(board))),
    }
    return Puzzle(size, size, symbols, both | rules, side.givens())


def _distinct(groups: list[list[Cell]], board: Board) -> bool:
    return all(different(at(board, group)) for group in groups)


def _blocks(side: Side) -> list[list[Cell]]:
    """The blocks of a sudoku: ``block`` is [rows, columns], by default the root of the size."""
    size = side.square
    high, wide = side.numbers("block") if side.has("block") else [isqrt(size)] * 2
    if high * wide != size or size == 1:
        raise side.error("block", f"must be rows and columns of a block with {size} cells")
    corners = [(row, column) for row in range(0, size, high) for column in range(0, size, wide)]
    return [[(top + row, left + column) for row in range(high) for column in range(wide)] for top, left in corners]


def sudoku(side: Side) -> Puzzle:
    return _latin(side, blocks=partial(_distinct, _blocks(side)))


def coloured_sudoku(side: Side) -> Puzzle:
    return _latin(side, colors=partial(_distinct, side.regions("colors")))


def jigsaw_sudoku(side: Side) -> Puzzle:
    return _latin(side, regions=partial(_distinct, side.regions("regions")))


def odd_even_sudoku(side: Side) -> Puzzle:
    kinds = side.grid("cell_types")
    if any(kind not in _PARITY and kind != "*" for row in kinds for kind in row):
        raise side.error("cell_types", "must hold odd, even or *")

    def parity(board: Board) -> bool:
        return all(
            kind == "*" or int(cell) % 2 == _PARITY[kind]
            for row, wanted in zip(board, kinds, strict=True)
            for cell, kind in zip(row, wanted, strict=True)
        )

    return _latin(side, blocks=partial(_distinct, _blocks(side)), parity=parity)


def _total(board: Board, group: list[Cell]) -> int:
    return sum(int(cell) for cell in at(board, group) if cell != "#")


def killer_sudoku(side: Side) -> Puzzle:
    cages = side.sums("cages")
    return _latin(
        side,
        blocks=partial(_distinct, _blocks(side)),
        cage_sums=lambda board: all(_total(board, group) == total for total, group in cages),
        cage_repeats=partial(_distinct, [group for _, group in cages]),
    )


def kakuro(side: Side) -> Puzzle:
    """Cells in no sum are black and hold ``#``."""
    sums = side.sums("sums", overlap=True)
    white = {cell for _, group in sums for cell in group}

    def black(board: Board) -> bool:
        return all(
            (cell == "#") != ((row, column) in white)
            for row, line in enumerate(board)
            for column, cell in enumerate(line)
        )

    rules: dict[str, Check] = {
        "black": black,
        "sums": lambda board: all(_total(board, group) == total for total, group in sums),
        "repeats": partial(_distinct, [group for _, group in sums]),
    }  # fmt: skip
    symbols = frozenset([*map(str, range(1, 10)), "#"])
    return Puzzle(side.rows, side.columns, symbols, rules, side.givens())


_SIGNS: dict[str, Callable[[int, int], bool]] = {
    "<": int.__lt__, ">": int.__gt__, "^": int.__lt__, "v": int.__gt__, "*": lambda _one, _other: True,
}  # fmt: skip


def _between(side: Side, key: str) -> tuple[Board, Board]:
    """What stands between the columns of each row, and, transposed, between the rows of each column."""
    size = side.square
    if size < 2:
        raise side.error(key, "needs a board of two rows at least")
    across = side.part_grid(key, "row", size, size - 1)
    return across, tuple(columns(side.part_grid(key, "col", size - 1, size)))


def futoshiki(side: Side) -> Puzzle:
    marks = [mark for board in _between(side, "inequalities") for mark in board]
    if any(sign not in _SIGNS for mark in marks for sign in mark):
        raise side.error("inequalities", "must hold < > in row, ^ v in col, or *")

    def inequalities(board: Board) -> bool:
        return all(
            _SIGNS[sign](int(one), int(other))
            for line, mark in zip(lines(board), marks, strict=True)
            for sign, (one, other) in zip(mark, neighbours(line), strict=True)
        )

    return _latin(side, inequalities=inequalities)


def renzoku(side: Side) -> Puzzle:
    """A dot stands between two cells if and only if their numbers are consecutive."""
    dots = [line for board in _between(side, "hints") for line in board]
    if any(dot not in ("1", "0", "*") for line in dots for dot in line):
        raise side.error("hints", "must hold 1 for a dot, 0 for none")

    def consecutive(board: Board) -> bool:
        return all(
            (abs(int(one) - int(other)) == 1) == (dot == "1")
            for line, marks in zip(lines(board), dots, strict=True)
            for dot, (one, other) in zip(marks, neighbours(line), strict=True)
        )

    return _latin(side, dots=consecutive)


def visible(line: tuple[str, ...]) -> int:
    """How many buildings are seen from the beginning of the line."""
    highest = seen = 0
    for height in map(int, line):
        if height > highest:
            highest, seen = height, seen + 1
    return seen


def skyscraper(side: Side) -> Puzzle:
    """A clue of 0 is none."""
    size = side.square
    clues = {name: side.clues("clues", name, size) for name in ("left", "right", "top", "bottom")}

    def seen(name: str, board: Board) -> bool:
        views = list(board) if name in ("left", "right") else columns(board)
        ahead = views if name in ("left", "top") else [view[::-1] for view in views]
        return all(clue in (0, visible(tuple(view))) for clue, view in zip(clues[name], ahead, strict=True))

    return _latin(side, **{name: partial(seen, name) for name in clues})
