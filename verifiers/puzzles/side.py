"""The side data of a puzzle's reference: clues, regions, cages. Errors name the field."""

from collections.abc import Mapping
from typing import Any

from rewardhub.errors import ReferenceUnparseable
from rewardhub.types import Json
from rewardhub.verifiers.puzzles.board import MOST, Board, Cell, symbol

_LARGEST = 10**6


class Side:
    """Reads a reference; every method raises ``ReferenceUnparseable`` that names the field."""

    def __init__(self, reference: Json) -> None:
        self._reference = reference
        self.rows, self.columns = self._shape()

    @property
    def square(self) -> int:
        """The length of a side of a square board."""
        if self.rows != self.columns:
            raise self.error("givens", "must be square")
        return self.rows

    def error(self, key: str, why: str) -> ReferenceUnparseable:
        return ReferenceUnparseable(f"reference.{key} {why}", field=f"reference.{key}")

    def has(self, key: str) -> bool:
        return key in self._reference

    def givens(self) -> Board | None:
        """The given cells, ``*`` (also written 0) where the solver fills in; None where there are none."""
        if not self.has("givens"):
            return None
        return tuple(tuple("*" if cell == "0" else cell for cell in row) for row in self.grid("givens"))

    def grid(self, key: str) -> Board:
        """A grid of symbols of the board's size."""
        found = self._table(key)
        if (len(found), len(found[0])) != (self.rows, self.columns):
            raise self.error(key, f"must have {self.rows} rows and {self.columns} columns")
        return found

    def clues(self, key: str, side: str, count: int) -> list[int]:
        """``reference.KEY.SIDE``: so many whole numbers that are not negative."""
        values = self._part(key, side)
        if not isinstance(values, list | tuple) or len(values) != count:
            raise self.error(key, f"must hold {count} numbers in {side}")
        return [self._whole(key, value) for value in values]

    def clue_lists(self, key: str, side: str, count: int) -> list[tuple[int, ...]]:
        """``reference.KEY.SIDE``: so many lists of whole numbers; a zero says the same as an empty list."""
        values = self._part(key, side)
        good = isinstance(values, list | tuple) and len(values) == count
        if not good or not all(isinstance(each, list | tuple) for each in values):
            raise self.error(key, f"must hold {count} lists of numbers in {side}")
        return [tuple(number for value in each if (number := self._whole(key, value))) for each in values]

    def part_grid(self, key: str, side: str, rows: int, columns: int) -> Board:
        """``reference.KEY.SIDE``: a grid of symbols."""
        return self._nested(key, self._part(key, side), rows, columns)

    def paths(self, key: str) -> list[list[Cell]]:
        """Lists of cells of the board, no cell twice."""
        values = self._list(key)
        found = [self._cells(key, each) for each in values]
        self._once(key, [cell for path in found for cell in path])
        return found

    def sums(self, key: str, *, overlap: bool = False) -> list[tuple[int, list[Cell]]]:
        """``{"sum", "cells"}`` objects; each cell in one of them unless they may ``overlap``."""
        found = []
        for each in self._list(key):
            if not isinstance(each, Mapping):
                raise self.error(key, "must be objects with sum and cells")
            found.append((self._whole(key, each.get("sum")), self._cells(key, each.get("cells"))))
        if not overlap:
            self._once(key, [cell for _, group in found for cell in group])
        return found

    def number(self, key: str, default: int) -> int:
        return self._whole(key, self._reference.get(key, default))

    def numbers(self, key: str) -> list[int]:
        return [self._whole(key, value) for value in self._list(key)]

    def regions(self, key: str) -> list[list[Cell]]:
        """The cells of each region of a grid of region names."""
        found: dict[str, list[Cell]] = {}
        for row, line in enumerate(self.grid(key)):
            for column, name in enumerate(line):
                found.setdefault(name, []).append((row, column))
        return list(found.values())

    def _shape(self) -> tuple[int, int]:
        for key in ("givens", "regions", "numbers", "wall_numbers"):
            if self.has(key):
                table = self._table(key)
                return len(table), len(table[0])
        if self.has("size"):
            size = self.number("size", 0)
            rows, columns = size, size
        else:
            key = "hints" if self.has("hints") else "clues"
            rows, columns = (self._length(key, side) for side in ("row", "col"))
        if not (1 <= rows <= MOST and 1 <= columns <= MOST):
            raise self.error("size", f"must be 1 to {MOST}")
        return rows, columns

    def _length(self, key: str, side: str) -> int:
        values = self._part(key, side)
        if not isinstance(values, list | tuple):
            raise self.error(key, f"must hold a list in {side}")
        return len(values)

    def _part(self, key: str, side: str) -> Any:
        value = self._reference.get(key)
        if not isinstance(value, Mapping) or side not in value:
            raise self.error(key, f"must be an object with {side}")
        return value[side]

    def _list(self, key: str) -> list[Any]:
        value = self._reference.get(key)
        if not isinstance(value, list | tuple) or not 0 < len(value) <= MOST * MOST:
            raise self.error(key, "must be a list")
        return list(value)

    def _table(self, key: str) -> Board:
        value = self._reference.get(key)
        rows = len(value) if isinstance(value, list | tuple) else 0
        first = value[0] if rows and isinstance(value, list | tuple) else None
        return self._nested(key, value, rows, len(first) if isinstance(first, list | tuple) else 0)

    def _nested(self, key: str, value: Any, rows: int, columns: int) -> Board:
        good = isinstance(value, list | tuple) and len(value) == rows and 0 <= rows <= MOST and 0 < columns <= MOST
        if not good or not all(isinstance(row, list | tuple) and len(row) == columns for row in value):
            raise self.error(key, f"must be a grid of {rows or 1} by {columns or 1} cells, at most {MOST}")
        return tuple(tuple(self._symbol(key, cell) for cell in row) for row in value)

    def _symbol(self, key: str, cell: Any) -> str:
        if cell is None:
            return "*"
        if not isinstance(cell, str | int):
            raise self.error(key, "must hold texts and whole numbers")
        return symbol(str(cell)[:20])

    def _whole(self, key: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
            raise self.error(key, f"must hold whole numbers from 0 to {_LARGEST}")
        return value

    def _cells(self, key: str, value: Any) -> list[Cell]:
        if not isinstance(value, list | tuple) or not value:
            raise self.error(key, "must hold lists of cells")
        return [self._cell(key, each) for each in value]

    def _cell(self, key: str, value: Any) -> Cell:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise self.error(key, "must hold cells [row, column], counted from 0")
        row, column = self._whole(key, value[0]), self._whole(key, value[1])
        if row >= self.rows or column >= self.columns:
            raise self.error(key, f"holds a cell outside the board: {[row, column]}")
        return row, column

    def _once(self, key: str, found: list[Cell]) -> None:
        if len(set(found)) < len(found):
            raise self.error(key, "holds a cell twice")
