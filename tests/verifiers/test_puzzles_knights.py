"""``knights_knaves``: brute force against a second solver for n = 2…8, and the readings of answers."""

import itertools
import json
import random

import pytest

from rewardhub.types import Group, Response, Score, Status
from rewardhub.verifiers.knights_knaves import knights_knaves
from rewardhub.verifiers.puzzles.statements import BadStatementError, solutions

NAMES = ["Ada", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal"]
DIFFERENT = ["not", ["<=>", ["telling-truth", 0], ["telling-truth", 1]]]
AB = {"names": ["A", "B"], "statements": [["lying", 1], DIFFERENT]}


def score(text: str, reference: dict, **params) -> Score:
    """The score of one response."""
    return knights_knaves.bind(params).score(Group("g", responses=(Response(text),), reference=reference), [0]).row(0)


def statement(rng, count: int, depth: int = 2):
    """A random statement about ``count`` inhabitants."""
    if depth == 0 or rng.random() < 0.4:
        return [rng.choice(["telling-truth", "lying"]), rng.randrange(count)]
    operator = rng.choice(["not", "and", "or", "->", "<=>"])
    return [operator, *(statement(rng, count, depth - 1) for _ in range(1 if operator == "not" else 2))]


def formula(node, names) -> str:
    """The statement as a Python expression over ``k``, a list of booleans: the second solver's form."""
    operator, *rest = node
    if operator in ("telling-truth", "lying"):
        return f"({'' if operator == 'telling-truth' else 'not '}k[{rest[0]}])"
    parts = [formula(each, names) for each in rest]
    joined = {"not": f"(not {parts[0]})", "and": " and ".join(parts), "or": " or ".join(parts)}
    joined |= {"->": f"(not {parts[0]} or {parts[-1]})", "<=>": f"({parts[0]} == {parts[-1]})"}
    return f"({joined[operator]})"


@pytest.mark.parametrize("count", range(2, 9))
def test_brute_force(count):
    """Of generated islands with one solution, that assignment scores 1 and every other 0."""
    rng, names, found = random.Random(count), NAMES[:count], 0
    while found < 5:
        statements = [statement(rng, count) for _ in names]
        islands = list(itertools.product([True, False], repeat=count))
        solved = [k for k in islands if all(eval(formula(s, names), {"k": k}) == h for s, h in zip(statements, k))]  # noqa: S307
        assert sorted(solutions(statements)) == sorted(solved)
        if len(solved) != 1:
            reply = score("Ada is a knight", {"names": names, "statements": statements})
            assert reply.status is Status.REFERENCE_UNPARSEABLE
            continue
        found += 1
        for island in islands:
            lines = [f"{name} is a {'knight' if honest else 'knave'}" for name, honest in zip(names, island)]
            reference = {"names": names, "statements": statements}
            assert score("; ".join(lines), reference).value == float(island == solved[0])


def test_catalogue_rows():
    """Right, swapped, and incomplete answers to the catalogue's island; VRL's table."""
    right, swapped = "A is a knave, B is a knight", "A is a knight, B is a knave"
    assert [score(text, AB).value for text in (right, swapped, "A is a knave")] == [1.0, 0.0, 0.0]
    assert score("A is a knave", AB).details["verdict"] == "malformed"

    def table(text: str) -> float:
        formed = score(text, AB, measure="well_formed").value == 1.0
        return -1.0 if not formed else 2.0 if score(text, AB).value == 1.0 else -0.5

    assert [table(text) for text in (right, swapped, "A is a knave")] == [2.0, -0.5, -1.0]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("<answer>\n(1) A is a knave\n(2) B is a knight\n</answer>", "right"),
        ("\\boxed{A: knave, B: knight}", "right"),
        ("Suppose A is a knight. Then B is a knave, no. So A is a knave and B is a knight.", "right"),
        ("<answer>a is a KNAVE. b is a Knight.</answer>", "right"),
        ("<answer>A is not a knight, B is a knight</answer>", "right"),
        ("<answer>A is a knave, B is a knight, A is a knight</answer>", "malformed"),
        ("<answer>A is a knave, C is a knight</answer>", "malformed"),
        ("<answer>A and B</answer>", "malformed"),
        ("<answer>A is a knave</answer>", "malformed"),
        ("<answer>A is a knight, B is a knight</answer>", "wrong"),
    ],
)
def test_readings(text, verdict):
    """How answers are written, and what hedging earns."""
    found = score(text, AB)
    assert (found.status, found.details["verdict"]) == (Status.OK, verdict)


@pytest.mark.parametrize(
    "change",
    [
        {"statements": [["telling-truth", 1], ["telling-truth", 0]]}, {"statements": [["lying", 0], ["lying", 1]]},
        {"statements": [["lying", 1]]}, {"statements": [["lying", 5], DIFFERENT]}, {"statements": [["xor", 1], DIFFERENT]},
        {"statements": [["lying", True], DIFFERENT]}, {"statements": ["lying", DIFFERENT]}, {"statements": "x"},
        {"names": ["A", "a"]}, {"names": ["A", ""]}, {"names": ["A"]}, {"names": [1, 2]},
        {"solution": {"A": "knight", "B": "knave"}}, {"solution": {"A": "spy", "B": "knave"}},
    ],
)  # fmt: skip
def test_bad_references(change):
    """No solution, two solutions, broken statements, a stated solution that is none."""
    found = score("A is a knave, B is a knight", AB | change)
    assert (found.status, found.value) == (Status.REFERENCE_UNPARSEABLE, None)
    assert found.details["field"].startswith("reference.")


def test_statements_are_limited():
    """Too many inhabitants and too deep statements are refused before anything is searched."""
    deep = ["lying", 0]
    for _ in range(50):
        deep = ["not", deep]
    for statements in ([["lying", 0]] * 11, [deep, ["lying", 0]], [["lying", 0]]):
        with pytest.raises(BadStatementError):
            solutions(json.loads(json.dumps(statements)))
