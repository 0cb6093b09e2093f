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
_PIECE = re.compile(r"<\|?\w{1,40}\|?>|\S")
_SKIPPED = re.compile(r"\s+|<\|?\w{0,20}(?:image|video|vision)\w{0,20}\|?>")


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
    end and padding tokens. In the prompt white space may differ, as decoding changes it, and placeholders of images
    may come once per patch.

    Raises ``InvalidInput`` where the query does not begin with its prompt, which would be scored as if it were said.
    """
    rest = query[len(prompt) :] if query.startswith(prompt) else _behind(query, prompt)
    if rest is None:
        raise InvalidInput(f"{where} does not begin with its prompt", field=where)
    return _ENDS.sub("", rest)


def _behind(query: str, prompt: str) -> str | None:
    place = 0
    for piece in _PIECE.finditer(prompt):
        while not query.startswith(piece[0], place):
            skipped = _SKIPPED.match(query, place)
            if skipped is None:
                return None
            place = skipped.end()
        place += len(piece[0])
    return query[place:]
