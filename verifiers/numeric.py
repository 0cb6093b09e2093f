"""``numeric``, ``regression`` and ``count``: answers that are one number."""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.answerlib.numerals import (
    Number,
    Percent,
    Several,
    as_value,
    number_of,
    reference_number,
    relative_error,
    same_percent,
    stated_number,
)
from rewardhub.verifiers.answerlib.scope import Extract, scope_of
from rewardhub.verifiers.answerlib.words import worded_number

_SOURCES = tuple(f"rewardhub.verifiers.{name}" for name in ("tags", "answerlib.scope", "answerlib.numerals"))
_THRESHOLDS = [Fraction(percent, 100) for percent in range(50, 100, 5)]
_Tolerance = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]

_TEN, _HUNDRED = {"answer": 10}, {"answer": 100}


@verifier(
    "numeric",
    sources=_SOURCES,
    examples=(
        Example("1,200", {"answer": 1200}, 1.0),
        Example("1,200", {"answer": 1200}, 0.0, {"comma_parity": True}),
        Example("42", {"answer": "42.0"}, 1.0),
        Example("42", {"answer": "42.0"}, 0.0, {"decimal_parity": True}),
        Example("3.141", {"answer": "3.142"}, 1.0),
        Example("3.141", {"answer": "3.142"}, 0.0, {"decimals": None}),
        Example("3", {"answer": "3.0"}, 1.0),
        Example("<answer>18.005</answer>", {"answer": 18}, 1.0, {"decimals": None, "abs_tol": 0.01}),
        Example("10.9", {"answer": 11}, 0.0, {"decimals": None, "rel_tol": 1e-4}),
        Example("<answer>10 (or 8)</answer>", {"answer": 10}, 0.0),
        Example("3,14", {"answer": "3,14"}, 1.0, {"decimal_comma": True}),
        Example("12%", {"answer": "0.12"}, 1.0),
        Example("12%", {"answer": 12}, 1.0, {"percent": "ignore"}),
        Example("12%", {"answer": 12}, 0.0, {"percent": "match"}),
        Example("<answer>blue</answer>", {"answer": 7}, 0.0),
        Example("I do not know", {"answer": 7}, None, status=Status.NO_ANSWER),
        Example("7", {"answer": "seven"}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)  # fmt: skip
def numeric(
    response: Response, reference: Json, *,
    decimals: Annotated[int, Field(ge=0, le=12)] | None = 2,
    abs_tol: _Tolerance = 0.0,
    rel_tol: _Tolerance = 0.0,
    decimal_parity: bool = False,
    comma_parity: bool = False,
    decimal_comma: bool = False,
    percent: Percent = "value",
    several: Several = "wrong",
    extract: Extract = "stated",
) -> Score:  # fmt: skip
    """1.0 where the stated number equals ``reference.answer``, else 0.0 with the reason.

    Equal means: the same after rounding both half to even to ``decimals`` places (None: exactly), or
    |difference| <= ``abs_tol``, or <= ``rel_tol`` times the reference. ``decimal_parity`` and
    ``comma_parity`` also ask that both or neither are written with "." or with ","; the public form is
    two decimals with both parities (GRPO-CARE, HumanOmniV2) or with decimal parity (VideoRFT).
    Thousands may be grouped by commas; ``decimal_comma`` swaps comma and point. ``percent``: "12%" is
    0.12 (``value``), is 12 (``ignore``), or equals percentages only (``match``). A number of over 400
    digits is wrong. Details: ``extracted``.
    """
    gold = reference_number(reference, decimal_comma=decimal_comma)
    number, reason = stated_number(response.text, extract=extract, several=several, decimal_comma=decimal_comma)
    if number is None:
        return Score(0.0, details={"reason": reason})
    value, wanted = as_value(number, percent), as_value(gold, percent)
    gap = abs(value - wanted)
    same = gap <= Fraction(str(abs_tol)) or gap <= Fraction(str(rel_tol)) * abs(wanted)
    same = same or (decimals is not None and round(value, decimals) == round(wanted, decimals))
    reason = "" if same else "another number"
    reason = reason or _form(number, gold, decimal_parity, comma_parity, percent)
    return Score(float(not reason), details={"extracted": _shown(value)} | ({"reason": reason} if reason else {}))


@verifier(
    "regression",
    sources=_SOURCES,
    examples=(
        Example("108", _HUNDRED, 0.92),
        Example("108", _HUNDRED, 0.9, {"form": "mra"}),
        Example("122", _HUNDRED, 0.6, {"form": "mra"}),
        Example("151", _HUNDRED, 0.49),
        Example("151", _HUNDRED, 0.0, {"form": "mra"}),
        Example("12", _TEN, 0.8),
        Example("12", _TEN, 0.6, {"form": "mra"}),
        Example("0", {"answer": 0}, 1.0),
        Example("0.1", {"answer": 0}, 0.0),
        Example("0.1", {"answer": 0}, 0.9, {"floor": 1.0}),
        Example("-100", _HUNDRED, 0.0),
        Example("1e308", _HUNDRED, 0.0),
        Example("nothing", _HUNDRED, None, status=Status.NO_ANSWER),
    ),
)
def regression(
    response: Response, reference: Json, *,
    form: Literal["relative", "mra"] = "relative",
    floor: _Tolerance = 0.0,
    percent: Percent = "value",
    decimal_comma: bool = False,
    several: Several = "wrong",
    extract: Extract = "stated",
) -> Score:  # fmt: skip
    """How near the stated number is to ``reference.answer``, in [0, 1].

    With e = |number - reference| / max(|reference|, ``floor``): ``relative`` is 1 - min(1, e) (GRPO-CARE,
    HumanOmniV2, VideoRFT); ``mra`` is the Mean Relative Accuracy, the share of the thresholds t = 0.50,
    0.55, … 0.95 with e < 1 - t (OneThinker; Yang et al. 2024, "Thinking in Space"), in exact arithmetic.
    Where the reference and the floor are 0, only 0 is right. Details: ``extracted``, ``error``.
    """
    gold = reference_number(reference, decimal_comma=decimal_comma)
    number, reason = stated_number(response.text, extract=extract, several=several, decimal_comma=decimal_comma)
    if number is None:
        return Score(0.0, details={"reason": reason})
    value = as_value(number, percent)
    details: dict[str, object] = {"extracted": _shown(value)}
    error = relative_error(value, as_value(gold, percent), floor)
    if not same_percent(number, gold, percent):
        return Score(0.0, details=details | {"reason": "one is a percentage, the other is not"})
    if error is None:
        return Score(0.0, details=details | {"reason": "the reference is 0, the answer is not"})
    if form == "relative":
        near = float(1 - min(Fraction(1), error))
    else:
        near = sum(error < 1 - threshold for threshold in _THRESHOLDS) / len(_THRESHOLDS)
    return Score(near, details=details | {"error": _shown(error)} | ({} if near else {"reason": "too far off"}))


@verifier(
    "count",
    sources=(*_SOURCES, "rewardhub.verifiers.answerlib.words"),
    examples=(
        Example("07", {"answer": "7"}, 1.0),
        Example("1", {"answer": "1"}, 1.0),
        Example("There are 3 red and 4 blue ones. The answer is 7.", {"answer": 7}, 1.0),
        Example("<answer>seven</answer>", {"answer": 7}, 0.0),
        Example("<answer>seven</answer>", {"answer": 7}, 1.0, {"number_words": True}),
        Example("<answer>twenty-one</answer>", {"answer": 21}, 1.0, {"number_words": True}),
        Example("seven", {"answer": 7}, None, status=Status.NO_ANSWER),
        Example("7.5", {"answer": 7}, 0.0),
        Example("8", {"answer": 7}, 0.0),
        Example("<answer>7 or 8</answer>", {"answer": 7}, 0.0),
        Example("7", {"answer": 7.5}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def count(
    response: Response, reference: Json, *,
    number_words: bool = False,
    several: Several = "wrong",
    extract: Extract = "stated",
) -> Score:  # fmt: skip
    """1.0 where the stated whole number equals ``reference.answer``, else 0.0 with the reason.

    Leading zeros do not count and 7.0 is 7. ``number_words`` also reads an answer that is nothing but a
    number in words, as a whole or behind "answer is". Details: ``extracted``.
    """
    gold = number_of(reference.get("answer"), "reference.answer")
    if gold.value.denominator != 1:
        number_of(None, "reference.answer, for a count,")
    worded = worded_number(scope_of(response.text, extract).text[:1_000]) if number_words else None
    found = None if worded is not None else stated_number(response.text, extract=extract, several=several)
    if found and found.number is None:
        return Score(0.0, details={"reason": found.reason})
    value = found.number.value if found and found.number else Fraction(worded or 0)
    reason = "" if value == gold.value else "another number"
    return Score(float(not reason), details={"extracted": _shown(value)} | ({"reason": reason} if reason else {}))


def _form(number: Number, gold: Number, decimal_parity: bool, comma_parity: bool, percent: Percent) -> str:
    """How the two are written differently, where that is asked for."""
    if decimal_parity and number.point != gold.point:
        return "one is written with a decimal point, the other is not"
    if comma_parity and number.comma != gold.comma:
        return "one is written with a comma, the other is not"
    return "" if same_percent(number, gold, percent) else "one is a percentage, the other is not"


def _shown(value: Fraction) -> float | str:
    """A number for the details: JSON has no larger one than a float."""
    try:
        return float(value)
    except OverflowError:
        return "over 1e308"
