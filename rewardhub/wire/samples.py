"""Samples as trainers hold them, whose references and responses are not yet in the hub's form."""

import math
import re
from collections.abc import Mapping
from typing import Any

from rewardhub.errors import InvalidInput
from rewardhub.types import Json

_ENDS = re.compile(
    r"(?:\s|<\|(?:im_end|endoftext|end_of_text|eot_id|end|eot|return|end_of_turn)\|>|<end_of_turn>|<eos>|</s>|<pad>"
    r"|<\uff5cend\u2581of\u2581sentence\uff5c>)+\Z"
)
"""End-of-turn, end-of-text and padding tokens of the usual families; nothing else of a response is touched."""


def as_reference(value: Any) -> Json:
    """An object as it is; anything else becomes ``{"answer": value}``, numbers as text, arrays as lists.

    None and NaN, which tables hold where they hold nothing, are no reference: ``{}``.
    """
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "tolist") and not isinstance(value, str):
        value = value.tolist()  # of NumPy or torch
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return {}
    return {"answer": str(value) if isinstance(value, int | float) else value}


def said(query: str, prompt: str, where: str) -> str:
    """The response in a query, which is the decoded tokens of prompt and response: without the prompt and without the
    end and padding tokens. White space of the prompt may differ, as decoding changes it.

    Raises ``InvalidInput`` where the query does not begin with its prompt, which would be scored as if it were said.
    """
    rest = query[len(prompt) :] if query.startswith(prompt) else _behind(query, prompt)
    if rest is None:
        raise InvalidInput(f"{where} does not begin with its prompt", field=where)
    return _ENDS.sub("", rest)


def _behind(query: str, prompt: str) -> str | None:
    place = 0
    for wanted in filter(None, map(str.strip, prompt)):
        while query[place : place + 1].isspace():
            place += 1
        if query[place : place + 1] != wanted:
            return None
        place += 1
    return query[place:]
