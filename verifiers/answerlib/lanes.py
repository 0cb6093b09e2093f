"""Which responses are scored in process: the short ones; the others go to the pool."""

from collections.abc import Callable
from typing import Any

from rewardhub.types import Json, Response, Score


def if_short(function: Callable[..., Score], chars: int) -> Callable[..., Score | None]:
    """The ``fast`` form of a verifier: the same verdict, for responses and references that take under a
    millisecond; None above ``chars`` characters of response or of a text of the reference.
    """

    def fast(response: Response, reference: Json, **params: Any) -> Score | None:
        if len(response.text) > chars or any(_size(value) > chars for value in reference.values()):
            return None
        return function(response, reference, **params)

    return fast


def _size(value: Any) -> int:
    if isinstance(value, list | tuple):
        return sum(len(item) if isinstance(item, str) else 1 for item in value)
    return len(value) if isinstance(value, str) else 1
