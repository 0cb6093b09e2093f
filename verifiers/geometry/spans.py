"""Time spans as people and models write them: seconds, MM:SS, HH:MM:SS, amounts with units."""

import math
from typing import Any

import re2

from rewardhub.errors import ReferenceUnparseable
from rewardhub.verifiers.geometry.reading import Wrong, numbers

MAX_SECONDS = 1e9

_UNIT = r"(?:hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)"
_AMOUNT = r"[0-9]{1,12}(?:\.[0-9]{1,9})?\s*" + _UNIT
_CLOCK = r"[0-9]{1,12}(?::[0-9]{1,2}){0,2}(?:\.[0-9]{1,9})?"
_TIME = rf"([-+]?)((?:{_AMOUNT}\s*){{0,2}}{_AMOUNT}\b|{_CLOCK})"
_GAP = r"\s*(?:,?\s*end(?:_time)?\s*[:=]|-|–|—|~|,|to\b|and\b|till\b|until\b|through\b)\s*"
# One pass of a linear-time engine over the text, case ignored.
_SPAN = re2.compile(rf"(?i)(?:^|[^\w.]){_TIME}{_GAP}{_TIME}(?:[^\w:]|$)")
_PART = re2.compile(r"(?i)([0-9]+(?:\.[0-9]+)?)\s*([hms]?)[a-z]*")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}


def find_span(text: str) -> tuple[float, float] | None:
    """Start and end in seconds of the first span in the text, or None where there is none.

    A time without a unit takes the unit of the other end ("1 to 2 minutes"), else it is in seconds.
    Raises ``Wrong`` for what is written as a span but is none: a negative time, 75 seconds in MM:SS, an
    end that is not after its start.
    """
    match = _SPAN.search(text.replace('"', " ").replace("'", " "))
    if match is None:
        return None
    first_sign, first, second_sign, second = match.groups()
    if "-" in (first_sign, second_sign):
        raise Wrong("a time is negative")
    return ordered(_seconds(first, _unit(second)), _seconds(second, ""))


def ordered(start: float, end: float) -> tuple[float, float]:
    """The span itself; raises ``Wrong`` unless 0 <= start < end."""
    if not (math.isfinite(start) and math.isfinite(end) and 0.0 <= start < end <= MAX_SECONDS):
        raise Wrong(f"the span does not run forward in time within {MAX_SECONDS:g} s")
    return start, end


def _unit(text: str) -> str:
    """The unit of a single amount, or nothing."""
    units = [unit.lower() for _, unit in _PART.findall(text)]
    return units[0] if len(units) == 1 else ""


def _seconds(text: str, unit: str) -> float:
    if ":" not in text:
        return sum(float(amount) * _SECONDS[own.lower() or unit] for amount, own in _PART.findall(text))
    parts = [float(part) for part in text.split(":")]
    if any(part >= 60.0 for part in parts[1:]):
        raise Wrong(f"{text!r} is not a time")
    return sum(part * 60.0**power for power, part in enumerate(reversed(parts)))


def reference_span(value: Any, field: str) -> tuple[float, float]:
    """The reference's span: two numbers of seconds, or text as in a response."""
    pair = numbers(value, 2)
    try:
        span = ordered(*pair) if pair else find_span(value) if isinstance(value, str) else None
    except Wrong as wrong:
        raise ReferenceUnparseable(f"{field}: {wrong}", field=field) from None
    if span is None:
        raise ReferenceUnparseable(f"{field} must be [start, end] in seconds", field=field)
    return span


def span_iou(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Intersection over union of two spans; symmetric, in [0, 1]."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return max(0.0, shared / (max(one[1], other[1]) - min(one[0], other[0])))
