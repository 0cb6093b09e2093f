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


def is_plain(response: Response) -> bool:
    """Whether it is nothing but a text: the common case, which costs a tenth of the others."""
    rich = response.messages or response.signals or response.steps or response.media
    return not rich and response.tokens is None


def plain_texts(responses: Sequence[Response]) -> list[str] | None:
    """The texts of responses that are all plain; None where one is not."""
    texts = [each.text for each in responses if is_plain(each) and isinstance(each.text, str)]
    return texts if len(texts) == len(responses) else None


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
