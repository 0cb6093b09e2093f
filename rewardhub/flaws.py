"""What a scorer gave that is no score: law 1 for plugins, judges and models alike."""

import math
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from types import NoneType
from typing import Any

from rewardhub.types import Json, Score, Status
from rewardhub.wire.lines import MAX_DEPTH, MAX_DIGITS

_SAFE = {str, bool, NoneType}
_MAX_BITS = int(MAX_DIGITS / math.log10(2))


def sound(score: Score) -> Score | str:
    """The score with Python's own floats and details of JSON, which every message holds; or why it is none: a failure
    has no value, numbers are finite, and details are JSON.
    """
    if score.value is None:
        if score.status is Status.OK:
            return "the scorer returned no value with the status ok"
    elif not finite(score.value):
        return "the scorer returned a value that is no finite number"
    elif not score.status.is_verdict:
        return f"the scorer returned a value with the status {score.status}"
    numbers = (score.value, score.confidence, *score.steps)
    if not all(each is None or finite(each) for each in numbers[1:]):
        return "the scorer returned steps or a confidence that are no finite numbers"
    try:
        details = json_details(score.details)
    except (TypeError, ValueError):
        return "the scorer returned details that are not JSON"
    if details is score.details and all(type(each) in {float, NoneType} for each in numbers):
        return score
    value, confidence, *steps = (None if each is None else float(each) for each in numbers)
    return replace(score, value=value, confidence=confidence, steps=tuple(steps), details=details)


def is_interrupt(error: BaseException) -> bool:
    """Whether somebody pressed Ctrl-C; code of a plugin may raise the same, in any thread."""
    asked = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and asked and threading.current_thread() is threading.main_thread()


def finite(number: object) -> bool:
    """Whether it is a number, and not NaN or without bounds."""
    try:
        return isinstance(number, (float, Real)) and math.isfinite(number)
    except OverflowError:  # an integer beyond all floats
        return False


def json_details(details: Json) -> Json:
    """The details as every lane and door gives them: null where a number is not finite, lists for arrays.

    The same object where nothing differs. Raises ``TypeError`` or ``ValueError`` for what is no JSON object, or nested
    deeper than ``MAX_DEPTH``.
    """
    if type(details) is not dict and not isinstance(details, Mapping):
        raise TypeError("details are an object")
    if _SAFE.issuperset(map(type, details.values())) and {str}.issuperset(map(type, details)):
        return details
    value: Json = _json(details, MAX_DEPTH)
    return value


def _json(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _SAFE:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is int:
        return _integer(value)
    if not depth:
        raise ValueError("nested too deeply")
    if kind is dict or isinstance(value, Mapping):
        made = {_key(key): _json(item, depth - 1) for key, item in value.items()}
        same = kind is dict and all(mine is theirs for mine, theirs in zip(made.values(), value.values(), strict=True))
        return value if same and made.keys() == value.keys() else made
    if isinstance(value, list | tuple):
        items = [_json(item, depth - 1) for item in value]
        return value if all(mine is theirs for mine, theirs in zip(items, value, strict=True)) else items
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if not hasattr(value, "tolist"):
        raise TypeError(f"{kind.__name__} is no JSON value")
    return _json(value.tolist(), depth - 1)


def _integer(value: int) -> int:
    if value.bit_length() > _MAX_BITS:
        raise ValueError("an integer of too many digits")
    return value


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, int | float):
        return repr(key)
    raise TypeError(f"{type(key).__name__} is no name in JSON")
