"""Where in a response the answer stands. Every step is linear in the length of the response."""

import re
from collections.abc import Callable, Iterator, Sequence

from rewardhub.verifiers.mathlib.normalise import NUMBER_WORDS
from rewardhub.verifiers.mathlib.policy import Source
from rewardhub.verifiers.mathlib.tokens import KNOWN_WORDS
from rewardhub.verifiers.mathlib.units import UNITS

_BOX = re.compile(r"\\(?:boxed|fbox)\b\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_PHRASE = re.compile(
    r"\banswers?\b(?:\s{0,3}\*\*)?(?:[^.\n$\\:=]{0,40}?\b(?:is|are)\b\s{0,3}:?|\s{0,3}[:=])", re.IGNORECASE
)
_STOP = re.compile(r"\n|(?<!\d)\.(?:\s|$)|(?<=\d)\.(?:\s|$)|(?:\.\s{0,2})?I hope")
_NUMBER = re.compile(
    r"(?<![\w.])[-+]?\$?(?:\d[\d,]*\d|\d)?(?:\.\d+|(?<=\d))"
    r"(?:[eE][-+]?\d{1,4}\b)?(?:\s?/\s?\d+(?:\.\d+)?|\s\d+/\d+)?\s?%?"
)
_DELIMITER = re.compile(r"\$\$?|\\[()\[\]$]")
_CLOSERS = {"$": "$", "$$": "$$", "\\(": "\\)", "\\[": "\\]"}
_TAG = re.compile(r"</?[A-Za-z_]{1,20}>")
_BARE_WORD = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}")
_COMMON_TEXT = """
    all an are as at be but by can do for from get gets got has have he her his if is it its let my not now of on
    one our she so than that the them then they this thus to two was we were what with yes you your
"""
_COMMON = frozenset(_COMMON_TEXT.split())
_KNOWN = KNOWN_WORDS | NUMBER_WORDS.keys()
_JOIN = frozenset({"and", "or", ",", ",and", ",or", "", ";"})
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}\s+[A-Za-z]{2,}")
_SEGMENT = 2_000
_TAIL = 20_000
"""A box, tag or sentence longer than this is not an answer."""
_PHRASE_TAIL = 100_000
_TRIES = 8


def extract(text: str, order: Sequence[Source], *, words: bool) -> tuple[str, Source] | None:
    """The answer's text and the source that gave it; None where the response holds nothing to score.

    ``order`` is tried from left to right. ``words``: the reference is plain words, so that a short
    response without any number is an answer too.
    """
    for source in order:
        found = last(text, words=words) if source == "last" else _FINDERS[source](text)
        if found and found.strip():
            return found.strip(), source
    return None


def boxed(text: str) -> str | None:
    r"""The content of the last closed ``\boxed{}``; neighbours joined by and, or, a comma are one list."""
    found: list[str] = []
    end, start = len(text), len(text)
    for _ in range(_TRIES):
        at = max(text.rfind("\\boxed", 0, end), text.rfind("\\fbox", 0, end))
        if at < 0:
            break
        end = at
        span = _box_at(text, at)
        if span is None:
            continue
        if found and span[1] > start:
            continue
        if found and text[span[1] : start].strip(" $\n.").replace(" ", "").lower() not in _JOIN:
            break
        content = text[span[0] : span[1] - 1].strip()
        if content and content not in found:
            found.append(content)
        start = at
    return ", ".join(reversed(found)) if found else None


def _box_at(text: str, at: int) -> tuple[int, int] | None:
    """Start of the content and end of the box, closing brace included."""
    match = _BOX.match(text, at)
    if match is None or match.end() >= len(text):
        return None
    if text[match.end()] != "{":
        return (match.end(), match.end() + 2) if text[match.end()].isalnum() else None
    depth = 0
    for brace in _BRACE.finditer(text, match.end(), match.end() + _TAIL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return match.end() + 1, brace.end()
    return None


def tag(text: str) -> str | None:
    """The inside of the last ``<answer>…</answer>``, narrowed where it is a sentence."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end >= 0 else -1
    if start < 0 or end - start > _TAIL:
        return None
    return _narrowed(text[start + 8 : end])


def hashes(text: str) -> str | None:
    """What follows the last ``####`` on its line (the form of GSM8K)."""
    at = text.rfind("####")
    if at < 0:
        return None
    line = text[at + 4 : at + 4 + _TAIL].lstrip("# \t").split("\n", 1)[0]
    return line.strip()


def phrase(text: str) -> str | None:
    """What follows the last ``answer is``, ``answer:`` up to the end of the sentence."""
    match = None
    text = text[-_PHRASE_TAIL:]
    for match in _PHRASE.finditer(text):  # noqa: B007  # the last one counts
        pass
    if match is None:
        return None
    rest = text[match.end() : match.end() + _TAIL].lstrip(" \t\n*:")
    if rest[:1] in {"$", "\\"}:
        start, end = next(_segments(rest[:_SEGMENT]), (1, 1))
        if start == 0:
            return rest[:end]
    stop = _STOP.search(rest)
    return _narrowed(rest[: stop.start()] if stop else rest)


def last(text: str, *, words: bool) -> str | None:
    """The whole text if it is one expression, else the number or math segment that ends last."""
    tail = _TAG.sub(" ", text[-_TAIL:])
    whole = tail.strip() if len(text) <= _TAIL else ""
    if whole and len(whole) <= 400 and "\n" not in whole and not _is_prose(whole):
        return whole
    best = max(_segments(tail), key=lambda span: span[1], default=None)
    number = _last_number(tail)
    if best and (number is None or number[1] <= best[1]):
        return tail[best[0] : best[1]]
    if number:
        return tail[number[0] : number[1]].strip().replace("$", "")
    return whole if words and len(whole) <= 400 else None


def _is_prose(text: str) -> bool:
    """Whether a common word, or a longer word that mathematics does not know, stands in the text."""
    for match in _BARE_WORD.finditer(text):
        word = match[0].lower()
        if word in _COMMON or (len(word) > 3 and word not in _KNOWN and word.removesuffix("s") not in UNITS):
            return True
    return False


def _last_number(text: str) -> tuple[int, int] | None:
    found = None
    for match in _NUMBER.finditer(text):
        if any(map(str.isdigit, match[0])):
            found = match.span()
    return found


def _segments(text: str) -> Iterator[tuple[int, int]]:
    """Spans of delimited mathematics, delimiters included; prose between two dollar amounts is none."""
    opening: re.Match[str] | None = None
    for mark in _DELIMITER.finditer(text):
        if opening and mark[0] == _CLOSERS.get(opening[0]):
            content = text[opening.end() : mark.start()]
            if content.strip() and len(content) <= _SEGMENT and not _PROSE.search(content):
                yield opening.start(), mark.end()
                opening = None
                continue
        opening = mark if mark[0] in _CLOSERS else opening


def _narrowed(content: str) -> str:
    """A sentence's answer: what its last math segment or number says; anything else unchanged."""
    content = content.strip()
    if not _PROSE.search(content):
        return content
    inner = phrase(content) if _PHRASE.search(content) else None
    return inner or last(content, words=True) or content


_FINDERS: dict[Source, Callable[[str], str | None]] = {
    "boxed": boxed, "tag": tag, "hashes": hashes, "phrase": phrase,
}  # fmt: skip
