"""Responses that are nothing but a text, many at a time.

A frozen object sets its fields one by one through ``object.__setattr__``, which for a thousand short responses takes
as long as hashing them. Here each field is set for all of them together.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from itertools import repeat
from typing import Any

from rewardhub.types import Response

_TEXT, *_OTHERS = fields(Response)


def plain_responses(texts: Sequence[str]) -> tuple[Response, ...]:
    """What ``Response(text)`` is for each text."""
    made = tuple(map(object.__new__, repeat(Response, len(texts))))
    _set(_TEXT.name, made, texts)
    for other in _OTHERS:
        make = other.default_factory
        _set(other.name, made, repeat(other.default) if make is MISSING else (make() for _ in texts))
    return made


def _set(name: str, made: Sequence[Response], values: Iterable[Any]) -> None:
    deque(map(getattr(Response, name).__set__, made, values), maxlen=0)
