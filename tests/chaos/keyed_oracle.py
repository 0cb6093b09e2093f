"""Random recipes over the keyed scorers, and what every answer of them must be, told in plain Python."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rewardhub.errors import RewardHubError
from rewardhub.types import Call, Group, Response, Score, Status

from . import keyed_verifiers as keyed

OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
GRAVEST = [
    Status.INTERNAL_ERROR, Status.INVALID_INPUT, Status.REFERENCE_UNPARSEABLE, Status.UNAVAILABLE, Status.TIMEOUT,
    Status.JUDGE_UNPARSEABLE, Status.CANCELLED, Status.INCOMPLETE_GROUP, Status.SKIPPED,
]  # fmt: skip
TEXTS, WHOLE = ("k_text", "k_text_pool"), ("k_group", "k_group_pool", "k_group_dear")
SCORERS = ("k_inline", "k_pool", "k_dear", "k_any", *TEXTS, *WHOLE)
DEFAULTS = {"salt": 0, "fails": False, "wait_ms": 0}
INLINE = {"k_inline", "k_group", "k_text"}
REMEMBERED = {"k_dear", "k_group_dear"}
Values = list[float | None]


@dataclass(frozen=True)
class Term:
    scorer: str
    params: dict[str, Any]
    when: tuple[Any, ...] | None = None
    input: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Recipe:
    """``terms`` in an order in which each looks at earlier ones only; ``value`` is an expression as nested tuples.

    A ``bare`` one is the scorer of its only term, by its own name.
    """

    terms: dict[str, Term]
    value: tuple[Any, ...]
    strict: bool = False
    minimum: int = 2
    no_answer: float = 0.0
    over_limit: float | None = None
    bare: bool = False

    @property
    def needs_group(self) -> bool:
        return any(term.whole for term in self.terms.values()) or over_group(self.value)

    def text(self) -> str:
        lines = ["name: random", f"value: '{written(self.value)}'", f"group_strict: {str(self.strict).lower()}"]
        lines += [f"min_valid: {self.minimum}", f"no_answer: {self.no_answer}"]
        lines += [f"over_limit: {self.over_limit}"] if self.over_limit is not None else []
        lines.append("terms:")
        for name, term in self.terms.items():
            params = ", ".join(f"{key}: {str(value).lower()}" for key, value in term.params.items())
            more = f", when: '{written(term.when)}'" if term.when else ""
            more += f", input: {term.input}" if term.input else ""
            lines.append(f"  {name}: {{scorer: {term.scorer}, with: {{{params}}}{more}}}")
        return "\n".join(lines)


def written(tree: tuple[Any, ...]) -> str:
    kind, *rest = tree
    if kind in {"term", "number"}:
        return str(rest[0])
    if kind == "if_skipped":
        return f"if_skipped({rest[0]}, {rest[1]})"
    if kind == "signal":
        return f'signal("{rest[0]}")'
    if kind.startswith("g_"):
        return f"{kind}({written(rest[0])})"
    if kind == "if":
        return f"({written(rest[0])} if {written(rest[1])} else {written(rest[2])})"
    return f"({written(rest[0])} {kind} {written(rest[1])})"


def over_group(tree: Any) -> bool:
    return isinstance(tree, tuple) and (str(tree[0]).startswith("g_") or any(map(over_group, tree[1:])))


def named(tree: Any) -> set[str]:
    if not isinstance(tree, tuple):
        return set()
    return {tree[1]} if tree[0] in {"term", "if_skipped"} else set().union(*map(named, tree[1:]))


def a_recipe(rng: random.Random) -> Recipe:
    def params(scorer: str) -> dict[str, Any]:
        found: dict[str, Any] = {"salt": rng.randrange(4), "fails": rng.random() < 0.4}
        if scorer not in INLINE and scorer not in TEXTS and rng.random() < 0.4:
            found["wait_ms"] = rng.choice([1, 5, 30])
        return found

    if rng.random() < 0.2:
        term = Term(scorer := rng.choice(SCORERS), {}, whole=scorer in WHOLE)
        return Recipe({"t0": term}, ("term", "t0"), bare=True)
    terms: dict[str, Term] = {}
    for number in range(rng.randint(1, 4)):
        scorer = rng.choice(SCORERS)
        when = _condition(rng, list(terms)) if terms and rng.random() < 0.5 else None
        makers = [name for name, term in terms.items() if term.scorer in TEXTS]
        read = rng.choice(makers) if makers and rng.random() < 0.7 else ""
        needs = (named(when) if when else set()) | ({read} if read else set())
        whole = scorer in WHOLE or over_group(when) or any(terms[name].whole for name in needs)
        terms[f"t{number}"] = Term(scorer, params(scorer), when, read, whole)
    return Recipe(
        terms, _expression(rng, list(terms), 3), rng.random() < 0.3, rng.choice([1, 2, 2, 3]),
        rng.choice([0.0, -1.0, 0.25]), rng.choice([None, -2.0]),
    )  # fmt: skip


def _expression(rng: random.Random, names: Sequence[str], depth: int) -> tuple[Any, ...]:
    pick = rng.random() if depth else 0.0
    if pick < 0.35:
        if rng.random() < 0.1:
            return ("signal", "entropy")
        name = rng.choice(names)
        return ("if_skipped", name, rng.choice([0.0, 0.5])) if rng.random() < 0.4 else ("term", name)
    if pick < 0.55:
        return (rng.choice(["g_mean", "g_max", "g_min", "g_count"]), _expression(rng, names, depth - 1))
    if pick < 0.65:
        parts = [_expression(rng, names, depth - 1) for _ in range(2)]
        return ("if", parts[0], _condition(rng, names), parts[1])
    return (rng.choice("+-*"), _expression(rng, names, depth - 1), _expression(rng, names, depth - 1))


def _condition(rng: random.Random, names: Sequence[str]) -> tuple[Any, ...]:
    left: tuple[Any, ...] = ("term", rng.choice(names))
    left = ("g_mean", left) if rng.random() < 0.2 else left
    one = (rng.choice("<>"), left, ("number", rng.choice([0.25, 0.5, 0.75])))
    return (rng.choice(["and", "or"]), one, _condition(rng, names)) if rng.random() < 0.25 else one


@dataclass
class Case:
    """A group as it was scored, its responses by index; versions ``since`` to ``until`` may have scored it.

    ``missing`` members did not come, or ``maybe_missing`` ones. ``excused`` are failures of the system that may befall rows that a lane scores, and
    ``gone`` those that may befall a row, or all rows, as a whole, without parts.
    """

    recipe: Recipe
    group: Group
    call: Call
    since: int
    until: int
    missing: int = 0
    excused: frozenset[Status] = frozenset()
    gone: frozenset[Status] = frozenset()
    maybe_missing: bool = False
    fingerprints: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def wrong(self, rows: Sequence[Score]) -> str | None:
        """Why the rows cannot be what the group has to be answered; None where they can."""
        if len(rows) != len(self.group.responses):
            return f"{len(rows)} rows for {len(self.group.responses)} responses"
        for index, row in enumerate(rows):
            if flaw := next((each for part in [row, *row.parts.values()] if (each := _flaw(part, self.call))), None):
                return f"row {index}: {flaw}"
        parts = {name for row in rows for name in row.parts}
        kept = [index for index, row in enumerate(rows) if not self._left_out(row)]
        if self.recipe.needs_group and len(kept) < len(rows):
            return "some rows are gone, others not" if kept else None
        if kept and not self.recipe.bare and any(set(rows[index].parts) != set(self.recipe.terms) for index in kept):
            return f"parts {sorted(parts)}; {rows[kept[0]]}"
        found = {version: self._of_version(rows, kept, version) for version in range(self.since, self.until + 1)}
        if None in found.values():
            return None
        if self.maybe_missing and replace(self, missing=1, maybe_missing=False).wrong(rows) is None:
            return None
        return "; ".join(f"v{version}: {why}" for version, why in found.items())

    def _left_out(self, row: Score) -> bool:
        """Whether the row was given up as a whole."""
        return row.status in self.gone and {part.status for part in row.parts.values()} <= {row.status}

    def _of_version(self, rows: Sequence[Score], kept: Sequence[int], version: int) -> str | None:
        columns = {
            name: {index: rows[index] if self.recipe.bare else rows[index].parts[name] for index in kept}
            for name in self.recipe.terms
        }
        prints = {}
        for name, term in self.recipe.terms.items():
            for index in kept:
                got = columns[name][index]
                wanted = self._term(term, columns, index, kept, version)
                if isinstance(wanted, str):
                    return f"{name}[{index}]: {wanted}: {got}"
                if got.fingerprint and got.status is Status.OK:
                    prints[got.fingerprint] = (term.scorer, *sorted((DEFAULTS | term.params).items()), version)
        if not self.recipe.bare:
            totals = self._value(self.recipe.value, columns, kept)
            for index in kept:
                if why := self._total(rows[index], totals[index], columns, index, kept):
                    return f"total[{index}]: {why}: {rows[index]}"
        for fingerprint, of in prints.items():
            if self.fingerprints.setdefault(fingerprint, of) != of:
                return f"fingerprint {fingerprint[:8]} was of {self.fingerprints[fingerprint]}, now of {of}"
        return None

    def _term(self, term: Term, columns: Any, index: int, kept: Sequence[int], version: int) -> str | None:
        """Why a row of a term is not what it has to be, given what the terms before it came to; None where it may be."""
        got: Score = columns[next(name for name, each in self.recipe.terms.items() if each is term)][index]
        if term.whole and self.missing:
            return _unless(got, Status.INCOMPLETE_GROUP)
        chosen = [index]
        if term.when:
            conditions = self._value(term.when, columns, kept)
            if conditions[index] is None:
                causes = [columns[name][index].status for name in named(term.when)]
                others = [columns[name][row].status for name in named(term.when) for row in kept]
                told = _failed(causes) or (over_group(term.when) and _failed(others)) or _gravest(causes)
                return _unless(got, told or Status.INCOMPLETE_GROUP)
            if not conditions[index]:
                return _unless(got, Status.SKIPPED)
            chosen = [row for row in kept if conditions[row]]
        elif term.scorer in WHOLE:
            chosen = list(kept)
        if term.input:
            before = columns[term.input]
            if not before[index].status.is_verdict:
                return _unless(got, before[index].status)
            chosen = [row for row in chosen if before[row].status.is_verdict]
        seen = {row: self._seen(term, columns, row, version) for row in chosen}
        if None in seen.values():
            return None  # the maker's value is not known exactly
        status, value = outcome(version, term, self.group, [*seen.values()], [*seen].index(index))
        if got.status in self.excused and term.scorer not in INLINE:
            return None
        value = {Status.NO_ANSWER: self._nothing(), Status.OVER_LIMIT: self._over()}.get(status, value)
        if term.scorer == "k_any" and status is Status.OK:
            if got.status is not Status.OK or got.cached or got.steps != (value,):
                return f"expected steps {value}"
            return None
        return _unless(got, status, value)

    def _lacks_signal(self, rows: Sequence[int]) -> bool:
        return any("entropy" not in self.group.responses[row].signals for row in rows)

    def _nothing(self) -> float:
        return 0.0 if self.recipe.bare else self.recipe.no_answer

    def _over(self) -> float:
        return self._nothing() if self.recipe.over_limit is None else self.recipe.over_limit

    def _seen(self, term: Term, columns: Any, row: int, version: int) -> Response | None:
        response = self.group.responses[row]
        if not term.input:
            return response
        made = columns[term.input][row]
        text = keyed.made_of(made.value) if made.status is Status.OK else ""
        return replace(response, text=text, messages=(), steps=())

    def _value(self, tree: Any, columns: Any, kept: Sequence[int]) -> dict[int, Any]:
        kind, *rest = tree
        if kind == "number":
            return dict.fromkeys(kept, rest[0])
        if kind == "term":
            return {row: columns[rest[0]][row].value for row in kept}
        if kind == "signal":
            return {row: self.group.responses[row].signals.get(rest[0]) for row in kept}
        if kind == "if_skipped":
            scores = {row: columns[rest[0]][row] for row in kept}
            return {row: rest[1] if each.status is Status.SKIPPED else each.value for row, each in scores.items()}
        parts = [self._value(each, columns, kept) for each in rest]
        if kind.startswith("g_"):
            return dict.fromkeys(kept, self._over_rows(kind, [parts[0][row] for row in kept]))
        return {row: _combined(kind, *(part[row] for part in parts)) for row in kept}

    def _over_rows(self, kind: str, values: Values) -> float | None:
        valid = [value for value in values if value is not None]
        if kind == "g_count":
            return float(sum(value != 0 for value in valid))
        lacking = len(valid) < len(values) or self.missing + self.group.lost > 0
        if len(valid) < max(1, self.recipe.minimum) or (self.recipe.strict and lacking):
            return None
        return {"g_mean": lambda each: sum(each) / len(each), "g_max": max, "g_min": min}[kind](valid)

    def _total(self, got: Score, value: float | None, columns: Any, index: int, kept: Sequence[int]) -> str | None:
        names = named(self.recipe.value)
        own = [columns[name][index].status for name in names]
        if value is not None:
            scored = {status for status in own if status is not Status.SKIPPED}
            verdict = (
                scored.pop() if len(scored) == 1 and scored <= {Status.NO_ANSWER, Status.OVER_LIMIT} else Status.OK
            )
            return _unless(got, verdict, value)
        if cause := _failed(own):
            return _unless(got, cause)
        rows = kept if over_group(self.recipe.value) else [index]
        if cause := _failed([columns[name][row].status for name in names for row in rows]):
            allowed = {cause}
        elif asks_signal(self.recipe.value) and self._lacks_signal([index]):
            allowed = {Status.INVALID_INPUT}
        else:
            allowed = {Status.SKIPPED} if Status.SKIPPED in own else set()
            if over_group(self.recipe.value):
                lacking = asks_signal(self.recipe.value) and self._lacks_signal(kept)
                allowed |= {Status.INVALID_INPUT if lacking else Status.INCOMPLETE_GROUP}
        return None if got.status in allowed else f"expected one of {allowed}"


def asks_signal(tree: Any) -> bool:
    return isinstance(tree, tuple) and (tree[0] == "signal" or any(map(asks_signal, tree[1:])))


def outcome(
    version: int, term: Term, group: Group, responses: Sequence[Response], place: int
) -> tuple[Status, float | None]:
    """What a scorer of this version has to say of the response at ``place`` among those that it sees."""
    salt, fails = term.params.get("salt", 0), term.params.get("fails", False)
    seen = responses if term.scorer in WHOLE else [responses[place]]
    try:
        for response in seen if fails else ():
            keyed.obey(response.text)
    except RewardHubError as error:
        return error.status, None
    except ValueError:
        return Status.INTERNAL_ERROR, None
    if term.scorer in WHOLE:
        read = [keyed.shared(group), [keyed.own(each) for each in seen]]
        return Status.OK, keyed.keyed(version, term.scorer, salt, read, place)
    return Status.OK, keyed.keyed(version, term.scorer, salt, keyed.shared(group), keyed.own(seen[0]))


def _combined(kind: str, left: Any, right: Any, other: Any = None) -> Any:
    if kind == "if":
        return None if right is None else left if right else other
    if kind == "and":
        return False if left is False or right is False else None if None in (left, right) else True
    if kind == "or":
        return True if left is True or right is True else None if None in (left, right) else False
    if left is None or right is None:
        return None
    return {"<": left < right, ">": left > right}[kind] if kind in "<>" else OPERATIONS[kind](left, right)


def _gravest(statuses: Sequence[Status]) -> Status | None:
    return min((each for each in statuses if not each.is_verdict), key=GRAVEST.index, default=None)


def _failed(statuses: Sequence[Status]) -> Status | None:
    return _gravest([status for status in statuses if status is not Status.SKIPPED])


def _unless(got: Score, status: Status, value: float | None = None) -> str | None:
    right = (
        got.value is None if value is None else got.value is not None and math.isclose(got.value, value, abs_tol=1e-9)
    )
    return None if got.status is status and right else f"expected {status} {value}"


def _flaw(score: Score, call: Call) -> str | None:
    if (score.value is None) == score.status.is_verdict:
        return f"value {score.value} with status {score.status}"
    return "cached, though it bypasses" if score.cached and call.cache == "bypass" else None
