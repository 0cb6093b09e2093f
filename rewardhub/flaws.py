"""What a scorer gave that is no score: law 1 for plugins, judges and models alike."""

import math
import signal
import threading
from collections.abc import Mapping
from numbers import Real
from operator import is_
from types import NoneType
from typing import Any

from rewardhub.types import Json, Score, Status
from rewardhub.wire.lines import MAX_DEPTH, MAX_DIGITS

_SAFE = {str, bool, NoneType}
_MAX_BITS = int(MAX_DIGITS / math.log10(2))


def sound(score: Score) -> Score | str:
    """The score with Python's own floats and details of JSON, which every message holds; or why it is none: a failure
    has no value, numbers are finite, a confidence lies in [0, 1], and details are JSON.
    """
    value, confidence = score.value, score.confidence
    if type(score.status) is not Status:
        return "the scorer returned a status that is none"
    if value is not None:
        value = as_float(value)
        if value is None:
            return "the scorer returned a value that is no finite number"
        if not score.status.is_verdict:
            return f"the scorer returned a value with the status {score.status}"
    elif score.status is Status.OK:
        return "the scorer returned no value with the status ok"
    if confidence is not None:
        confidence = as_float(confidence)
        if confidence is None or not 0.0 <= confidence <= 1.0:
            return "the scorer returned a confidence that is no number in [0, 1]"
    steps = _steps(score.steps)
    if steps is None:
        return "the scorer returned steps that are no list of finite numbers"
    try:
        details = json_details(score.details)
    except (TypeError, ValueError):
        return "the scorer returned details that are not JSON"
    same = value is score.value and confidence is score.confidence and steps is score.steps
    if same and details is score.details and type(score) is Score:
        return score
    return Score(value, score.status, confidence, steps=steps, details=details)


def as_float(number: Any) -> float | None:
    """The number as Python's own float, which is the same whoever asks; None for what is no finite number."""
    if type(number) is not float:
        if not isinstance(number, (float, Real)):
            return None
        try:
            number = float(number)
        except OverflowError:  # an integer beyond all floats
            return None
    return number if math.isfinite(number) else None


def _steps(given: Any) -> tuple[float | None, ...] | None:
    """The same object where nothing differs; None for what is no list of finite numbers."""
    if type(given) is tuple and not given:
        return given
    listed = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(listed, tuple | list):
        return None
    made = tuple(None if each is None else as_float(each) for each in listed)
    if any(mine is None and each is not None for mine, each in zip(made, listed, strict=True)):
        return None
    return given if type(given) is tuple and all(map(is_, made, given)) else made


def is_interrupt(error: BaseException) -> bool:
    """Whether somebody pressed Ctrl-C; code of a plugin may raise the same, in any thread."""
    asked = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and asked and threading.current_thread() is threading.main_thread()


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
