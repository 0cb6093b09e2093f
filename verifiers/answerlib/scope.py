"""Where in a response the answer stands. Linear in the length of the response."""

import re
from typing import Literal, NamedTuple

from rewardhub.errors import NoAnswer
from rewardhub.verifiers.tags import said, stated_answer

Extract = Literal["stated", "whole"]

LONGEST = 20_000
"""Characters of an answer that are looked at; a longer one is malformed."""

# Runs on at most LONGEST characters; every repetition is bounded or of one class.
_PHRASE = re.compile(
    r"\banswers?\b(?:\s{1,3}(?:to|of|for)\b[^.\n:=]{0,40}?)?\s{0,3}(?:\*\*)?\s{0,3}"
    r"(?:\b(?:is|are|would be|should be)\b\s{0,3}[:：]?|[:：=])"
    r"|#{4}(?=\s{0,3}[-+$]?[0-9.])|答案(?:是|为)?\s{0,3}[:：]?",
    re.IGNORECASE,
)
_STOP = re.compile(r"\n|\.(?=\s|$)")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit)\{([^{}]*)\}")


class Scope(NamedTuple):
    """The text to read the answer from; ``stated``: marked by a tag or a box; ``phrase``: behind "answer is"."""

    text: str
    stated: bool
    phrase: bool = False


def scope_of(text: str, extract: Extract = "stated") -> Scope:
    """The answer tag or box, else what stands behind the last "answer is" (or GSM8K's ####), else the whole text.

    ``whole`` is the response as it is. Raises ``NoAnswer`` where nothing but blanks is left.
    """
    found = Scope(text, stated=True) if extract == "whole" else _stated(text)
    if not found.text.strip():
        raise NoAnswer("the answer is empty" if found.stated else "the response is empty")
    return found


def tagged(text: str) -> str:
    """The answer tag or box of a text, else the whole text: for answers of many words."""
    stated = stated_answer(text)
    return said(text) if stated is None else stated


def _stated(text: str) -> Scope:
    stated = stated_answer(text)
    if stated is not None:
        return Scope(stated.strip(), stated=True)
    text = said(text)
    tail = text[-LONGEST:]
    for phrase in reversed(list(_PHRASE.finditer(tail))):
        rest = tail[phrase.end() :].strip()
        stop = _STOP.search(rest)
        found = (rest[: stop.start()] if stop else rest).strip(" *")
        if found:
            return Scope(found, stated=False, phrase=True)
    return Scope(text.strip(), stated=False)


def without_text_commands(text: str) -> str:
    r"""The text without dollar signs around it and without ``\text{}`` and its like."""
    inner = text.strip()
    if "\\" in inner or "$" in inner:
        inner = _TEXT.sub(r"\1", inner[:LONGEST]).strip().strip("$").strip()
    return inner
