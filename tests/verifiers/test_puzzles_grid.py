"""``grid_puzzle``: for each of the twenty a generated solution scores 1, and each rule broken alone scores 0."""

import copy
import itertools
import json
import random
import time

import pytest

from rewardhub.types import Group, Response, Score, Status
from rewardhub.verifiers.grid_puzzle import PUZZLES, grid_puzzle
from rewardhub.verifiers.puzzles.board import find_boards
from rewardhub.verifiers.puzzles.digits import visible
from rewardhub.verifiers.puzzles.side import Side


def score(board, reference: dict, form="<answer>{}</answer>") -> Score:
    """The score of a board, written as JSON."""
    group = Group("g", responses=(Response(form.format(json.dumps(board))),), reference=reference)
    return grid_puzzle.bind({}).score(group, [0]).row(0)


def broken(board, reference: dict) -> list[str]:
    """The broken rules of a board that is scored 0, else an empty list."""
    found = score(board, reference)
    assert found.status is Status.OK, found.details
    assert found.value == float(not found.details["broken"])
    return found.details["broken"]


# Generators: a solved board and the reference it solves, from a seed.


def latin(rng, size: int, blocks: bool) -> list[list[int]]:
    """A random Latin square; with the blocks of a sudoku too."""
    high = int(size**0.5)
    shift = [(row % high) * high + row // high for row in range(size)] if blocks else list(range(size))
    numbers = rng.sample(range(1, size + 1), size)
    return [[numbers[(shift[row] + column) % size] for column in range(size)] for row in range(size)]


def some(rng, board, blank=0, share=0.4):
    """The board with a share of its cells left."""
    return [[cell if rng.random() < share else blank for cell in row] for row in board]


def regions_of(rng, rows, columns, wanted):
    """A grid of region names, each region a connected set of cells."""
    seeds = rng.sample([(row, column) for row in range(rows) for column in range(columns)], wanted)
    grid = {cell: index for index, cell in enumerate(seeds)}
    while len(grid) < rows * columns:
        row, column = rng.choice(sorted(grid))
        down, right = rng.choice([(0, 1), (1, 0), (0, -1), (-1, 0)])
        cell = (row + down, column + right)
        if 0 <= cell[0] < rows and 0 <= cell[1] < columns:
            grid.setdefault(cell, grid[row, column])
    return [[grid[row, column] for column in range(columns)] for row in range(rows)]


def marks(rng, rows, columns, share=0.5):
    return [["s" if rng.random() < share else "e" for _ in range(columns)] for _ in range(rows)]


def turned(board):
    return [list(column) for column in zip(*board, strict=True)]


def counts(board, symbol="s"):
    return {"row": [row.count(symbol) for row in board], "col": [row.count(symbol) for row in turned(board)]}


def sudoku(rng):
    board = latin(rng, 4, True)
    return board, {"puzzle": "sudoku", "givens": some(rng, board)}


def coloredsudoku(rng):
    board = latin(rng, 4, False)
    # Each colour holds every number once: the cells of colour k stand where a number moved by k would.
    order = [2, 0, 3, 1]
    colors = [[(board[row][column] + order[row]) % 4 for column in range(4)] for row in range(4)]
    return board, {"puzzle": "coloredsudoku", "givens": some(rng, board), "colors": colors}


def jigsawsudoku(rng):
    board, reference = coloredsudoku(rng)
    return board, {"puzzle": "jigsawsudoku", "givens": reference["givens"], "regions": reference["colors"]}


def oddevensudoku(rng):
    board = latin(rng, 4, True)
    kinds = [["odd" if cell % 2 else "even" for cell in row] for row in board]
    return board, {"puzzle": "oddevensudoku", "givens": some(rng, board), "cell_types": some(rng, kinds, "*", 0.7)}


def killersudoku(rng):
    board = latin(rng, 9, True)
    pairs = [[[row, 3 * index], [row, 3 * index + 1]] for row in range(9) for index in range(3)]
    cages = [{"sum": sum(board[r][c] for r, c in cells), "cells": cells} for cells in pairs]
    return board, {"puzzle": "killersudoku", "size": 9, "cages": cages}


def futoshiki(rng):
    board = latin(rng, 4, False)
    across = [["<" if one < two else ">" for one, two in itertools.pairwise(row)] for row in board]
    down = turned([["^" if one < two else "v" for one, two in itertools.pairwise(row)] for row in turned(board)])
    side = {"row": some(rng, across, "", 0.6), "col": some(rng, down, "*", 0.6)}
    return board, {"puzzle": "futoshiki", "givens": some(rng, board), "inequalities": side}


def renzoku(rng):
    board = latin(rng, 4, False)
    across = [[int(abs(one - two) == 1) for one, two in itertools.pairwise(row)] for row in board]
    down = turned([[int(abs(one - two) == 1) for one, two in itertools.pairwise(row)] for row in turned(board)])
    return board, {"puzzle": "renzoku", "givens": some(rng, board), "hints": {"row": across, "col": down}}


def skyscraper(rng):
    board = latin(rng, 4, False)
    rows, cols = [list(map(str, row)) for row in board], [list(map(str, row)) for row in turned(board)]
    clues = {"left": [visible(row) for row in rows], "right": [visible(row[::-1]) for row in rows]}
    clues |= {"top": [visible(row) for row in cols], "bottom": [visible(row[::-1]) for row in cols]}
    return board, {"puzzle": "skyscraper", "givens": some(rng, board, share=0.2), "clues": clues}


def kakuro(rng):
    rows = [rng.sample(range(1, 10), 3), None]
    rows[1] = rng.choice(
        [
            each
            for each in itertools.permutations(range(1, 10), 3)
            if all(one != two for one, two in zip(rows[0], each, strict=True))
        ]
    )
    board = [["#"] * 4, ["#", *rows[0]], ["#", *rows[1]]]
    groups = [[[row, column] for column in (1, 2, 3)] for row in (1, 2)]
    groups += [[[1, column], [2, column]] for column in (1, 2, 3)]
    sums = [{"sum": sum(board[r][c] for r, c in cells), "cells": cells} for cells in groups]
    return board, {"puzzle": "kakuro", "givens": [["#"] * 4, ["#", 0, 0, 0], ["#", 0, 0, 0]], "sums": sums}


def kakurasu(rng):
    board = marks(rng, 4, 5)
    weigh = lambda views: [sum(place for place, cell in enumerate(view, 1) if cell == "s") for view in views]  # noqa: E731
    return board, {"puzzle": "kakurasu", "clues": {"row": weigh(board), "col": weigh(turned(board))}}


def nonogram(rng):
    board = marks(rng, 5, 4, 0.6)
    lengths = lambda views: [[len(part) for part in "".join(view).split("e") if part] or [0] for view in views]  # noqa: E731
    return board, {"puzzle": "nonogram", "hints": {"row": lengths(board), "col": lengths(turned(board))}}


def thermometers(rng):
    paths = [[[row, column] for column in (range(4) if row % 2 else range(3, -1, -1))] for row in range(4)]
    board = [["e"] * 5 for _ in range(4)]
    for path in paths:
        for row, column in path[: rng.randint(1, 3)]:
            board[row][column] = "s"
    return board, {
        "puzzle": "thermometers",
        "size": 4,
        "clues": counts(board),
        "thermometers": paths,
        "givens": [["*"] * 5] * 4,
    }


def aquarium(rng):
    regions = regions_of(rng, 5, 5, 5)
    levels = {name: rng.randint(0, 5) for name in range(5)}
    board = [["s" if row >= levels[name] else "e" for name in line] for row, line in enumerate(regions)]
    return board, {"puzzle": "aquarium", "regions": regions, "clues": counts(board)}


def battleships(rng):
    board = [["e"] * 6 for _ in range(6)]
    ships = []
    for row in (0, 2, 4):
        length = rng.randint(1, 3)
        begin = rng.randint(0, 6 - length)
        board[row][begin : begin + length] = ["s"] * length
        ships.append(length)
    if rng.random() < 0.5:
        board = turned(board)
    return board, {"puzzle": "battleships", "clues": counts(board), "ships": ships}


def starbattle(rng):
    places = rng.choice(
        [
            each
            for each in itertools.permutations(range(5))
            if all(abs(one - two) > 1 for one, two in itertools.pairwise(each))
        ]
    )
    board = [["s" if column == places[row] else "e" for column in range(5)] for row in range(5)]
    regions = [[row] * 5 for row in range(5)]
    for row in range(4):  # a corner of each row belongs to the next region, where no star stands
        column = rng.choice([each for each in range(5) if each != places[row]])
        regions[row][column] = row + 1
    return board, {"puzzle": "starbattle", "regions": regions}


def binairo(rng):
    lines = [list(each) for each in ("wwbb", "wbwb", "bwbw", "bbww", "wbbw", "bwwb")]
    while True:
        board = [rng.choice(lines) for _ in range(4)]
        if all(column in lines for column in turned(board)):
            return board, {"puzzle": "binairo", "givens": some(rng, board, "*", 0.3)}


def hitori(rng):
    numbers = latin(rng, 5, False)
    board = [["e"] * 5 for _ in range(5)]
    for row, column in ((0, 0), (2, 2), (4, 4)):
        board[row][column] = "s"
        numbers[row][column] = numbers[row][(column + 1) % 5]
    return board, {"puzzle": "hitori", "numbers": numbers}


def lightup(rng):
    board = [["w" if rng.random() < 0.25 else "e" for _ in range(5)] for _ in range(5)]
    walls = [["w" if cell == "w" else "*" for cell in row] for row in board]
    dark = {(row, column) for row in range(5) for column in range(5) if board[row][column] == "e"}
    while dark:  # a bulb in any cell that no bulb lights yet sees no other
        row, column = rng.choice(sorted(dark))
        board[row][column] = "s"
        dark.discard((row, column))
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            r, c = row + down, column + right
            while 0 <= r < 5 and 0 <= c < 5 and board[r][c] != "w":
                dark.discard((r, c))
                r, c = r + down, c + right
    bulbs = lambda r, c: sum(  # noqa: E731
        board[a][b] == "s"
        for a, b in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1))  # noqa: E731
        if 0 <= a < 5 and 0 <= b < 5
    )
    numbers = [[bulbs(r, c) if board[r][c] == "w" and rng.random() < 0.7 else -1 for c in range(5)] for r in range(5)]
    return board, {"puzzle": "lightup", "givens": walls, "wall_numbers": numbers}


def treesandtents(rng):
    board = [["e"] * 6 for _ in range(6)]
    for _ in range(30):
        row, column = rng.randrange(6), rng.randrange(6)
        down, right = rng.choice([(0, 1), (1, 0), (0, -1), (-1, 0)])
        near = [(row + a, column + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        inside = 0 <= row + down < 6 and 0 <= column + right < 6
        tents = any(board[r][c] == "r" for r, c in near if 0 <= r < 6 and 0 <= c < 6)
        if inside and not tents and board[row][column] == board[row + down][column + right] == "e":
            board[row][column], board[row + down][column + right] = "r", "t"
    givens = [["t" if cell == "t" else "*" for cell in row] for row in board]
    return board, {"puzzle": "treesandtents", "givens": givens, "clues": counts(board, "r")}


def fieldexplore(rng):
    mines = {(rng.randrange(4), rng.randrange(4)) for _ in range(4)}
    board, givens = [["e"] * 4 for _ in range(4)], [["*"] * 4 for _ in range(4)]
    for row, column in itertools.product(range(4), range(4)):
        near = sum((row + a, column + b) in mines for a in (-1, 0, 1) for b in (-1, 0, 1))
        if (row, column) in mines:
            board[row][column] = "s"
        elif rng.random() < 0.6:
            board[row][column] = givens[row][column] = near
    return board, {"puzzle": "fieldexplore", "givens": givens}


GENERATORS = {name: globals()[name] for name in PUZZLES}

# Per puzzle: every rule beside shape, domain and givens.
RULES = {name: list(PUZZLES[name](Side(GENERATORS[name](random.Random(0))[1])).rules) for name in PUZZLES}


@pytest.mark.parametrize("name", PUZZLES)
@pytest.mark.parametrize("seed", range(10))
def test_generated_solutions_score_one(name, seed):
    """A solution of a random puzzle, as JSON, scores 1 and breaks nothing."""
    board, reference = GENERATORS[name](random.Random(seed))
    assert broken(board, reference) == []


@pytest.mark.parametrize("name", PUZZLES)
def test_foreign_symbols_score_zero(name):
    """Each cell in turn holds a symbol that the puzzle does not have, or is blank: 0, before any rule runs."""
    board, reference = GENERATORS[name](random.Random(1))
    for row, column in itertools.product(range(len(board)), range(len(board[0]))):
        for foreign in ("x", 77, -1, "*", "", None, "s e"):
            wrong = copy.deepcopy(board)
            wrong[row][column] = foreign
            assert broken(wrong, reference) == ["domain"]


@pytest.mark.parametrize("name", PUZZLES)
def test_wrong_shapes_score_zero(name):
    """A row more, a row less, a ragged row, a board of one cell."""
    board, reference = GENERATORS[name](random.Random(2))
    for wrong in (board[:-1], [*board, board[0]], [*board[:-1], board[-1][:-1]], [["s"]], [row * 2 for row in board]):
        assert broken(wrong, reference) == ["shape"]


def mutations(rng, board):
    """Boards that differ from this one in a few cells, or by an exchange of two rows."""
    symbols = sorted({cell for row in board for cell in row} - {"w", "t"}, key=str)
    while True:
        wrong = copy.deepcopy(board)
        if rng.random() < 0.3:
            one, two = rng.sample(range(len(board)), 2)
            wrong[one], wrong[two] = wrong[two], wrong[one]
        for _ in range(rng.randint(0, 3)):
            row, column = rng.randrange(len(board)), rng.randrange(len(board[0]))
            wrong[row][column] = rng.choice(symbols)
        yield wrong


def altered(rng, reference, board):
    """The reference with its clues counted on this board, and perhaps one number of its side data changed."""
    wrong = copy.deepcopy(reference)
    if "row" in wrong.get("clues", {}) and wrong["puzzle"] != "kakurasu" and rng.random() < 0.5:
        wrong["clues"] = counts(board, "r" if wrong["puzzle"] == "treesandtents" else "s")
    keys = [key for key in wrong if key not in ("puzzle", "givens", "size", "block")]
    if not keys or rng.random() < 0.5:
        return wrong
    place = wrong[rng.choice(keys)]
    while isinstance(place, (list, dict)):
        parent, index = place, rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        place = place[index]
    if isinstance(place, int):
        parent[index] = max(0, place + rng.choice((-1, 1)))
    return wrong


SEARCHED = ["aquarium", "fieldexplore", "hitori", "kakurasu", "lightup", "nonogram", "thermometers", "treesandtents"]  # fmt: skip


@pytest.mark.parametrize("name", SEARCHED)
def test_each_rule_is_broken_alone(name):
    """For every rule a search finds a board and clues with which only that rule is broken; it scores 0."""
    rng = random.Random(5)
    left = set(RULES[name])
    for _ in range(400):
        solved, reference = GENERATORS[name](rng)
        for board in [solved, *itertools.islice(mutations(rng, solved), 10)]:
            found = score(board, altered(rng, reference, board))
            if found.status is Status.OK and len(found.details["broken"]) == 1:
                assert found.value == 0.0
                left -= set(found.details["broken"])
        if not left:
            return
    assert left == set()


def swapped(board, one, two):
    wrong = copy.deepcopy(board)
    wrong[one[0]][one[1]], wrong[two[0]][two[1]] = board[two[0]][two[1]], board[one[0]][one[1]]
    return wrong


def groups_for(board):
    """A grid of group names in which every group holds each number once, for a board with n of each number."""
    seen = dict.fromkeys(range(1, 10), 0)
    names = [[0] * len(board) for _ in board]
    for row, column in itertools.product(range(len(board)), repeat=2):
        number = board[row][column]
        names[row][column], seen[number] = seen[number], seen[number] + 1
    return names


def latin_reference(name, board):
    """Side data that this board satisfies, whether it is a Latin square or not."""
    size = len(board)
    across = [list(itertools.pairwise(row)) for row in board]
    down = [list(itertools.pairwise(row)) for row in turned(board)]
    rows, cols = [list(map(str, row)) for row in board], [list(map(str, row)) for row in turned(board)]
    sign = lambda pairs, less, more: [["*" if a == b else less if a < b else more for a, b in row] for row in pairs]  # noqa: E731
    dots = lambda pairs: [[int(abs(a - b) == 1) for a, b in row] for row in pairs]  # noqa: E731
    side = {
        "coloredsudoku": {"colors": groups_for(board)},
        "jigsawsudoku": {"regions": groups_for(board)},
        "oddevensudoku": {"cell_types": [["odd" if cell % 2 else "even" for cell in row] for row in board]},
        "killersudoku": {"cages": [{"sum": board[3][0] + board[3][1], "cells": [[3, 0], [3, 1]]}]},
        "futoshiki": {"inequalities": {"row": sign(across, "<", ">"), "col": turned(sign(down, "^", "v"))}},
        "renzoku": {"hints": {"row": dots(across), "col": turned(dots(down))}},
        "skyscraper": {"clues": {
            "left": [visible(row) for row in rows], "right": [visible(row[::-1]) for row in rows],
            "top": [visible(row) for row in cols], "bottom": [visible(row[::-1]) for row in cols]}},
    }  # fmt: skip
    return {"puzzle": name, "givens": [["*"] * size for _ in board]} | side.get(name, {})


LATIN = [
    "sudoku",
    "coloredsudoku",
    "jigsawsudoku",
    "oddevensudoku",
    "killersudoku",
    "futoshiki",
    "renzoku",
    "skyscraper",
]
CYCLIC = [[(row + column) % 4 + 1 for column in range(4)] for row in range(4)]


@pytest.mark.parametrize("name", LATIN)
def test_rows_columns_and_givens_broken_alone(name):
    """Two cells of a column, of a row exchanged inside a block; a given that is not kept."""
    board = latin(random.Random(3), 4, True)
    rows, columns = swapped(board, (0, 0), (1, 0)), swapped(board, (0, 0), (0, 1))
    assert broken(rows, latin_reference(name, rows)) == ["rows"]
    assert broken(columns, latin_reference(name, columns)) == ["columns"]
    kept = latin_reference(name, board)
    assert broken(board, kept) == []
    kept["givens"][2][2] = board[2][2] % 4 + 1
    assert broken(board, kept) == ["givens"]


@pytest.mark.parametrize("name", ["sudoku", "oddevensudoku", "killersudoku"])
def test_blocks_broken_alone(name):
    """A cyclic Latin square is no sudoku."""
    assert broken(CYCLIC, latin_reference(name, CYCLIC)) == ["blocks"]


def test_side_rules_of_the_latin_family_broken_alone():
    """One colour, region, parity, cage, sign, dot or clue changed under a solved board."""
    board = latin(random.Random(4), 4, True)
    for name, key in (("coloredsudoku", "colors"), ("jigsawsudoku", "regions")):
        reference = latin_reference(name, board)
        reference[key] = swapped(reference[key], *_different_groups(board, reference[key]))
        assert broken(board, reference) == [key]
    parity = latin_reference("oddevensudoku", board)
    parity["cell_types"][1][1] = "even" if board[1][1] % 2 else "odd"
    assert broken(board, parity) == ["parity"]
    cages = latin_reference("killersudoku", board)
    cages["cages"][0]["sum"] += 1
    assert broken(board, cages) == ["cage_sums"]
    twin = next([row, board[row].index(board[0][0])] for row in (2, 3) if board[row].index(board[0][0]) > 1)
    cages["cages"] = [{"sum": 2 * board[0][0], "cells": [[0, 0], twin]}]
    assert broken(board, cages) == ["cage_repeats"]
    signs = latin_reference("futoshiki", board)
    signs["inequalities"]["row"][0][0] = "<" if signs["inequalities"]["row"][0][0] == ">" else ">"
    assert broken(board, signs) == ["inequalities"]
    dots = latin_reference("renzoku", board)
    dots["hints"]["col"][0][0] ^= 1
    assert broken(board, dots) == ["dots"]
    for side in ("left", "right", "top", "bottom"):
        clues = latin_reference("skyscraper", board)
        clues["clues"][side][0] = clues["clues"][side][0] % 4 + 1
        assert broken(board, clues) == [side]
        clues["clues"][side][0] = 0
        assert broken(board, clues) == []


def _different_groups(board, groups):
    """Two cells of different numbers and groups."""
    cells = list(itertools.product(range(4), repeat=2))
    return next(
        (one, two) for one in cells for two in cells
        if board[one[0]][one[1]] != board[two[0]][two[1]] and groups[one[0]][one[1]] != groups[two[0]][two[1]]
    )  # fmt: skip


def test_kakuro_rules_broken_alone():
    """A digit in a black cell, a wrong sum, a repeated digit, a given that is not kept."""
    board, reference = kakuro(random.Random(1))
    assert broken(board, reference) == []
    free = {key: value for key, value in reference.items() if key != "givens"} | {"givens": [["*"] * 4] * 3}
    assert broken([[1, "#", "#", "#"], *board[1:]], free) == ["black"]
    assert broken([[1, "#", "#", "#"], *board[1:]], reference) == ["givens", "black"]
    wrong = copy.deepcopy(reference)
    wrong["sums"][0]["sum"] += 1
    assert broken(board, wrong) == ["sums"]
    kept = reference | {"givens": [["#"] * 4, ["#", board[1][1] % 9 + 1, 0, 0], ["#", 0, 0, 0]]}
    assert broken(board, kept) == ["givens"]
    sums = [{"sum": total, "cells": cells} for total, cells in ((4, [[0, 0], [0, 1]]), (4, [[1, 0], [1, 1]]))]
    assert broken([[2, 2], [1, 3]], {"puzzle": "kakuro", "size": 2, "sums": sums}) == ["repeats"]


def test_binairo_rules_broken_alone():
    """A row and a column out of balance, three of a colour in a row, a given that is not kept."""
    rows = [list("wwbw"), list("bbwb"), list("wbwb"), list("bwbw")]
    assert broken(rows, {"puzzle": "binairo", "size": 4}) == ["rows"]
    assert broken(turned(rows), {"puzzle": "binairo", "size": 4}) == ["columns"]
    three = [list("wwwbbb"), list("bbbwww")]
    assert broken(three, {"puzzle": "binairo", "givens": [["*"] * 6] * 2}) == ["no_three"]
    board, reference = binairo(random.Random(0))
    reference["givens"][0][0] = "w" if board[0][0] == "b" else "b"
    assert broken(board, reference) == ["givens"]


def fleet(text):
    """A board drawn in lines, and its clues with the lengths of its ships as given."""
    board = [list(line) for line in text.split()]
    return board, {"puzzle": "battleships", "clues": counts(board)}


def test_battleships_rules_broken_alone():
    """A bent ship, ships that touch at a corner, another fleet, a wrong count."""
    board, reference = fleet("sse see eee")
    assert broken(board, reference | {"ships": [3]}) == ["straight"]
    board, reference = fleet("see ese eee")
    assert broken(board, reference | {"ships": [1, 1]}) == ["apart"]
    board, reference = fleet("sse eee ees")
    assert broken(board, reference | {"ships": [2, 1]}) == []
    assert broken(board, reference | {"ships": [1, 1, 1]}) == ["fleet"]
    for side, rule in (("row", "row_clues"), ("col", "column_clues")):
        wrong = copy.deepcopy(reference | {"ships": [2, 1]})
        wrong["clues"][side][0] += 1
        assert broken(board, wrong) == [rule]


def test_starbattle_rules_broken_alone():
    """Two stars in a row, in a column, in a region; two stars that touch at a corner."""
    lines = [list(line) for line in "sesee eeeee eeees eeeee esese".split()]
    upright = {"puzzle": "starbattle", "regions": [list(range(5))] * 5}
    flat = {"puzzle": "starbattle", "regions": turned(upright["regions"])}
    assert broken(lines, upright) == ["rows"]
    assert broken(turned(lines), flat) == ["columns"]
    board, _ = starbattle(random.Random(0))
    assert broken(board, flat) == []
    joined = [[0] * 5, [0] * 5, [1] * 5, [2] * 5, [3] * 5]
    assert broken(board, {"puzzle": "starbattle", "regions": joined}) == ["regions"]
    assert broken([["s", "e"], ["e", "s"]], {"puzzle": "starbattle", "regions": [[0, 0], [1, 1]]}) == ["apart"]


@pytest.mark.parametrize("name", ["thermometers", "treesandtents", "lightup", "fieldexplore", "kakurasu", "nonogram"])
def test_givens_broken_alone(name):
    """A given that the answer replaces by another legal symbol."""
    board, reference = GENERATORS[name](random.Random(6))
    empty = next(
        (r, c) for r, c in itertools.product(range(len(board)), range(len(board[0]))) if board[r][c] in ("s", "r")
    )
    reference.setdefault("givens", [["*"] * len(board[0]) for _ in board])
    reference["givens"] = [list(row) for row in reference["givens"]]
    reference["givens"][empty[0]][empty[1]] = "e"
    assert broken(board, reference) == ["givens"]


def test_every_rule_is_covered_by_a_test():
    """The rules of the puzzles that are not searched are the ones tested by hand above."""
    by_hand = {
        "battleships": {"straight", "apart", "fleet", "row_clues", "column_clues"},
        "binairo": {"rows", "columns", "no_three"},
        "starbattle": {"rows", "columns", "regions", "apart"},
        "kakuro": {"black", "sums", "repeats"},
        "coloredsudoku": {"rows", "columns", "colors"},
        "jigsawsudoku": {"rows", "columns", "regions"},
        "sudoku": {"rows", "columns", "blocks"},
        "oddevensudoku": {"rows", "columns", "blocks", "parity"},
        "killersudoku": {"rows", "columns", "blocks", "cage_sums", "cage_repeats"},
        "futoshiki": {"rows", "columns", "inequalities"},
        "renzoku": {"rows", "columns", "dots"},
        "skyscraper": {"rows", "columns", "left", "right", "top", "bottom"},
    }
    assert {name: set(rules) for name, rules in RULES.items() if name not in SEARCHED} == by_hand


def test_public_sudoku_faults():
    """A 4 by 4 board of 5 to 8, and an empty one, which the public checker accepts."""
    high = [[5, 6, 7, 8], [7, 8, 5, 6], [6, 5, 8, 7], [8, 7, 6, 5]]
    empty = {"puzzle": "sudoku", "size": 4}
    assert score(high, empty).value == 0.0
    assert score([[0] * 4] * 4, empty).value == 0.0
    assert score([["*"] * 4] * 4, empty).value == 0.0
    assert score([[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]], empty).value == 1.0


def test_public_fieldexplore_fault():
    """A board that keeps the numbers but not their counts, which the public checker accepts unseen."""
    reference = {"puzzle": "fieldexplore", "givens": [[1, "*"], ["*", "*"]]}
    assert score([[1, "s"], ["e", "e"]], reference).value == 1.0
    assert broken([[1, "s"], ["s", "e"]], reference) == ["counts"]
    assert broken([["s", "s"], ["e", "e"]], reference)[0] == "givens"


def test_catalogue_rows():
    """The hand-computed boards of the catalogue."""
    clues = {"row": [1, 3], "col": [3, 2]}
    assert score([["s", "e"], ["s", "s"]], {"puzzle": "kakurasu", "clues": clues}).value == 1.0
    white = [list("wwwb"), list("bbww"), list("wwbb"), list("bbwb")]
    assert score(white, {"puzzle": "binairo", "size": 4}).value == 0.0
    assert visible(list("2143")) == 2


def test_unique_lines_is_an_option():
    """Equal rows are allowed, as published, unless the puzzle forbids them."""
    board = [list("wbwb"), list("wbwb"), list("bwbw"), list("bwbw")]
    assert broken(board, {"puzzle": "binairo", "size": 4}) == []
    assert broken(board, {"puzzle": "binairo", "size": 4, "unique_lines": 1}) == ["unique"]


def test_sudoku_blocks_of_other_sizes():
    """A 6 by 6 sudoku has blocks of 2 by 3; without them it is no sudoku."""
    board = [[(3 * (row % 2) + row // 2 + column) % 6 + 1 for column in range(6)] for row in range(6)]
    assert broken(board, {"puzzle": "sudoku", "size": 6, "block": [2, 3]}) == []
    assert broken(board, {"puzzle": "sudoku", "size": 6, "block": [3, 2]}) == ["blocks"]
    assert score(board, {"puzzle": "sudoku", "size": 6}).status is Status.REFERENCE_UNPARSEABLE


def test_tents_need_trees_of_their_own():
    """Two tents beside one tree and a tree without: counts and distances are right, the pairing is not."""
    givens = [list("*t*t"), list("****")]
    clues = {"row": [2, 0], "col": [1, 0, 1, 0]}
    reference = {"puzzle": "treesandtents", "givens": givens, "clues": clues}
    assert broken([list("rtrt"), list("eeee")], reference) == []
    assert broken([list("etrt"), list("reee")], reference | {"clues": {"row": [1, 1], "col": [1, 0, 1, 0]}}) == [
        "paired"
    ]


def test_perception_is_told_apart():
    """A wrong perceived board does not change the value, only ``perception_ok``."""
    reference = {"puzzle": "sudoku", "givens": [[1, 0, 0, 0], [0, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]]}
    solved = "[[1,2,3,4],[3,4,1,2],[2,1,4,3],[4,3,2,1]]"
    right = "Perception:\n[[1,*,*,*],[*,4,*,*],[*,*,4,*],[*,*,*,1]]\nAnswer:\n" + solved
    wrong = right.replace("4,*", "3,*")
    seen = [
        grid_puzzle.bind({}).score(Group("g", responses=(Response(text),), reference=reference), [0]).row(0)
        for text in (right, wrong, solved, f"## Initial State\n{reference['givens']}\n<answer>{solved}</answer>")
    ]
    assert [each.value for each in seen] == [1.0] * 4
    assert [each.details["perception_ok"] for each in seen] == [True, False, None, True]


def test_the_last_board_counts():
    """Drafts before the answer do not count, nor does a perceived board behind it."""
    text = "try [[1,1],[1,1]] no. Solution: [[s,e],[e,s]]"
    assert find_boards(text) == (None, (("s", "e"), ("e", "s")))
    text = "Answer: [[s,e],[e,s]] Perception: [[e,e],[e,e]]"
    assert find_boards(text) == ((("e", "e"), ("e", "e")), (("s", "e"), ("e", "s")))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("puzzle", {"puzzle": "sudokus"}), ("puzzle", {"puzzle": 3}), ("clues", {"clues": {"row": [1]}}),
        ("clues", {"clues": {"row": [1, -3], "col": [1, 2]}}), ("clues", {"clues": {"row": [1, True], "col": [1, 2]}}),
        ("clues", {"clues": [[1, 2], [1, 2]]}), ("givens", {"givens": [[0, 0], [0]]}), ("givens", {"givens": []}),
        ("givens", {"givens": [[0] * 60] * 60}), ("givens", {"givens": [[0.5, 0], [0, 0]]}),
        ("givens", {"givens": "x"}), ("clues", {"clues": {"row": [1, 2, 3], "col": [1, 2]}, "givens": [[0, 0], [0, 0]]}),
    ],
)  # fmt: skip
def test_bad_references_name_their_field(field, change):
    """A reference that is none is never a number."""
    reference = {"puzzle": "kakurasu", "clues": {"row": [1, 3], "col": [3, 2]}} | change
    found = score([["s", "e"], ["s", "s"]], reference)
    assert found.status is Status.REFERENCE_UNPARSEABLE
    assert found.value is None
    assert found.details["field"] == f"reference.{field}"


@pytest.mark.parametrize(
    ("reference", "field"),
    [
        ({"puzzle": "killersudoku", "size": 4, "cages": [{"sum": 3, "cells": [[0, 0], [0, 9]]}]}, "cages"),
        ({"puzzle": "killersudoku", "size": 4, "cages": [{"sum": 3, "cells": [[0, 0], [0, 0]]}]}, "cages"),
        ({"puzzle": "futoshiki", "size": 2, "inequalities": {"row": [["x"], [""]], "col": [["", ""]]}}, "inequalities"),
        ({"puzzle": "renzoku", "size": 2, "hints": {"row": [[2], [0]], "col": [[0, 0]]}}, "hints"),
        ({"puzzle": "oddevensudoku", "size": 4, "cell_types": [["w"] * 4] * 4}, "cell_types"),
        ({"puzzle": "lightup", "givens": [["w"]], "wall_numbers": [[7]]}, "wall_numbers"),
        ({"puzzle": "lightup", "size": 4, "wall_numbers": [[7]]}, "givens"),
        ({"puzzle": "battleships", "clues": {"row": [1], "col": [1]}, "ships": []}, "ships"),
        ({"puzzle": "binairo", "size": 3}, "givens"),
        ({"puzzle": "sudoku", "givens": [[0, 0, 0]]}, "givens"),
        ({"puzzle": "sudoku"}, "clues"),
    ],
)
def test_bad_side_data_names_its_field(reference, field):
    """Side data that fits no board is the caller's fault."""
    found = score([["s"]], reference)
    assert found.status is Status.REFERENCE_UNPARSEABLE
    assert found.details["field"] == f"reference.{field}"


def test_huge_answers_take_linear_time():
    """A million characters of openings, headings or boards are answered within a second."""
    reference = {"puzzle": "sudoku", "size": 4}
    for text in ("[[" * 500_000, "[[1,2]," * 140_000, "answer " * 140_000, "[[1,2],[3,4]]" * 75_000):
        began = time.thread_time()
        grid_puzzle.bind({}).score(Group("g", responses=(Response(text),), reference=reference), [0])
        assert time.thread_time() - began < 2.0
