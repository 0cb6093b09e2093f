"""What a sentence in prose states: its value, all of them where it hedges, none of those it denies."""

import re
from collections.abc import Iterator
from typing import NamedTuple

NUMBER = re.compile(
    r"(?<![\w.])[-+]?\$?(?:\d[\d,]*\d|\d)?(?:\.\d+|(?<=\d))"
    r"(?:[eE][-+]?\d{1,4}\b)?(?:\s?/\s?\d+(?:\.\d+)?|\s\d+/\d+|:\d+)?\s?%?"
)
PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}\s+[A-Za-z]{2,}")
SEGMENT = 2_000
"""Characters of delimited mathematics."""
_DELIMITER = re.compile(r"\$\$?|\\[()\[\]$]")
_CLOSERS = {"$": "$", "$$": "$$", "\\(": "\\)", "\\[": "\\]"}
_FILLER = r"(?:\s+(?:be|equal|to|the|answer|is|just|simply|exactly|necessarily|actually)){0,3}\s*[$(*]{0,3}\s*$"
_DENIED_BEFORE = re.compile(
    rf"(?:\b(?:not|never|cannot|neither|nor|(?:other|rather) than|instead of|except|(?:anything|everything|all) but)"
    rf"|n['’]t){_FILLER}",
    re.IGNORECASE,
)
_DENIED_BEHIND = re.compile(
    r"[\s$*)]{0,4}(?:is|are|was|would be|must be)?\s?(?:not\b|n['’]t\b|wrong\b|incorrect\b|false\b|excluded\b)",
    re.IGNORECASE,
)
_SUBJECT = re.compile(r"[\s*)]{0,4}(?:is|are|was|equals|would be|will be|must be|should be)\s", re.IGNORECASE)
_ALTERNATIVE = re.compile(
    r"[^.;!?\n]{0,40}?(?:\bor\b|\||/|\bbut (?:may|could|might|perhaps|possibly)\b)[^.;!?\n=]{0,40}", re.IGNORECASE
)
_LISTED = re.compile(r"[\s$*]{0,3},?\s?(?:and|&)?[\s$*]{0,3}", re.IGNORECASE)
_CHOICE = re.compile(r"\b(?:either|between|one of|any of|among|both|maybe|perhaps|possibly)\b", re.IGNORECASE)
_BOUNDARY = re.compile(r"\n|[.!?](?=\s|$)")
_BEFORE, _BEHIND = 300, 200


class Value(NamedTuple):
    """A value of a sentence: where it begins and ends, and its text without delimiters."""

    start: int
    end: int
    text: str


def segments(text: str) -> Iterator[tuple[int, int]]:
    """Spans of delimited mathematics, delimiters included; prose between two dollar amounts is none."""
    opening: re.Match[str] | None = None
    for mark in _DELIMITER.finditer(text):
        if opening and mark[0] == _CLOSERS.get(opening[0]):
            content = text[opening.end() : mark.start()]
            if content.strip() and len(content) <= SEGMENT and not PROSE.search(content):
                yield opening.start(), mark.end()
                opening = None
                continue
        opening = mark if mark[0] in _CLOSERS else opening


def first_stated(sentence: str) -> str | None:
    """The first value, joined by ``;`` with its alternatives; the whole sentence where every value is denied."""
    return _stated(sentence, first=True)


def last_stated(text: str, start: int, end: int) -> str:
    """The value at ``start…end`` as its sentence states it: with its alternatives, or the sentence that denies it."""
    begin = max(
        (m.end() for m in _BOUNDARY.finditer(text, max(0, start - _BEFORE), start)), default=max(0, start - _BEFORE)
    )
    stop = _BOUNDARY.search(text, end, end + _BEHIND)
    sentence = text[begin : stop.start() if stop else end + _BEHIND]
    return _stated(sentence, first=False) or text[start:end]


def _stated(sentence: str, *, first: bool) -> str | None:
    found = _values(sentence)
    kept = [value for value in found if not _denied(sentence, value)]
    if not kept:
        return sentence if found else None
    kept = [value for value in kept if not _SUBJECT.match(sentence, value.end)] or kept
    chosen = _chain(sentence, kept if first else kept[::-1])
    texts = list(dict.fromkeys(value.text for value in sorted(chosen)))
    return "; ".join(texts)


def _values(sentence: str) -> list[Value]:
    """Delimited mathematics and numbers outside it, but no number that an equals sign follows."""
    found = [Value(start, end, _inner(sentence[start:end])) for start, end in segments(sentence)]
    for match in NUMBER.finditer(sentence):
        inside = any(value.start <= match.start() < value.end for value in found)
        ahead = sentence[match.end() : match.end() + 3].lstrip()
        if any(map(str.isdigit, match[0])) and not inside and not ahead.startswith("="):
            found.append(Value(match.start(), match.end(), match[0].strip().replace("$", "")))
    return sorted(found)


def _inner(segment: str) -> str:
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if segment.startswith(opening) and segment.endswith(closing):
            return segment[len(opening) : -len(closing)].strip()
    return segment


def _denied(sentence: str, value: Value) -> bool:
    before = sentence[max(0, value.start - 60) : value.start]
    return bool(_DENIED_BEFORE.search(before) or _DENIED_BEHIND.match(sentence, value.end))


def _chain(sentence: str, values: list[Value]) -> list[Value]:
    """The first of ``values`` with those that the sentence names as alternatives to it, or lists beside it."""
    chosen, commas, hedged = [values[0]], 0, False
    for value in values[1:]:
        left, right = sorted((chosen[-1], value))
        between = sentence[left.end : right.start]
        if _ALTERNATIVE.fullmatch(between):
            hedged = True
        elif _LISTED.fullmatch(between) and between.strip(" $*"):
            commas += 1
            hedged = hedged or "and" in between.lower() or "&" in between
        else:
            break
        chosen.append(value)
    if hedged or commas > 1 or _CHOICE.search(sentence[: min(value.start for value in chosen)][-40:]):
        return chosen if hedged or commas else _named(sentence, values)
    return values[:1]


def _named(sentence: str, values: list[Value]) -> list[Value]:
    """``between 3 and 5``, ``either 3, maybe 5``: everything that is named, if the words stand right before it."""
    begin = min(value.start for value in values)
    return values if _CHOICE.search(sentence[max(0, begin - 15) : begin]) else values[:1]
