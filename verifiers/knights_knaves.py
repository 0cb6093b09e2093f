"""``knights_knaves``: who tells the truth and who lies."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Literal

import msgspec
import re2

from rewardhub.errors import NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.geometry.reading import answer_text
from rewardhub.verifiers.puzzles.statements import MOST, BadStatementError, solutions

Measure = Literal["right", "well_formed"]
Roles = Mapping[str, str]

_ROLE = re2.compile(
    r"(?i)([\pL\pN_'’-]+)\W{0,4}(?:\bis\b|\bmust be\b|[:=]|->|→)\W{0,4}(not\s+)?(?:an?\s+|the\s+)?\W{0,4}([a-z]+)"
)
_OTHER = {"knight": "knave", "knave": "knight"}
_MOST_READ = 1_000

_DIFFERENT = ["not", ["<=>", ["telling-truth", 0], ["telling-truth", 1]]]
_AB = {"names": ["A", "B"], "statements": [["lying", 1], _DIFFERENT]}
_SAME = {"names": ["A", "B"], "statements": [["telling-truth", 1], ["telling-truth", 0]]}
_FORM = {"measure": "well_formed"}
_EXAMPLES = (
    Example("A is a knave, B is a knight", _AB, 1.0),
    Example("A is a knight, B is a knave", _AB, 0.0),
    Example("A is a knave", _AB, 0.0),
    Example("<answer>(1) A is a knave\n(2) B is a knight</answer>", _AB, 1.0),
    Example("If A is a knight, B lies. So A is a knave and B is a knight.", _AB, 1.0),
    Example("<answer>A is a knight. A is a knave. B is a knight.</answer>", _AB, 0.0),
    Example("<answer>A is not a knight; B is a knight.</answer>", _AB, 1.0),
    Example("<answer>A is a knave, B is a knight, C is a knight</answer>", _AB, 0.0),
    Example("<answer>A is a spy, B is a knight</answer>", _AB, 0.0),
    Example("**A**: knave, **B**: knight", _AB, 1.0),
    Example("A is a knave, B is a knight", _AB, 1.0, _FORM),
    Example("A is a knight, B is a knave", _AB, 1.0, _FORM),
    Example("A is a knave", _AB, 0.0, _FORM),
    Example("A is a knave, B is a knight", {"solution": {"A": "knave", "B": "knight"}}, 1.0),
    Example("I do not know", _AB, None, status=Status.NO_ANSWER),
    Example("A is a knave, B is a knight", _SAME, None, status=Status.REFERENCE_UNPARSEABLE),
)


@verifier(
    "knights_knaves",
    examples=_EXAMPLES,
    libraries=("google-re2",),
    sources=(
        "rewardhub.verifiers.puzzles.statements", "rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.tags",
    ),
)  # fmt: skip
def knights_knaves(response: Response, reference: Json, *, measure: Measure = "right") -> Score:
    """1.0 where every inhabitant gets the role of the only solution; or where each gets a role at all.

    Reference: ``names`` and ``statements`` (one per name, see ``puzzles.statements``), 2 to 10, from which the
    solution is found by brute force; or ``solution``, ``{name: "knight" or "knave"}``. No solution, two, or
    one at odds with a stated ``solution`` is ``reference_unparseable``.

    Read are "NAME is a knight", "NAME: knave" and their like: in an answer tag or box all of them, in a
    plain response the last one per inhabitant. A missing inhabitant is malformed; in a stated answer also
    a stranger, an unknown role, and two roles for one; it is 0.0 by either measure. minwukim/VRL pays
    ``where(form == 0, -1, where(right == 1, 2, -0.5))``, and -2 for bad tags. Details: ``verdict``, ``roles``.
    """
    gold = _solution(reference)
    text, stated = answer_text(response)
    roles, faults = _read(text, gold, strict=stated)
    if not roles and not stated:
        raise NoAnswer("no role is named in the response")
    missing = [name for name in gold if name not in roles]
    reason = faults or (f"{missing[0]} is missing" if missing else "")
    if reason:
        return Score(0.0, details={"verdict": "malformed", "reason": reason, "roles": roles})
    verdict = "right" if roles == gold else "wrong"
    value = float(verdict == "right" or measure == "well_formed")
    return Score(value, details={"verdict": verdict, "roles": roles})


def _read(text: str, gold: Roles, *, strict: bool) -> tuple[dict[str, str], str]:
    """The roles by folded name, and what is wrong with them."""
    roles: dict[str, str] = {}
    for name, role in _stated(text):
        if strict and (name in gold) != (role in _OTHER):
            return roles, f"{role[:40]} is no role" if name in gold else f"{name[:40]} is no inhabitant"
        if strict and roles.get(name, role) != role:
            return roles, f"{name} has two roles"
        if name in gold and role in _OTHER:
            roles[name] = role
    return roles, ""


def _stated(text: str) -> Iterator[tuple[str, str]]:
    """Names with roles, or with another word behind them, in order."""
    found = [match.groups() for match in _ROLE.finditer(text[-200_000:])][-_MOST_READ:]
    for name, negated, role in found:
        word = role.lower().removesuffix("s")
        yield name.casefold(), _OTHER.get(word, word) if negated else word


def _solution(reference: Json) -> Roles:
    if "statements" not in reference:
        return _stated_solution(reference)
    names = need(reference, "names", (list, tuple))
    need(reference, "statements", (list, tuple))
    if not all(isinstance(name, str) and name.strip() for name in names) or len(set(map(_folded, names))) < len(names):
        raise ReferenceUnparseable("reference.names must be different names", field="reference.names")
    if len(names) != len(reference["statements"]):
        raise ReferenceUnparseable("reference.statements must be one per name", field="reference.statements")
    try:
        island = _solved(msgspec.json.encode(reference["statements"]))
    except (BadStatementError, TypeError, RecursionError, ValueError) as error:
        raise ReferenceUnparseable(f"reference.statements: {error}", field="reference.statements") from None
    found = {_folded(name): "knight" if honest else "knave" for name, honest in zip(names, island, strict=True)}
    if "solution" in reference and _stated_solution(reference) != found:
        raise ReferenceUnparseable("reference.solution does not solve the statements", field="reference.solution")
    return found


@lru_cache(maxsize=256)
def _solved(statements: bytes) -> tuple[bool, ...]:
    found = solutions(msgspec.json.decode(statements))
    if len(found) != 1:
        raise BadStatementError(f"{len(found)} solutions, expected 1")
    return found[0]


def _stated_solution(reference: Json) -> Roles:
    solution = need(reference, "solution", dict)
    good = 2 <= len(solution) <= MOST and all(isinstance(role, str) for role in solution.values())
    found = {_folded(name): role.strip().lower() for name, role in solution.items()} if good else {}
    if len(found) != len(solution) or not all(found) or not set(found.values()) <= _OTHER.keys():
        raise ReferenceUnparseable("reference.solution must give knight or knave per name", field="reference.solution")
    return found


def _folded(name: str) -> str:
    return name.strip().casefold().encode("utf-8", "replace").decode()
