"""Thoughts of an answer, as the published chat templates of Qwen3 and Qwen3.5 write them."""

from collections.abc import Sequence
from typing import Any, Literal

Thinks = Literal["", "last", "every"]
"""Where a block of thoughts is written though the answer has none: nowhere; in the conversation's last message, if that
is an answer; in every answer behind the last user's message. Thoughts of earlier answers are left out."""

BEGIN, END = "<think>", "</think>"
EMPTY = f"{BEGIN}\n\n{END}\n\n"


def with_thoughts(content: Sequence[Any], *, empty: bool, trimmed: bool) -> list[Any]:
    """An answer behind the block of its thoughts, which is written where it has none if ``empty`` says so."""
    first = content[0] if content else ""
    if not isinstance(first, str):
        return [EMPTY, *content] if empty else list(content)
    found = _split(first)
    if found is None:
        return [EMPTY, first.lstrip("\n"), *content[1:]] if empty else list(content)
    thought = found[0].strip() if trimmed else found[0].strip("\n")
    return [f"{BEGIN}\n{thought}\n{END}\n\n", found[1], *content[1:]]


def without_thoughts(content: Sequence[Any]) -> list[Any]:
    """An answer less its thoughts."""
    found = _split(content[0]) if content and isinstance(content[0], str) else None
    return list(content) if found is None else [found[1], *content[1:]]


def _split(text: str) -> tuple[str, str] | None:
    """The thoughts that a text begins with, whose beginning may have stood in the prompt, and what is said behind them.

    None for any other text, tags in disorder included: templates leave out some of what such an answer says, which
    would hide a policy's words from its reward.
    """
    thought, end, rest = text.partition(END)
    before, begin, inner = thought.rpartition(BEGIN)
    if not end or END in rest or BEGIN in rest or before.strip():
        return None
    return (inner if begin else thought), rest.lstrip("\n")
