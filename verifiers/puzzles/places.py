"""The puzzles in which things are placed among others: bulbs, tents, mines, shaded cells, stones."""

import numpy as np

from rewardhub.verifiers.puzzles.board import (
    Board,
    Cell,
    Check,
    Puzzle,
    around,
    at,
    beside,
    cells,
    columns,
    connected,
    different,
    lines,
    touching,
)
from rewardhub.verifiers.puzzles.marks import counted
from rewardhub.verifiers.puzzles.side import Side

_MARKS = frozenset("se")


def _givens(side: Side) -> Board:
    found = side.givens()
    if found is None:
        raise side.error("givens", "is missing")
    return found


def binairo(side: Side) -> Puzzle:
    """As many white as black in every line, never three of a colour in a row.

    With ``unique_lines`` of 1 no two rows and no two columns are equal (off by default, as published).
    """
    if side.rows % 2 or side.columns % 2:
        raise side.error("givens", "must have an even number of rows and columns")

    def balanced(views: list[tuple[str, ...]]) -> bool:
        return all(view.count("w") * 2 == len(view) for view in views)

    def no_three(board: Board) -> bool:
        texts = ["".join(line) for line in lines(board)]
        return not any(three in text for text in texts for three in ("www", "bbb"))

    rules: dict[str, Check] = {
        "rows": lambda board: balanced(list(board)),
        "columns": lambda board: balanced(columns(board)),
        "no_three": no_three,
    }
    if side.number("unique_lines", 0):
        rules["unique"] = lambda board: all(len(set(views)) == len(views) for views in (board, columns(board)))
    return Puzzle(side.rows, side.columns, frozenset("wb"), rules, side.givens())


def hitori(side: Side) -> Puzzle:
    """``numbers`` is the printed grid; the answer says which cells are shaded (``s``) or left (``e``)."""
    numbers = side.grid("numbers")

    def no_repeats(board: Board) -> bool:
        views = zip(lines(board), lines(numbers), strict=True)
        left = [[number for mark, number in zip(*view, strict=True) if mark == "e"] for view in views]
        return all(map(different, left))

    def apart(board: Board) -> bool:
        shaded = cells(board, "s")
        return not any(other in shaded for cell in shaded for other in beside(cell))

    rules: dict[str, Check] = {
        "repeats": no_repeats, "apart": apart, "connected": lambda board: connected(cells(board, "e")),
    }  # fmt: skip
    return Puzzle(side.rows, side.columns, _MARKS, rules, side.givens())


def light_up(side: Side) -> Puzzle:
    """``givens`` show the walls (``w``), ``wall_numbers`` their numbers, -1 where a cell has none."""
    givens = _givens(side)
    walls = cells(givens, "w")
    numbers = _wall_numbers(side, walls)

    def numbered(board: Board) -> bool:
        bulbs = cells(board, "s")
        return all(sum(other in bulbs for other in beside(wall)) == number for wall, number in numbers.items())

    def dark(board: Board) -> bool:
        bulbs = cells(board, "s")
        return not any(bulbs & set(_seen(board, bulb)) for bulb in bulbs)

    def lit(board: Board) -> bool:
        bulbs = cells(board, "s")
        return all(bulbs & set(_seen(board, cell)) for cell in cells(board, "e"))

    rules: dict[str, Check] = {"wall_numbers": numbered, "bulbs_apart": dark, "all_lit": lit}
    return Puzzle(side.rows, side.columns, _MARKS, rules, givens, frozenset("w"))


def _wall_numbers(side: Side, walls: set[Cell]) -> dict[Cell, int]:
    numbers = {}
    for row, line in enumerate(side.grid("wall_numbers")):
        for column, name in enumerate(line):
            if name not in ("*", "-1", "0", "1", "2", "3", "4"):
                raise side.error("wall_numbers", "must hold -1 to 4")
            if (row, column) in walls and name.isdecimal():
                numbers[row, column] = int(name)
    return numbers


def _seen(board: Board, cell: Cell) -> list[Cell]:
    """The cells in sight, up to the next wall in each direction."""
    found = []
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        row, column = cell[0] + down, cell[1] + right
        while 0 <= row < len(board) and 0 <= column < len(board[0]) and board[row][column] != "w":
            found.append((row, column))
            row, column = row + down, column + right
    return found


def trees_and_tents(side: Side) -> Puzzle:
    """``givens`` show the trees (``t``); each tent (``r``) belongs to a tree of its own beside it."""
    givens = _givens(side)
    trees = cells(givens, "t")

    def paired(board: Board) -> bool:
        tents = sorted(cells(board, "r"))
        if len(tents) != len(trees):
            return False
        return _matched(np.array([[tree in beside(tent) for tree in sorted(trees)] for tent in tents], dtype=bool))

    rules = counted(side, "r") | {
        "paired": paired,
        "apart": lambda board: not touching(cells(board, "r")),
    }
    return Puzzle(side.rows, side.columns, frozenset("re"), rules, givens, frozenset("t"))


def _matched(near: "np.ndarray[tuple[int, int], np.dtype[np.bool_]]") -> bool:
    """Whether every row can have a column of its own."""
    from scipy.optimize import linear_sum_assignment

    if not near.size:
        return True
    return bool(near[linear_sum_assignment(near, maximize=True)].all())


def field_explore(side: Side) -> Puzzle:
    """``givens`` show the numbers of mines around, 0 too; the answer marks the mines (``s``) in the other cells."""
    givens = side.grid("givens")
    digits = frozenset("012345678")
    numbers = {
        (row, column): int(name)
        for row, line in enumerate(givens)
        for column, name in enumerate(line)
        if name in digits
    }
    rows, wide = side.rows, side.columns

    def counts(board: Board) -> bool:
        def mines(cell: Cell) -> int:
            inside = [(row, column) for row, column in around(cell) if 0 <= row < rows and 0 <= column < wide]
            return at(board, inside).count("s")

        return all(mines(cell) == number for cell, number in numbers.items())

    return Puzzle(rows, wide, _MARKS, {"counts": counts}, givens, digits)
