"""The puzzles in which cells are chosen line by line: ``s`` is chosen, ``e`` empty."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from rewardhub.verifiers.puzzles.board import Board, Cell, Check, Puzzle, at, cells, columns, runs, touching
from rewardhub.verifiers.puzzles.side import Side

_MARKS = frozenset("se")


def _marked(side: Side, rules: dict[str, Check]) -> Puzzle:
    return Puzzle(side.rows, side.columns, _MARKS, rules, side.givens())


def counted(side: Side, wanted: str = "s") -> dict[str, Check]:
    """The rules that each row and column holds as many of the symbol as its clue says."""
    across, down = side.clues("clues", "row", side.rows), side.clues("clues", "col", side.columns)

    def agree(views: Sequence[Sequence[str]], clues: list[int]) -> bool:
        return all(tuple(view).count(wanted) == clue for view, clue in zip(views, clues, strict=True))

    return {
        "row_clues": lambda board: agree(board, across),
        "column_clues": lambda board: agree(columns(board), down),
    }


def kakurasu(side: Side) -> Puzzle:
    """A chosen cell weighs its position in the line, counted from 1."""
    across, down = side.clues("clues", "row", side.rows), side.clues("clues", "col", side.columns)

    def weigh(views: Sequence[Sequence[str]], clues: list[int]) -> bool:
        weights = [sum(place for place, cell in enumerate(view, 1) if cell == "s") for view in views]
        return weights == clues

    return _marked(
        side, {"row_sums": lambda board: weigh(board, across), "column_sums": lambda board: weigh(columns(board), down)}
    )


def nonogram(side: Side) -> Puzzle:
    across, down = side.clue_lists("hints", "row", side.rows), side.clue_lists("hints", "col", side.columns)
    return _marked(
        side,
        {
            "row_runs": lambda board: [runs(line, "s") for line in board] == across,
            "column_runs": lambda board: [runs(line, "s") for line in columns(board)] == down,
        },
    )


def thermometers(side: Side) -> Puzzle:
    """Each thermometer is a path from its bulb; mercury fills it without a gap from there."""
    paths = side.paths("thermometers")
    inside = {cell for path in paths for cell in path}

    def filled(board: Board) -> bool:
        levels = ["".join(at(board, path)) for path in paths]
        return all("es" not in level for level in levels)

    def contained(board: Board) -> bool:
        return cells(board, "s") <= inside

    return _marked(side, counted(side) | {"bulb_first": filled, "inside": contained})


def aquarium(side: Side) -> Puzzle:
    """Water stands at one level in each region: a row of it is full or dry, and below water is water."""
    regions = [_by_row(region) for region in side.regions("regions")]

    def level(board: Board) -> bool:
        return all(all(len(set(at(board, row))) == 1 for row in region) for region in regions)

    def settled(board: Board) -> bool:
        return all(
            "s" not in at(board, upper) or "e" not in at(board, lower)
            for region in regions
            for upper, lower in pairwise(region)
        )

    return _marked(side, counted(side) | {"level": level, "settled": settled})


def _by_row(region: list[Cell]) -> list[list[Cell]]:
    rows = sorted({row for row, _ in region})
    return [[cell for cell in region if cell[0] == row] for row in rows]


def battleships(side: Side) -> Puzzle:
    """``ships`` are the lengths of the fleet; ships are straight and do not touch."""
    fleet = Counter(side.numbers("ships"))

    def straight(board: Board) -> bool:
        ships = _ships(cells(board, "s"))
        return all(len({row for row, _ in ship}) == 1 or len({column for _, column in ship}) == 1 for ship in ships)

    def apart(board: Board) -> bool:
        chosen = cells(board, "s")
        return not any(
            other in chosen and not _bent(chosen, (row, column), other)
            for row, column in chosen
            for other in ((row + 1, column + 1), (row + 1, column - 1))
        )

    def complete(board: Board) -> bool:
        return Counter(map(len, _ships(cells(board, "s")))) == fleet

    return _marked(side, counted(side) | {"straight": straight, "apart": apart, "fleet": complete})


def _bent(chosen: set[Cell], one: Cell, other: Cell) -> bool:
    """Whether two cells that share a corner belong to one bent ship, which ``straight`` refuses."""
    return (one[0], other[1]) in chosen or (other[0], one[1]) in chosen


def _ships(where: set[Cell]) -> list[set[Cell]]:
    """The cells that hang together by edges, ship by ship."""
    left, ships = set(where), []
    while left:
        ship, ahead = set(), [left.pop()]
        while ahead:
            row, column = ahead.pop()
            ship.add((row, column))
            fresh = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)} & left
            left -= fresh
            ahead += fresh
        ships.append(ship)
    return ships


def star_battle(side: Side) -> Puzzle:
    """``stars`` (1 by default) in every row, column and region; no two touch."""
    regions, stars = side.regions("regions"), side.number("stars", 1)

    def agree(views: Sequence[Sequence[str]]) -> bool:
        return all(tuple(view).count("s") == stars for view in views)

    return _marked(
        side,
        {
            "rows": agree,
            "columns": lambda board: agree(columns(board)),
            "regions": lambda board: agree([at(board, region) for region in regions]),
            "apart": lambda board: not touching(cells(board, "s")),
        },
    )
