"""``pattern``: whether a response has the form that a regular expression describes."""

from functools import lru_cache
from typing import Annotated, Literal

import re2
from pydantic import AfterValidator, Field

from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score
from rewardhub.verifiers.tags import last_tagged

Match = Literal["search", "full"]


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> "re2._Regexp[str]":
    options = re2.Options()
    options.dot_nl, options.log_errors, options.max_mem = True, False, 1 << 20
    return re2.compile(pattern, options)


def _checked(pattern: str) -> str:
    try:
        _compiled(pattern)
    except re2.error as error:
        raise ValueError(f"not an RE2 pattern: {error}") from None
    return pattern


Pattern = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_checked)]

_BOX = {"pattern": r"\{[^{}]*\[\s*\d+(\s*,\s*\d+){3}\s*\][^{}]*\}", "within": "answer"}
_FINAL = {"pattern": r".*####\s*-?\d+\s*", "match": "full"}
_EXAMPLES = (
    Example('<answer>{"Position": [1, 2, 30, 40]}</answer>', {}, 1.0, _BOX),
    Example('<answer>{"Position": [1, 2, 30]}</answer>', {}, 0.0, _BOX),
    Example("<answer>[1, 2, 30, 40]</answer>", {}, 0.0, _BOX),
    Example('{"Position": [1, 2, 30, 40]}', {}, 0.0, _BOX),
    Example("two and two\nare four\n#### 4", {}, 1.0, _FINAL),
    Example("#### 4, I think", {}, 0.0, _FINAL),
    Example("", {}, 0.0, _FINAL),
)


@verifier(
    "pattern",
    libraries=("google-re2",),
    sources=("rewardhub.verifiers.tags",),
    examples=_EXAMPLES,
)
def pattern(
    response: Response,
    reference: Json,  # noqa: ARG001  # a form has no reference
    *,
    pattern: Pattern,
    match: Match = "search",
    within: str = "",
) -> Score:
    """1.0 where RE2's ``pattern`` is found in the response, or with ``match="full"`` is all of it; else 0.0.

    ``.`` stands for line ends too. ``within`` names the tag whose last closed element is looked at instead of
    the whole. RE2 is linear in the response and has no look-around and no back-references. A pattern
    that RE2 does not compile is refused when the recipe is loaded.
    """
    text = last_tagged(response.text, within) if within else response.text
    if text is None:
        return Score(0.0, details={"reason": f"<{within}> is missing"})
    compiled = _compiled(pattern)
    found = compiled.search(text) if match == "search" else compiled.fullmatch(text)
    return Score(1.0) if found else Score(0.0, details={"reason": "the pattern does not match"})
