"""Boards: reading them from a response, and walking over them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import re2

Board = tuple[tuple[str, ...], ...]
Cell = tuple[int, int]
Check = Callable[[Board], bool]

BLANKS = frozenset({"", "*", ".", "?", "-", "none", "null"})
"""What stands for a cell that is not filled in."""

MOST = 50
"""Rows and columns of a board."""

_LONGEST = 200_000
_ROW = re2.compile(r"\[([^\[\]]*)\]")
_ARRAY = re2.compile(r"\[\s*(?:\[[^\[\]]*\]\s*,?\s*)+\]")
_HEADING = re2.compile(r"(?i)\b(perception|initial[ _]state|answer|solution)\b")
_ANSWER = frozenset({"answer", "solution"})


@dataclass(frozen=True, slots=True)
class Puzzle:
    """What a solved board must be: its size, the symbols of each cell, the given cells and the rules."""

    rows: int
    columns: int
    symbols: frozenset[str]
    rules: Mapping[str, Check]
    givens: Board | None = None
    shown: frozenset[str] = frozenset()
    """Symbols that are allowed in the given cells only, where they must be repeated."""

    def broken(self, board: Board) -> list[str]:
        """The names of the broken rules; the puzzle's own are checked on boards of legal cells only."""
        if len(board) != self.rows or any(len(row) != self.columns for row in board):
            return ["shape"]
        if not self._legal(board):
            return ["domain"]
        kept = self.givens is None or all(given in (cell, "*") for cell, given in paired(board, self.givens))
        return ([] if kept else ["givens"]) + [name for name, holds in self.rules.items() if not holds(board)]

    def _legal(self, board: Board) -> bool:
        if self.givens is None:
            return all(cell in self.symbols for row in board for cell in row)
        return all(
            cell in self.symbols or (cell == given and cell in self.shown) for cell, given in paired(board, self.givens)
        )


def paired(one: Board, other: Board) -> Iterator[tuple[str, str]]:
    """The cells of two boards of one size, side by side."""
    for row, twin in zip(one, other, strict=True):
        yield from zip(row, twin, strict=True)


def find_boards(text: str) -> tuple[Board | None, Board | None]:
    """The perceived and the answered board: the last array behind a heading of each kind.

    Without a heading the last array is the answer. Linear in the text, of which the end is read.
    """
    text = text[-_LONGEST:]
    headings = [(match.start(), match.group(1).lower() in _ANSWER) for match in _HEADING.finditer(text)]
    perceived = answered = ""
    position, answers = 0, True
    for match in _ARRAY.finditer(text):
        while position < len(headings) and headings[position][0] < match.start():
            answers = headings[position][1]
            position += 1
        board = match.group()
        perceived, answered = (perceived, board) if answers else (board, answered)
    return _cells(perceived), _cells(answered)


def _cells(text: str) -> Board | None:
    if not text:
        return None
    rows = [part.split(",") for part in _ROW.findall(text)[: MOST + 1]]
    return tuple(tuple(symbol(cell) for cell in row[: MOST + 1]) for row in rows)


def symbol(cell: str) -> str:
    """A cell without quotes, blanks and case; ``*`` for a blank one, numbers without leading zeros."""
    name = cell.strip(" \t\r\n\"'").lower()[:20]
    if name in BLANKS:
        return "*"
    return (name.lstrip("0") or "0") if name.isascii() and name.isdigit() else name


def lines(board: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """The rows, then the columns."""
    return [*map(tuple, board), *columns(board)]


def columns(board: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    return list(zip(*board, strict=True))


def cells(board: Board, wanted: str) -> set[Cell]:
    """Where the symbol stands."""
    return {(row, column) for row, line in enumerate(board) for column, cell in enumerate(line) if cell == wanted}


def beside(cell: Cell) -> list[Cell]:
    """The four cells that share an edge, on the board or not."""
    row, column = cell
    return [(row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column)]


def around(cell: Cell) -> list[Cell]:
    """The eight cells that touch, on the board or not."""
    row, column = cell
    return [(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right]


def at(board: Board, where: Iterable[Cell]) -> list[str]:
    return [board[row][column] for row, column in where]


def different(values: Sequence[str]) -> bool:
    return len(set(values)) == len(values)


def connected(where: set[Cell]) -> bool:
    """Whether the cells hang together by edges; no cells do."""
    if not where:
        return True
    seen = {min(where)}
    ahead = list(seen)
    while ahead:
        fresh = (set(beside(ahead.pop())) & where) - seen
        seen |= fresh
        ahead += fresh
    return len(seen) == len(where)


def runs(line: Sequence[str], wanted: str) -> tuple[int, ...]:
    """The lengths of the unbroken stretches of the symbol."""
    text = "".join("x" if cell == wanted else " " for cell in line)
    return tuple(map(len, text.split()))


def touching(where: set[Cell]) -> bool:
    """Whether two of the cells touch, corners included."""
    return any(other in where for cell in where for other in around(cell))


def neighbours(line: Sequence[str]) -> Iterator[tuple[str, str]]:
    return pairwise(line)
