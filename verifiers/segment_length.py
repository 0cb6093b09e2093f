"""``segment_length``: whether a reasoning trace says something between its region calls."""

from typing import Annotated

import re2
from pydantic import Field

from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score

_CALL = re2.compile(r"\{[^{}]*\"bbox_2d\"[^{}]*\}?")

_BOX = '{"bbox_2d": [0, 0, 5, 5]}'
_EXAMPLES = (
    Example(f"I look here:{_BOX}it is a cat", {}, 0.1),
    Example(f"abcd{_BOX}it is a cat", {}, 0.04),
    Example(f"{_BOX}it is a cat", {}, 0.1),
    Example(f"abcd {_BOX}  {_BOX} it is a cat", {}, 0.04),
    Example("", {}, 0.0),
)


@verifier("segment_length", examples=_EXAMPLES, libraries=("google-re2",))
def segment_length(
    response: Response,
    reference: Json,  # noqa: ARG001  # reads the response alone
    *,
    per_char: Annotated[float, Field(gt=0.0, le=1.0)] = 0.01,
    most: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1,
) -> Score:
    """``per_char`` times the characters of the shortest segment between region calls, at most ``most``.

    A region call is a ``{"bbox_2d": […]}``, readable or not. Segments are stripped; blank ones do not
    count. VLM-R3 (justgogorunrun/VLM-R3). Details: ``shortest``, in characters.
    """
    text = response.text
    segments = [segment.strip() for segment in _CALL.split(text)]
    shortest = min((len(segment) for segment in segments if segment), default=0)
    return Score(min(most, per_char * shortest), details={"shortest": shortest})
