"""``sharpe_ratio`` and ``max_drawdown``: how a backtest went that the trainer has run."""

import re
from statistics import fmean, pstdev, stdev
from typing import Annotated, Literal

from pydantic import Field

from rewardhub.errors import InvalidInput
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status

LARGEST = 1e9
MAX_SHARPE = 1e6

_PLACE = re.compile(r"(return|value)_([0-9]{1,6})")


def _series(kind: str, *values: float) -> Response:
    return Response(signals={f"{kind}_{place}": value for place, value in enumerate(values)})


@verifier(
    "sharpe_ratio",
    range=(-MAX_SHARPE, MAX_SHARPE),
    examples=(
        Example(_series("return", -0.01, 0.03), {}, 0.5),
        Example(_series("return", -0.01, 0.03), {}, 0.5 / 2**0.5, {"deviation": "sample"}),
        Example(_series("return", 0.0, 0.04), {}, 0.5, {"risk_free": 0.01}),
        Example(_series("return", -0.01, 0.03), {}, 0.5 * 252**0.5, {"periods": 252}),
        Example(_series("return", 0.01, 0.01), {}, 0.0),
        Example(_series("return", 0.01), {}, None, status=Status.INVALID_INPUT),
        Example("bought", {}, None, status=Status.INVALID_INPUT),
    ),
)
def sharpe_ratio(
    response: Response,
    reference: Json,  # noqa: ARG001  # the trainer knows the numbers
    *,
    risk_free: Annotated[float, Field(ge=-1, le=1)] = 0.0,
    deviation: Literal["population", "sample"] = "population",
    periods: Annotated[int, Field(ge=1, le=1_000_000)] = 1,
) -> Score:
    """(mean return - ``risk_free``) / deviation of the returns, times sqrt(``periods``) (Sharpe 1966).

    The trainer sends the returns per period as signals ``return_0``, ``return_1``, …, at least two.
    ``periods`` per year annualise (252 for days). Returns that do not vary have no ratio and earn 0.0 with
    the reason. Raises ``InvalidInput`` where a return is missing or no finite number. Range: +-1e6.
    """
    returns = _numbers(response, "return", 2)
    spread = pstdev(returns) if deviation == "population" else stdev(returns)
    if spread < 1e-12:
        return Score(0.0, details={"reason": "the returns do not vary"})
    ratio = (fmean(returns) - risk_free) / spread * periods**0.5
    return Score(max(-MAX_SHARPE, min(MAX_SHARPE, ratio)))


@verifier(
    "max_drawdown",
    examples=(
        Example(_series("value", 100, 120, 90), {}, 0.25),
        Example(_series("value", 100, 120, 90, 200, 180), {}, 0.25),
        Example(_series("value", 100, 110, 120), {}, 0.0),
        Example(_series("value", 100), {}, 0.0),
        Example(_series("value", 100, 0), {}, 1.0),
        Example(_series("value", 0, 100), {}, None, status=Status.INVALID_INPUT),
        Example("bought", {}, None, status=Status.INVALID_INPUT),
    ),
)
def max_drawdown(response: Response, reference: Json) -> float:  # noqa: ARG001  # the trainer knows the numbers
    """The deepest fall from a peak of the portfolio's value, as a share of the peak, in [0, 1]; 0 is the best.

    The trainer sends the values in time as signals ``value_0``, ``value_1``, …; the first is above 0, none
    is negative. Raises ``InvalidInput`` where one is missing or is not such a number.
    """
    values = _numbers(response, "value", 1)
    if values[0] <= 0 or min(values) < 0:
        raise InvalidInput("signals.value_0 must be above 0 and no value negative", field="signals")
    peak, deepest = values[0], 0.0
    for value in values:
        peak = max(peak, value)
        deepest = max(deepest, 1 - value / peak)
    return deepest


def _numbers(response: Response, kind: str, least: int) -> list[float]:
    """The signals ``kind_0``, ``kind_1``, … in order; raises ``InvalidInput`` for a gap or a bad number."""
    found = {}
    for name, value in response.signals.items():
        match = _PLACE.fullmatch(name)
        if match and match.group(1) == kind:
            found[int(match.group(2))] = value
    if len(found) < least or set(found) != set(range(len(found))):
        reason = f"signals must hold {kind}_0, {kind}_1, … without a gap, at least {least}"
        raise InvalidInput(reason, field=f"signals.{kind}_0")
    if not all(abs(value) <= LARGEST for value in found.values()):
        raise InvalidInput(f"signals.{kind}_… must be finite numbers up to 1e9", field="signals")
    return [found[place] for place in range(len(found))]
