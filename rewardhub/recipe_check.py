"""Recipes under the lamp: their worked examples run, and one group explained term by term."""

import asyncio
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import InvalidInput, RewardHubError, nearest
from rewardhub.hub import Hub
from rewardhub.judges.rubric import builtin_rubric
from rewardhub.recipes.compose import scope_of
from rewardhub.recipes.coverage import rows_of, state_of, summary
from rewardhub.recipes.execution import Execution
from rewardhub.recipes.plan import Plan, compile_plan
from rewardhub.recipes.recipe import Recipe, RecipeTest
from rewardhub.registry import Registry
from rewardhub.scorer import Ask, Context, Scope, Scorer, ScorerInfo
from rewardhub.types import Call, Column, Group, Json, Status
from rewardhub.wire.lines import group_from_json

SECONDS = 60.0


@dataclass(frozen=True)
class Given:
    """Stands for a scorer that is not at hand; its values are given by the example."""

    name: str
    params: Json = field(default_factory=dict)
    fingerprint: str = "given"
    scope: Scope = "response"

    @property
    def info(self) -> ScorerInfo:
        return ScorerInfo(self.name, "judge", "judge", self.scope, cost="dear", range=(-math.inf, math.inf))

    def bind(self, params: Json) -> "Given":
        """Raises ``UnknownName`` for a rubric that there is not."""
        rubric = builtin_rubric(str(params["rubric"])) if "rubric" in params else None
        return Given(self.name, params, scope=rubric.scope if rubric else "response")


class Lenient(Registry):
    """A registry that has a stand-in for every name it does not know."""

    def __init__(self, known: Registry) -> None:
        super().__init__()
        self._known = known

    def get(self, name: str) -> Scorer:
        return self._known.get(name) if name in self._known else Given(name)


@dataclass
class CheckReport:
    """What the examples came to. ``rows`` are those of the catalogue, each with its recipe."""

    checked: int = 0
    failures: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    rows: Mapping[str, Recipe] = field(default_factory=dict)

    def text(self) -> str:
        lines = [f"FAILED {each}" for each in self.failures] + [f"not run {each}" for each in self.left_out]
        lines += [f"partial {each}" for each in self.partial]
        return "\n".join([*lines, f"{self.checked} examples, {len(self.failures)} failed", summary(self.rows)])


def check_recipes(config: HubConfig, names: Sequence[str]) -> CheckReport:
    """Runs the examples of the named recipes, or of all. Raises ``UnknownName`` for a name nobody has."""
    return asyncio.run(_check(make_hub(config), names))


async def _check(hub: Hub, names: Sequence[str]) -> CheckReport:
    report = CheckReport()
    await hub.scheduler.start()
    try:
        chosen = hub.book.chosen(names)
        report.rows = rows_of(chosen)
        for recipe in chosen:
            await _check_examples(hub, recipe, report)
            if recipe.about and state_of(recipe) == "partial":
                report.partial.append(f"{recipe.name} ({', '.join(recipe.about.rows)}): {recipe.about.note}")
    finally:
        await hub.aclose()
    return report


async def _check_examples(hub: Hub, recipe: Recipe, report: CheckReport) -> None:
    try:
        plan = compile_plan(recipe, Lenient(hub.book.registry), hub.book.place(recipe.name))
    except InvalidInput as error:
        report.failures.append(error.message)
        return
    for number, test in enumerate(recipe.tests, 1):
        if lacking := [name for name in test.needs if find_spec(name) is None]:
            report.left_out.append(f"{recipe.name}: example {number}: {', '.join(lacking)} is not installed")
            continue
        report.checked += 1
        try:
            wrong = await _wrong(hub, plan, test)
        except RewardHubError as error:
            wrong = error.message
        if wrong:
            report.failures.append(f"{recipe.name}: example {number}: {wrong}")


async def _wrong(hub: Hub, plan: Plan, test: RecipeTest) -> str:
    """What differs from the example; nothing where it holds."""
    group, call = group_from_json(test.group, default_id="example"), Call(inputs=test.inputs)
    if fault := _ill_given(plan, test, len(group.responses)):
        return fault
    execution = _execution(hub, plan, call, test)
    scores = await execution.finish(group)
    found = {name: column.values for name, column in scores.parts.items()}
    found |= {line.name: line.values for line in _computed(plan, group, call, execution)} | {"value": scores.values}
    for name, expected in {"value": test.values, **test.parts, **test.lets}.items():
        if name not in found:
            return f"there is no part or let {name}"
        values = found[name]
        if len(values) != len(expected) or not all(map(_same, values, expected, [test.tolerance] * len(values))):
            reasons = [score.details.get("reason", "") for score in scores if score.value is None]
            return f"{name} is {values}, expected {list(expected)} {reasons or ''}".strip()
    return ""


@dataclass(frozen=True)
class _Line:
    """An expression of a recipe with what it came to; ``valid`` has the number of rows of each group operator."""

    name: str
    text: str
    values: list[float | None]
    valid: tuple[int, ...]

    def counted(self) -> str:
        """Over how many of the group's rows its group operators went, where one was left out."""
        size = len(self.values)
        return f" (over {', '.join(map(str, self.valid))} of {size})" if any(each < size for each in self.valid) else ""


def _ill_given(plan: Plan, test: RecipeTest, size: int) -> str:
    """What the example states of no term, or not once for each response."""
    stated: dict[str, Mapping[str, Sequence[Any]]] = {
        "given": test.given,
        "given_steps": test.given_steps,
        "given_details": test.given_details,
    }
    for kind, terms in stated.items():
        for name, rows in terms.items():
            if name not in plan.recipe.terms:
                return f"{kind} names {name!r}, which is no term{nearest(name, plan.recipe.terms)}"
            if len(rows) != size:
                return f"{kind}.{name} is stated for {len(rows)} of {size} responses"
    return ""


def _same(found: float | None, expected: float | None, tolerance: float) -> bool:
    if found is None or expected is None:
        return found is expected
    return abs(found - expected) <= tolerance


def _computed(plan: Plan, group: Group, call: Call, execution: Execution) -> Iterator[_Line]:
    """Each let, and the value, in order."""
    scope = scope_of(plan, group, call, execution.columns)
    for name, expression in [*plan.lets.items(), ("value", plan.value)]:
        scope.valid.clear()
        scope.values[name] = expression(scope)
        values = [None if math.isnan(each) else float(each) for each in scope.values[name]]
        yield _Line(name, expression.text, values, tuple(scope.valid))


def _execution(hub: Hub, plan: Plan, call: Call, test: RecipeTest | None) -> Execution:
    names = {id(bound): term.name for term in plan.terms for bound in term.bounds}
    return Execution(plan, call, _Lanes(hub, names, test))


@dataclass(frozen=True)
class _Lanes:
    """The hub's lanes, but for the scorers whose values a test gives; ``names`` are their terms by id."""

    hub: Hub
    names: Mapping[int, str]
    test: RecipeTest | None

    def held(self, ask: Ask, column: Column) -> Column:
        return column

    async def known(self, asks: Sequence[Ask]) -> list[Column | None]:
        columns = [self._given(ask) for ask in asks]
        places = [place for place, column in enumerate(columns) if column is None]
        found = await self.hub.scheduler.known([asks[place] for place in places], _context())
        for place, column in zip(places, found, strict=True):
            columns[place] = column
        return columns

    async def compute(self, asks: Sequence[Ask]) -> list[Column]:
        return await asyncio.gather(*(self.hub.scheduler.compute(ask, _context()) for ask in asks))

    def _given(self, ask: Ask) -> Column | None:
        test, name = self.test, self.names.get(id(ask.bound), "")
        if test is None or name not in test.given:
            if isinstance(ask.bound, Given):
                return Column.failed(len(ask.rows), Status.UNAVAILABLE, f"the scorer {ask.bound.name} is not at hand")
            return None
        values = [test.given[name][row] for row in ask.rows]
        column = Column(values, [Status.OK if each is not None else Status.UNAVAILABLE for each in values], "given")
        if name in test.given_steps:
            column.steps = [test.given_steps[name][row] for row in ask.rows]
        if name in test.given_details:
            column.details = [test.given_details[name][row] for row in ask.rows]
        return column


def _context() -> Context:
    return Context(time.monotonic() + SECONDS)


def explain(config: HubConfig, groups: Sequence[Group], call: Call) -> Iterator[str]:
    """Each group's waves, terms, lets and values, as text."""
    yield from asyncio.run(_explain(make_hub(config), groups, call))


async def _explain(hub: Hub, groups: Sequence[Group], call: Call) -> list[str]:
    await hub.start()
    try:
        return [await _explained(hub, group, call) for group in groups]
    finally:
        await hub.aclose()


async def _explained(hub: Hub, group: Group, call: Call) -> str:
    plan = hub.book.resolve(group.recipe, call, "")
    group = hub.media.resolve(group, "")
    execution = _execution(hub, plan, call, None)
    scores = await execution.finish(group)
    lines = [f"group {group.id}: recipe {plan.recipe.name} {plan.fingerprint[:12]}"]
    columns = execution.columns
    for number, wave in enumerate(plan.waves, 1):
        for term in wave:
            bound = term.pick(group)
            scorer = bound.info.name if bound else "no scorer"
            lines.append(f"  wave {number}  {term.name} = {scorer}: {_shown(columns[term.name])}")
    *lets, value = _computed(plan, group, call, execution)
    for line in lets:
        shown = ", ".join("none" if each is None else f"{each:g}" for each in line.values)
        lines.append(f"  let     {line.name} = {line.text}: {shown}{line.counted()}")
    return "\n".join([*lines, f"  value   {value.text}: {_shown(scores.total, value.counted())}"])


def _shown(column: Column, counted: str = "") -> str:
    """The values or statuses in order, and below them the reasons of what failed."""
    shown = ", ".join(
        f"{status}" if value is None else f"{value:g}"
        for value, status in zip(column.values, column.statuses, strict=True)
    )
    failed = [column.row(row) for row, status in enumerate(column.statuses) if not status.is_verdict]
    reasons = {str(each.details.get("reason", "")): None for each in failed if each.status is not Status.SKIPPED}
    return "".join([shown, counted, *(f"\n          {reason}" for reason in reasons if reason)])
