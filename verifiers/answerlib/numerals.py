"""Numbers as people write them: 1,200 and 12.5 % and 3e5, read exactly and with bounds."""

import math
import re
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from rewardhub.errors import NoAnswer, ReferenceUnparseable
from rewardhub.types import Json
from rewardhub.verifiers.answerlib.scope import LONGEST, Extract, Scope, scope_of

Percent = Literal["value", "ignore", "match"]
Several = Literal["wrong", "first", "last"]

MAX_DIGITS, MAX_EXPONENT = 400, 330
_NEAR = 2_000
"""Characters that an answer of one number may take; in free text, characters before the end looked at first."""

# A run begins where no word or number stands before, so the matches never overlap: linear time.
_RUN = re.compile(r"(?<![\w.])([-+]?)[$€£¥]?(\.?[0-9][0-9.,]*)([eE][-+]?[0-9]+)?(\s?%)?")
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{2,3})*,[0-9]{3}")
_PLAIN = re.compile(r"[0-9]*\.?[0-9]*")
_HEDGE = re.compile(r"[(\[]? ?(?:or|and|to|[-~,;/&|])? ?(?:or|maybe|perhaps|approximately)?")
_OTHERWISE = re.compile(r"[^.;:=\d]{0,12}\bor\b[^.;:=\d]{0,12}", re.IGNORECASE)
_DENIED = re.compile(
    r"(?:\b(?:not|never|cannot|neither|(?:anything|everything|all) but|other than|rather than|instead of)|n['’]t)"
    r"(?: be| equal(?: to)?| the answer| is)? ?[\s(}$]{0,3}$|(?:^\s?<|≠|\\neq?|\\[lg]t)\s?$",
    re.IGNORECASE,
)
_RULED_OUT = re.compile(r"[\s)$]{0,3}(?:is|are|was)?(?: not|n['’]t| wrong| incorrect)\b", re.IGNORECASE)
_MINUS = str.maketrans("−–﹣－．，％", "----.,%")
_WIDE = str.maketrans("０１２３４５６７８９", "0123456789")


class Number(NamedTuple):
    """An exact value and how it was written."""

    value: Fraction
    point: bool = False
    comma: bool = False
    percent: bool = False


class Found(NamedTuple):
    """A number of a response, or why its answer is none."""

    number: Number | None
    reason: str = ""


def read_number(text: str, *, decimal_comma: bool = False) -> Number | None:
    """The number that a whole text is; None where it is anything else. A percent sign and money may stand."""
    clean = _clean(text.strip())
    match = _RUN.fullmatch(clean) if len(clean) <= 2 * MAX_DIGITS else None
    return _number(match, decimal_comma) if match else None


def stated_number(
    text: str, *, extract: Extract = "stated", several: Several = "wrong", decimal_comma: bool = False
) -> Found:
    """The number that a response gives as its answer.

    In a tag or box there must be one value ("10 (or 8)" is wrong) unless ``several`` says which counts;
    behind "answer is" it is the first number, unless another follows at once; in free text the last.
    Raises ``NoAnswer`` for free text without any number.
    """
    scope = scope_of(text, extract)
    if scope.stated and len(scope.text) > _NEAR:
        return Found(None, f"an answer of over {_NEAR} characters")
    matches = _matches(scope)
    if not matches and not scope.stated:
        raise NoAnswer("no number in the response")
    if not matches:
        return Found(None, "no number in the answer")
    matches = [match for match in matches if not _denied(match)]
    if not matches:
        return Found(None, "the number is denied")
    chosen = _choice(scope, matches, several, decimal_comma)
    if chosen is None:
        return Found(None, "several numbers in the answer")
    number = _number(chosen, decimal_comma)
    return Found(number, "" if number else f"{chosen[0].strip()[:40]!r} is not a number of this form")


def reference_number(reference: Json, *, decimal_comma: bool = False) -> Number:
    """The number in ``reference.answer``, a JSON number or text; raises ``ReferenceUnparseable``."""
    return number_of(reference.get("answer"), "reference.answer", decimal_comma=decimal_comma)


def number_of(value: Any, field: str, *, decimal_comma: bool = False) -> Number:
    """The number that a caller wrote; raises ``ReferenceUnparseable`` that names ``field``."""
    number = None
    if isinstance(value, str):
        number = read_number(value, decimal_comma=decimal_comma)
    elif isinstance(value, float) and math.isfinite(value):
        number = Number(Fraction(repr(value)), point=True)
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 4 * MAX_DIGITS:
        number = Number(Fraction(value))
    if number is None:
        raise ReferenceUnparseable(f"{field} must be a finite number", field=field)
    return number


def as_value(number: Number, percent: Percent) -> Fraction:
    """The value of a number: "12%" is 0.12 (``value``) or 12 (``ignore``, ``match``)."""
    return number.value / 100 if number.percent and percent == "value" else number.value


def same_percent(one: Number, other: Number, percent: Percent) -> bool:
    """Whether the rule ``match`` (both or neither are percentages) holds."""
    return percent != "match" or one.percent == other.percent


def relative_error(value: Fraction, gold: Fraction, floor: float = 0.0) -> Fraction | None:
    """|value - gold| / max(|gold|, floor); None where that is zero and the two differ."""
    gap, scale = abs(value - gold), max(abs(gold), Fraction(str(floor)))
    if not scale:
        return None if gap else Fraction(0)
    return gap / scale


def _clean(text: str) -> str:
    return text if text.isascii() else text.translate(_MINUS).translate(_WIDE)


def _matches(scope: Scope) -> list[re.Match[str]]:
    """The numbers of an answer; of free text those near its end, else those of its last part."""
    if scope.stated or scope.phrase:
        return list(_RUN.finditer(_clean(scope.text[:_NEAR])))
    found = [match for match in _RUN.finditer(_clean(scope.text[-_NEAR:])) if match.start() or len(scope.text) <= _NEAR]
    return found or list(_RUN.finditer(_clean(scope.text[-LONGEST:])))


def _choice(scope: Scope, matches: list[re.Match[str]], several: Several, decimal_comma: bool) -> re.Match[str] | None:
    """The number that counts; None where several are one too many."""
    if scope.phrase:
        hedged = len(matches) > 1 and _HEDGE.fullmatch(_between(matches[0], matches[1]))
        return None if hedged and several == "wrong" else matches[-1 if hedged and several == "last" else 0]
    if not scope.stated and any(map(str.isalpha, scope.text[-_NEAR:])):
        others = len(matches) > 1 and _OTHERWISE.fullmatch(_between(matches[-2], matches[-1]))
        return None if others and several == "wrong" else matches[-1]
    if several == "wrong" and len(matches) > 1:
        values = {number and number.value for number in (_number(match, decimal_comma) for match in matches)}
        return matches[0] if len(values) == 1 else None
    return matches[-1 if several == "last" else 0]


def _denied(match: re.Match[str]) -> bool:
    """Whether the text says that this number is not the answer."""
    before = match.string[max(0, match.start() - 40) : match.start()]
    return bool(_DENIED.search(before) or _RULED_OUT.match(match.string, match.end()))


def _between(one: re.Match[str], other: re.Match[str]) -> str:
    return " ".join(one.string[one.end() : min(other.start(), one.end() + 60)].split())


def _number(match: re.Match[str], decimal_comma: bool) -> Number | None:
    sign, digits, exponent, percent = match.groups()
    digits = digits.rstrip(".,") if not match.group(3) else digits
    if len(digits) > MAX_DIGITS or (exponent and (len(exponent) > 5 or abs(int(exponent[1:])) > MAX_EXPONENT)):
        return None
    if decimal_comma:
        digits = digits.translate(str.maketrans(".,", ",."))
    whole, point, places = digits.partition(".")
    comma = "," in whole
    if comma and not _GROUPED.fullmatch(whole):
        return None
    plain = whole.replace(",", "") + point + places
    if not _PLAIN.fullmatch(plain) or not any(map(str.isdigit, plain)):
        return None
    value = Fraction(f"{sign}{plain.rstrip('.') or '0'}{exponent or ''}")
    return Number(value, point=bool(point), comma=comma, percent=bool(percent))
