"""``chart_relaxed``: answers read off a chart, within a tolerance."""

import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import Field

from rewardhub.errors import NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.answerlib.labels import normal, reference_texts
from rewardhub.verifiers.answerlib.numerals import (
    Number,
    Percent,
    as_value,
    number_of,
    read_number,
    relative_error,
    same_percent,
    stated_number,
)
from rewardhub.verifiers.answerlib.scope import LONGEST, Extract, scope_of, without_text_commands

MAX_VALUES = 1_000
_SPLIT = re.compile(r"[,;\s]+")
_LIST_EDGES = "[]() \t\n"

_HUNDRED, _YEAR, _GLM = {"answer": 100}, {"answer": 2020}, {"tolerance": 0.025, "inclusive": False}
_SERIES = {"values": [10, 20, 30]}


@verifier(
    "chart_relaxed",
    sources=tuple(
        f"rewardhub.verifiers.{name}" for name in ("tags", "answerlib.scope", "answerlib.numerals", "answerlib.labels")
    ),
    examples=(
        Example("104", _HUNDRED, 1.0),
        Example("105", _HUNDRED, 1.0),
        Example("106", _HUNDRED, 0.0),
        Example("102", _HUNDRED, 1.0, _GLM),
        Example("103", _HUNDRED, 0.0, _GLM),
        Example("102.5", _HUNDRED, 0.0, _GLM),
        Example("2019", _YEAR, 0.0),
        Example("2020", _YEAR, 1.0),
        Example("2019", _YEAR, 1.0, {"years": False}),
        Example("12%", {"answer": 12}, 0.0),
        Example("12%", {"answer": "0.12"}, 1.0),
        Example("12%", {"answer": 12}, 1.0, {"percent": "ignore"}),
        Example("12%", {"answer": 12}, 0.0, {"percent": "match"}),
        Example("New Zealand.", {"answer": "new zealand"}, 1.0),
        Example("Zealand", {"answer": "new zealand"}, 0.0),
        Example("<answer>0.001</answer>", {"answer": 0}, 0.0),
        Example("<answer>100 or 200</answer>", _HUNDRED, 0.0),
        Example("[10.4, 21.2, 30]", _SERIES, 2 / 3),
        Example("10 20", _SERIES, 2 / 3),
        Example("", _HUNDRED, None, status=Status.NO_ANSWER),
        Example("5", {"answer": ""}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def chart_relaxed(
    response: Response, reference: Json, *,
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.05,
    inclusive: bool = True,
    years: bool = True,
    percent: Percent = "value",
    extract: Extract = "stated",
) -> Score:  # fmt: skip
    """1.0 where the answer is ``reference.answer`` as a text, or as a number within ``tolerance``, else 0.0.

    Relative error e = |number - reference| / |reference|: e <= 0.05 for ChartQA (Masry et al. 2022), and
    e < 0.025 for GLM-4.1V-Thinking (``tolerance=0.025, inclusive=False``); a reference of 0 allows 0 only.
    ``years``: two plain integers from 1000 to 3000 must be equal. ``percent``: "12%" is 0.12 (``value``), is 12
    (``ignore``), or equals percentages only (``match``). A reference that is no number is compared as text,
    case and outer punctuation ignored. With ``reference.values``, a list of numbers, the value is the
    share of them that the stated list matches, place by place (the longer list counts; MSRL).
    """
    if "values" in reference:
        return _series(response, reference["values"], tolerance, inclusive, years, percent, extract)
    raw = reference.get("answer")
    golds = [] if isinstance(raw, float) else reference_texts(reference)
    numbers = [number_of(raw, "reference.answer")] if isinstance(raw, float) else _numbers(golds)
    said = without_text_commands(scope_of(response.text, extract).text)[:LONGEST]
    if normal(said, "edges", True) in {normal(gold, "edges", True) for gold in golds}:
        return Score(1.0, details={"rule": "text"})
    if not numbers:
        return Score(0.0, details={"reason": "another text"})
    number, reason = stated_number(response.text, extract=extract)
    if number is None:
        return Score(0.0, details={"reason": reason})
    close = any(_close(number, gold, tolerance, inclusive, years, percent) for gold in numbers)
    return Score(float(close), details={"rule": "number"} if close else {"reason": "outside the tolerance"})


def _series(
    response: Response, values: Any, tolerance: float, inclusive: bool, years: bool, percent: Percent, extract: Extract
) -> Score:
    field = "reference.values"
    if not isinstance(values, list | tuple) or not 0 < len(values) <= MAX_VALUES:
        raise ReferenceUnparseable(f"{field} must be 1 to {MAX_VALUES} numbers", field=field)
    golds = [number_of(value, field) for value in values]
    text = scope_of(response.text, extract).text
    parts = _SPLIT.split(text[:LONGEST].strip(_LIST_EDGES))
    if len(text) > LONGEST or len(parts) > MAX_VALUES:
        return Score(0.0, details={"reason": f"a list of over {MAX_VALUES} values"})
    numbers = [read_number(part) for part in parts]
    if not any(numbers):
        raise NoAnswer("no list of numbers in the response")
    matched = sum(
        number is not None and _close(number, gold, tolerance, inclusive, years, percent)
        for number, gold in zip(numbers, golds, strict=False)
    )
    return Score(matched / max(len(golds), len(numbers)), details={"matched": matched, "stated": len(numbers)})


def _close(number: Number, gold: Number, tolerance: float, inclusive: bool, years: bool, percent: Percent) -> bool:
    if not same_percent(number, gold, percent):
        return False
    value, wanted = as_value(number, percent), as_value(gold, percent)
    if years and _is_year(number) and _is_year(gold):
        return value == wanted
    error = relative_error(value, wanted)
    limit = Fraction(str(tolerance))
    return error is not None and (error <= limit if inclusive else error < limit)


def _numbers(texts: list[str]) -> list[Number]:
    return [number for text in texts if (number := read_number(text))]


def _is_year(number: Number) -> bool:
    plain = not (number.point or number.comma or number.percent)
    return plain and number.value.denominator == 1 and 1000 <= number.value <= 3000
