"""What expressions can call and read; every function maps arrays of one group to arrays.

NaN is "no value". Group operators skip it and give NaN when fewer than ``minimum`` rows are valid
(2 by default; all of them with ``group_strict``).
"""

import inspect
import math
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewardhub.types import Call, Group, Json

Array = NDArray[np.float64]


@dataclass
class Scope:
    """The arrays of one group while its expressions run.

    ``missing`` members did not come, ``absent`` has the rows for which something was read and not sent, ``valid`` how
    many rows each group operator went over, ``few`` that they were too few for one, and ``undefined`` is true for rows
    in which something was divided by 0.
    """

    group: Group
    call: Call
    values: dict[str, Array] = field(default_factory=dict)
    skipped: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    steps: dict[str, list[tuple[float | None, ...]]] = field(default_factory=dict)
    details: dict[str, Sequence[Json | None]] = field(default_factory=dict)
    minimum: int = 2
    strict: bool = False
    missing: int = 0
    absent: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    valid: list[int] = field(default_factory=list)
    few: bool = False
    undefined: Any = False

    def checked(self, name: str, values: Any) -> Any:
        """Remembers a field that the caller did not send for every response."""
        self.lack(name, np.isnan(values))
        return values

    def lack(self, name: str, rows: Any) -> None:
        """Remembers the rows for which ``name`` was not sent."""
        if np.any(rows):
            self.absent[name] = self.absent.get(name, False) | np.broadcast_to(rows, (self.size,))

    @property
    def size(self) -> int:
        return len(self.group.responses)

    def skipped_rows(self, term: str) -> NDArray[np.bool_]:
        found = self.skipped.get(term)
        return np.zeros(self.size, dtype=bool) if found is None else found


def where(condition: Any, yes: Any, no: Any) -> Any:
    """``yes`` where the condition is true, ``no`` where it is false, NaN where it is unknown."""
    known = np.where(condition != 0, yes, no)
    return np.where(np.isnan(condition), np.nan, known)


def divided(scope: Scope, operate: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """The quotient or remainder; without a value where ``right`` is 0, which no group operator passes over."""
    zero = right == 0
    if not np.any(zero):
        return operate(left, right)
    scope.undefined = scope.undefined | zero & ~np.isnan(left)
    return np.where(zero, np.nan, operate(left, np.where(zero, 1.0, right)))


def div(numerator: Any, denominator: Any, otherwise: Any) -> Any:
    """The quotient; ``otherwise`` where the denominator is 0."""
    safe = np.where(denominator == 0, 1.0, denominator)
    return np.where(denominator == 0, otherwise, np.true_divide(numerator, safe))


def clip(value: Any, low: Any, high: Any) -> Any:
    return np.minimum(np.maximum(value, low), high)


def compare(kind: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """1 or 0; NaN where either side has no value. Texts compare with texts; no text is a number or missing."""
    if isinstance(left, str) and isinstance(right, str):
        return float(kind(left, right))
    if isinstance(left, str) or isinstance(right, str):
        return float(kind is operator.ne)
    result = np.asarray(kind(left, right), dtype=np.float64)
    return np.where(np.isnan(left) | np.isnan(right), np.nan, result)


def negate(value: Any) -> Any:
    return np.where(np.isnan(value), np.nan, np.asarray(value == 0, dtype=np.float64))


def both(left: Any, right: Any) -> Any:
    """Kleene's and: false beats unknown."""
    unknown = np.isnan(left) | np.isnan(right)
    false = (left == 0) | (right == 0)
    return np.where(false, 0.0, np.where(unknown, np.nan, 1.0))


def either(left: Any, right: Any) -> Any:
    """Kleene's or: true beats unknown."""
    unknown = np.isnan(left) | np.isnan(right)
    true = (~np.isnan(left) & (left != 0)) | (~np.isnan(right) & (right != 0))
    return np.where(true, 1.0, np.where(unknown, np.nan, 0.0))


def _column(scope: Scope, values: Any, condition: Any) -> Array:
    """The values that count: NaN where the row has none or the condition is not true."""
    column = np.broadcast_to(np.asarray(values, dtype=np.float64), (scope.size,))
    if condition is None:
        return column
    chosen = np.broadcast_to(np.asarray(condition, dtype=np.float64), (scope.size,))
    return np.where(chosen == 1.0, column, np.nan)


def _over(scope: Scope, values: Any, condition: Any, reduce: Callable[[Array], Any]) -> float:
    """The reduction over the valid rows that the condition chooses; NaN where none is left, or one divides by 0.

    A row without a value, or whose condition is unknown, is missing; NaN too when fewer than the
    stated minimum are not missing.
    """
    missing = np.isnan(_column(scope, values, None))
    if condition is not None:
        chosen = _column(scope, condition, None)
        missing = np.isnan(chosen) | (missing & (chosen == 1.0))
    if scope.undefined is not False and np.any(missing & scope.undefined):
        return np.nan
    present = scope.size - int(missing.sum())
    if present < scope.minimum or (scope.strict and (present < scope.size or scope.missing)):
        scope.valid.append(present)
        scope.few = True
        return np.nan
    column = _column(scope, values, condition)
    valid = column[~np.isnan(column)]
    scope.valid.append(len(valid))
    return float(reduce(valid)) if len(valid) else np.nan


def g_mean(scope: Scope, values: Any, *, where: Any = None) -> float:
    return _over(scope, values, where, np.mean)


def g_min(scope: Scope, values: Any, *, where: Any = None) -> float:
    return _over(scope, values, where, np.min)


def g_max(scope: Scope, values: Any, *, where: Any = None) -> float:
    return _over(scope, values, where, np.max)


def g_std(scope: Scope, values: Any, *, where: Any = None, ddof: Any = 0.0) -> float:
    """Standard deviation, over the number of rows less ``ddof`` (0: population, 1: sample).

    NaN where ``ddof`` is not a whole number from 0, or no more than ``ddof`` rows are valid.
    """
    degrees = int(ddof) if isinstance(ddof, float) and ddof in range(scope.size) else scope.size
    return _over(scope, values, where, lambda valid: np.std(valid, ddof=degrees) if len(valid) > degrees else np.nan)


def g_count(scope: Scope, condition: Any, *, where: Any = None) -> float:
    """How many valid rows are true (not 0); NaN where one divides by 0."""
    column = _column(scope, condition, where)
    if scope.undefined is not False and np.any(np.isnan(_column(scope, condition, None)) & scope.undefined):
        return np.nan
    return float(np.count_nonzero(column[~np.isnan(column)]))


def g_rank(scope: Scope, values: Any, *, where: Any = None) -> Array:
    """Rank from 1 (lowest), ties share their mean rank; NaN for rows without a value, and below the minimum."""
    column = _column(scope, values, where)
    if np.isnan(_over(scope, values, where, np.mean)):
        return np.full(scope.size, np.nan)
    ordered = np.sort(column[~np.isnan(column)])
    below, reached = (np.searchsorted(ordered, column, side) for side in ("left", "right"))
    return np.where(np.isnan(column), np.nan, (below + reached + 1) / 2)


def g_pass_at(scope: Scope, right: Any, k: Any, *, where: Any = None) -> float:
    """The unbiased pass@k of the valid rows, 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374).

    n rows, of which c are right (not 0); NaN where there are fewer than ``k``.
    """

    def estimate(valid: Array) -> float:
        n, wrong, drawn = len(valid), int(np.count_nonzero(valid == 0)), np.unique(k)
        if len(drawn) != 1 or not 1 <= drawn[0] <= n:
            return np.nan
        return 1.0 - math.prod(max(0, wrong - i) / (n - i) for i in range(int(drawn[0])))

    return _over(scope, right, where, estimate)


_MOST = sys.float_info.max


def _detail(scope: Scope, term: str, name: str, otherwise: Any) -> Array:
    """A number or truth value of the term's details; ``otherwise`` where it has none of that name.

    NaN where the term itself has no value.
    """
    rows = [(details or {}).get(name) for details in scope.details.get(term) or [None] * scope.size]
    found = np.array([float(row) if isinstance(row, int | float) and abs(row) <= _MOST else np.nan for row in rows])
    return np.where(np.isnan(scope.values[term]), np.nan, np.where(np.isnan(found), otherwise, found))


def _over_steps(scope: Scope, term: str, reduce: Callable[[Sequence[float]], float]) -> Array:
    """The reduction of each response's step scores; NaN where a response has none or a step lacks its score."""
    rows = scope.steps.get(term) or [()] * scope.size
    whole = [steps if steps and None not in steps else (np.nan,) for steps in rows]
    reduced = np.array([reduce([np.nan if step is None else step for step in steps]) for steps in whole])
    scope.lack(f"the steps of {term}", np.isnan(reduced) & ~np.isnan(scope.values[term]))
    return reduced


def _signal(scope: Scope, name: str) -> Array:
    """A number that the trainer sent with each response; NaN where it did not."""
    values = [response.signals.get(name, np.nan) for response in scope.group.responses]
    return np.asarray(scope.checked(f"signals.{name}", np.array(values, dtype=np.float64)))


def _input(scope: Scope, name: str) -> float:
    """A number of the call, such as a stage."""
    return float(scope.checked(f"inputs.{name}", scope.call.inputs.get(name, np.nan)))


def _field(scope: Scope, name: str, **numbers: float) -> float:
    """A number of the group's metadata, else of its reference.

    ``field("difficulty", easy=1, hard=1.5)`` is the number that is stated for the text; another text is missing.
    """
    value = scope.group.metadata.get(name, scope.group.reference.get(name))
    if numbers:
        known = numbers.get(value, np.nan) if isinstance(value, str) else np.nan
        return float(scope.checked(f"metadata.{name} ({', '.join(numbers)})", known))
    if isinstance(value, str):
        return float(scope.checked(f"metadata.{name} as a number", np.nan))
    number = float(value) if isinstance(value, int | float) and abs(value) <= 1e300 else np.nan
    return float(scope.checked(f"metadata.{name}", number))


def text_or_number(scope: Scope, name: str) -> float | str:
    """A text of the group's metadata, else of its reference; else a number as ``field`` reads it."""
    value = scope.group.metadata.get(name, scope.group.reference.get(name))
    return value if isinstance(value, str) else _field(scope, name)


def _has(scope: Scope, name: str) -> float:
    """1 where the group's metadata or reference holds something under this name, else 0."""
    value = scope.group.metadata.get(name, scope.group.reference.get(name))
    empty = isinstance(value, str | list | tuple | Mapping) and not value
    return float(value is not None and not empty)


def _tokens(scope: Scope) -> Array:
    counts = [np.nan if response.tokens is None else response.tokens for response in scope.group.responses]
    return np.asarray(scope.checked("tokens", np.array(counts, dtype=np.float64)))


FIELDS: Mapping[str, Callable[[Scope], Any]] = {
    "tokens": _tokens,
    "chars": lambda scope: np.array([len(response.text) for response in scope.group.responses], dtype=np.float64),
    "group_size": lambda scope: float(scope.size),
}
GROUP_FIELDS = frozenset({"group_size"})
TEXTS: Mapping[str, Callable[[Scope], str]] = {"problem_type": lambda scope: scope.group.problem_type}
NAMES = frozenset({*FIELDS, *TEXTS})
"""What expressions read by a bare name, which no term and no let may have."""
PLAIN: Mapping[str, Callable[..., Any]] = {
    "where": where,
    "div": div,
    "clip": clip,
    "exp": lambda value: np.exp(value),
    "log": lambda value: np.log(value),
    "sqrt": lambda value: np.sqrt(value),
    "cos": lambda value: np.cos(value),
    "abs": lambda value: np.abs(value),
    "floor": lambda value: np.floor(value),
    "min": lambda left, right: np.minimum(left, right),
    "max": lambda left, right: np.maximum(left, right),
}
STRICT = frozenset(PLAIN) - {"where", "div"}
"""Functions that have no value where one of their arguments has none."""
GROUP: Mapping[str, Callable[..., Any]] = {
    "g_mean": g_mean,
    "g_min": g_min,
    "g_max": g_max,
    "g_std": g_std,
    "g_count": g_count,
    "g_rank": g_rank,
    "g_pass_at": g_pass_at,
}
STEPS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "steps_min": min,
    "steps_mean": lambda steps: sum(steps) / len(steps),
    "steps_last": lambda steps: steps[-1],
    "steps_product": math.prod,
}
READS: Mapping[str, Callable[..., Any]] = {
    "signal": _signal,
    "input": _input,
    "field": _field,
    "has": _has,
    "if_skipped": lambda scope, name: scope.values[name],
    "detail": _detail,
    **{name: partial(_over_steps, reduce=reduce) for name, reduce in STEPS.items()},
}
OF_TERM: Mapping[str, str] = {
    "if_skipped": "a term, a default",
    "detail": "a term, a text, a default",
    **dict.fromkeys(STEPS, "a term"),
}
"""Reads whose first argument is a term, with what they take."""


@cache
def arity(function: Callable[..., Any], *, in_group: bool) -> tuple[int, set[str]]:
    """The number of positional arguments of an expression's function, and its keywords."""
    parameters = list(inspect.signature(function).parameters.values())[1 if in_group else 0 :]
    positional = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    keywords = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}
    return len(positional), keywords
