"""How many sentences a text has.

Conventions of the Punkt splitter that the public script uses: a sentence ends at ``. ! ?`` before white
space, a line end alone is no end. Where Punkt is known to miscount, this differs: the number of a list
item is no sentence, marks without a letter or digit are none, terminators of other scripts count, a
quoted question inside a sentence does not end it.
"""

import re
import sys
from collections.abc import Iterator
from itertools import chain, islice

# Possessive quantifiers and the lookbehind keep this linear: each run of marks is tried once.
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]}*_`]*+(?=\s+(\S)|\s*\Z)")
_WORD = re.compile(r"\w")
_LIST_NUMBER = re.compile(r"(?m)^[ \t*_#>-]*+(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,4})\.(?=[ \t]+\S)")
_JAPANESE = re.compile(r"[「『（(\[」』）)\]。！？!?]")
_FOREIGN = str.maketrans({"。": "! ", "！": "! ", "？": "? ", "।": "! ", "॥": "! ", "۔": "! ", "؟": "? "})
_OPENING, _CLOSING = "「『（([", "」』）)]"
_BACK = 40
_LONGEST = 8
"""Characters read back from a period; of the longest abbreviation or initials."""
_QUOTES = "\"'”’»"


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEVER = _set(
    "mr mrs ms dr prof st mt rev gen capt lt sgt gov vs e.g i.e cf approx"
    " sr sra srta dra ud uds p.ej ee.uu mme mlle mgr p.ex"
)
"""Abbreviations with a word to follow: none ends a sentence."""
_SOMETIMES = _set("etc inc ltd co corp jr a.m p.m ph.d j.-c apr aug dec feb jan oct sept")
"""Abbreviations that end a sentence where a capital letter follows; so do initials such as U.S."""
_NUMBERED = _set("no nº fig vol art núm pág p ch cap sec")
"""Abbreviations in front of a number."""


def sentence_count(text: str, language: str, most: int = sys.maxsize) -> int:
    """The number of sentences of ``text``, counted no further than ``most``; linear in its length."""
    if language == "ja":
        ends = _japanese(text)
    else:
        ends = _western((_LIST_NUMBER.sub("", text) if "." in text else text).translate(_FOREIGN))
    return sum(1 for _ in islice(ends, most))


def _western(text: str) -> Iterator[int]:
    """Where each sentence ends."""
    begin = 0
    for match in _END.finditer(text):
        if _breaks(text, match):
            if _WORD.search(text, begin, match.start()):
                yield match.end()
            begin = match.end()
    if _WORD.search(text, begin):
        yield len(text)


def _breaks(text: str, match: "re.Match[str]") -> bool:
    """Whether this run of marks ends its sentence."""
    marks, following = match.group(), match.group(1)
    if not following:
        return True
    if marks == ".":
        return _period_breaks(text, match.start(), following)
    if "?" in marks or "!" in marks:
        return not (marks[-1] in _QUOTES and following.islower())
    if len(marks.rstrip(_QUOTES + ")]}*_`")) > 1 or "…" in marks:
        return following in _QUOTES or (following.isalpha() and not following.islower())
    return _period_breaks(text, match.start(), following)


def _period_breaks(text: str, period: int, following: str) -> bool:
    window = text[max(0, period - _BACK) : period]
    words = window[window.rfind("\n") + 1 :].split()
    raw = words[-1].lstrip("(\"'“«[*_") if words and not window[-1].isspace() else ""
    if not raw or len(raw) > _LONGEST or raw.isdigit():
        return True
    word = raw.lower()
    if word in _NEVER or (word in _NUMBERED and following.isdigit()):
        return False
    if len(raw) == 1 and raw.isupper() and raw != "I":
        # "J. Smith" and "John F. Kennedy", not "the answer is A. Then".
        return not (len(words) == 1 or words[-2][0].isupper()) or not following.isupper()
    initials = len(word) > 2 and all(len(part) == 1 for part in word.split("."))
    return following.isupper() if word in _SOMETIMES or initials else True


def _japanese(text: str) -> Iterator[int]:
    """Sentences end at 。！？ outside brackets, and at line ends."""
    return chain.from_iterable(map(_japanese_line, text.split("\n")))


def _japanese_line(line: str) -> Iterator[int]:
    begin, depth = 0, 0
    for match in _JAPANESE.finditer(line):
        mark = match.group()
        if mark in _OPENING:
            depth += 1
        elif mark in _CLOSING:
            depth = max(0, depth - 1)
        elif depth == 0:
            if _WORD.search(line, begin, match.start()):
                yield match.end()
            begin = match.end()
    if _WORD.search(line, begin):
        yield len(line)
