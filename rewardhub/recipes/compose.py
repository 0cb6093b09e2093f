"""From the columns of terms to the total: the vectorised half of a recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from rewardhub.json_values import copied
from rewardhub.recipes.expression import Expression
from rewardhub.recipes.functions import Scope
from rewardhub.recipes.plan import Plan
from rewardhub.types import Call, Column, Group, Json, Status

# The gravest first: what a total without a value is blamed on.
SEVERITY = (
    Status.INTERNAL_ERROR,
    Status.INVALID_INPUT,
    Status.REFERENCE_UNPARSEABLE,
    Status.UNAVAILABLE,
    Status.TIMEOUT,
    Status.JUDGE_UNPARSEABLE,
    Status.CANCELLED,
    Status.INCOMPLETE_GROUP,
    Status.SKIPPED,
)
_RANK = {status: rank for rank, status in enumerate(SEVERITY)}


def scope_of(plan: Plan, group: Group, call: Call, columns: Mapping[str, Column], missing: int = 0) -> Scope:
    """The arrays that expressions read; ``no_answer`` and ``over_limit`` have the recipe's values.

    ``missing`` members of the group did not come.
    """
    recipe = plan.recipe
    scope = Scope(group, call, minimum=recipe.min_valid, strict=recipe.group_strict, missing=missing)
    for name, column in columns.items():
        scope.values[name] = np.array(column.values, dtype=np.float64)
        skipped = np.array([status is Status.SKIPPED for status in column.statuses], dtype=bool)
        if skipped.any():
            scope.skipped[name] = skipped
        if column.steps:
            scope.steps[name] = column.steps
        if column.details:
            scope.details[name] = column.details
    return scope


def stated_values(plan: Plan, column: Column) -> Column:
    """Gives ``no_answer`` and ``over_limit`` rows the value that the recipe states for them."""
    if column.statuses.count(Status.OK) == len(column):
        return column
    recipe = plan.recipe
    over = recipe.no_answer if recipe.over_limit is None else recipe.over_limit
    stated = {Status.NO_ANSWER: recipe.no_answer, Status.OVER_LIMIT: over}
    pairs = zip(column.values, column.statuses, strict=True)
    return replace(column, values=[stated.get(status, value) for value, status in pairs])


def compose(plan: Plan, group: Group, call: Call, columns: Mapping[str, Column], missing: int = 0) -> Column:
    """The total column of a group whose terms have all been scored; ``missing`` members did not come."""
    if plan.implicit:
        return next(iter(columns.values()))
    scope = scope_of(plan, group, call, columns, missing)
    for name, expression in plan.steps.items():
        scope.values[name] = expression(scope)
    totals = plan.value(scope)
    read = [columns[name] for name in plan.reads]
    finite = np.isfinite(totals)
    if finite.all() and all(column.statuses.count(Status.OK) == len(column) for column in read):
        return Column(totals.tolist(), [Status.OK] * scope.size, plan.fingerprint)
    return _with_failures(plan, scope, totals.tolist(), finite.tolist(), read)


def _with_failures(plan: Plan, scope: Scope, totals: list[float], finite: list[bool], read: list[Column]) -> Column:
    values: list[float | None] = []
    statuses: list[Status] = []
    details: list[Json | None] = []
    for row, (total, fine) in enumerate(zip(totals, finite, strict=True)):
        own = [column.statuses[row] for column in read]
        status, reason = _verdict(own) if fine else _blamed(plan, scope, row, total, read)
        values.append(total if fine else None)
        statuses.append(status)
        details.append(reason)
    return Column(values, statuses, plan.fingerprint, details=details if any(details) else None)


def _verdict(statuses: list[Status]) -> tuple[Status, Json | None]:
    """The status of a total that has a value: ok, unless every term says the response holds nothing."""
    scored = {status for status in statuses if status is not Status.SKIPPED}
    if len(scored) == 1 and (only := next(iter(scored))) in {Status.NO_ANSWER, Status.OVER_LIMIT}:
        return only, None
    return Status.OK, None


def _blamed(plan: Plan, scope: Scope, row: int, total: float, read: list[Column]) -> tuple[Status, Json | None]:
    """Why a total has no value: the gravest failure among the terms it reads, then what the caller left out, then
    a skipped term, then too few members; else a fault of the recipe. Other rows count where the value is made of them.
    """
    did = "gave a non-finite number" if scope.undefined is False else "divides by 0; div(a, b, c) gives c then"
    fault = Status.INTERNAL_ERROR, {"reason": f"the recipe {plan.recipe.name} {did}"}
    if np.isinf(total):
        return fault
    alone = not plan.over_group or any(_failed(column, row) for column in read)
    rows = [row] if alone else range(scope.size)
    if failed := [(column, each) for column in read for each in rows if _failed(column, each)]:
        return _told(*min(failed, key=lambda each: _RANK[each[0].statuses[each[1]]]))
    if lacking := absent(scope, [row]):
        return lacking
    if skipped := [column for column in read if column.statuses[row] is Status.SKIPPED]:
        unrouted = plan.unrouted(scope.group)
        return (Status.INVALID_INPUT, unrouted) if unrouted else _told(skipped[0], row)
    if lacking := absent(scope, rows):
        return lacking
    if scope.strict and scope.missing:
        return Status.INCOMPLETE_GROUP, {"reason": f"{scope.missing} members are missing"}
    if scope.few:
        few = "not all members have a value" if scope.strict else f"fewer than {scope.minimum} members have a value"
        return Status.INCOMPLETE_GROUP, {"reason": few}
    return fault


def _failed(column: Column, row: int) -> bool:
    status = column.statuses[row]
    return not status.is_verdict and status is not Status.SKIPPED


def _told(column: Column, row: int) -> tuple[Status, Json | None]:
    return column.statuses[row], copied(column.details[row]) if column.details else None


def gravest(statuses: Sequence[Status], *, skipped: bool = True) -> Status | None:
    """The gravest of the failures among ``statuses``, ``skipped`` as the least where it counts; None without one."""
    failed = (each for each in statuses if each in _RANK and (skipped or each is not Status.SKIPPED))
    return min(failed, key=lambda each: _RANK[each], default=None)


def absent(scope: Scope, rows: Sequence[int]) -> tuple[Status, Json] | None:
    """The recipe reads a field that the caller did not send for one of the rows; None where it did."""
    names = ", ".join(sorted(name for name, lacking in scope.absent.items() if lacking[rows].any()))
    if not names:
        return None
    return Status.INVALID_INPUT, {"reason": f"the recipe reads {names}, which is missing", "field": names}


def condition_rows(expression: Expression, scope: Scope) -> list[float]:
    """Per response: 1 true, 0 false, NaN unknown."""
    values: list[float] = expression(scope).tolist()
    return values
