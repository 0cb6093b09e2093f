"""Where in a response the answer stands. Every step is linear in the length of the response."""

import re
from collections.abc import Callable, Sequence

from rewardhub.verifiers.mathlib.normalise import NUMBER_WORDS, unwrap
from rewardhub.verifiers.mathlib.policy import Source
from rewardhub.verifiers.mathlib.sentences import NUMBER, PROSE, SEGMENT, first_stated, last_stated, segments
from rewardhub.verifiers.mathlib.tokens import KNOWN_WORDS
from rewardhub.verifiers.mathlib.units import UNITS

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_PHRASE = re.compile(
    r"\b(?:answers?|ans\.?(?=\s?[:=]|\s\d))(?!\w)(?:\s{0,3}\*\*)?(?:[^.\n$\\:=]{0,40}?\b(?:is|are)\b\s{0,3}:?|\s{0,3}[:：=]|(?<=ans\.))"
    r"|答案(?:\s{0,3}[是为])?\s{0,3}[:：]?|答え\s{0,3}[はが:：]",
    re.IGNORECASE,
)
_STOP = re.compile(r"\n|(?<!\d)\.(?:\s|$)|(?<=\d)\.(?:\s|$)|(?:\.\s{0,2})?I hope")
_CHOICE = re.compile(r"\(?([A-Z])[).:](?=\s)")
_BOX_TOKEN = re.compile(r"<\|(?:begin|end)_of_box\|>")
_TAG = re.compile(r"</?[A-Za-z_]{1,20}>")
_BARE_WORD = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}|[\u0400-\u04ff\u3040-\u30ff\u3400-\u9fff]{3,}")
_COMMON_TEXT = """
    all an are as at be but by can do for from get gets got has have he her his if is it its let my not now of on
    one our she so than that the them then they this thus to two was we were what with yes you your
"""
_COMMON = frozenset(_COMMON_TEXT.split())
_KNOWN = KNOWN_WORDS | NUMBER_WORDS.keys()
_JOIN = frozenset({"and", "or", ",", ",and", ",or", "", ";", "andalso", "ormaybe", "orperhaps", "orelse", "orpossibly"})
_SPACING = re.compile(r"\\q?quad|\\(?:text|mathrm|mbox)|\\[\[\]() ,;:!]|[\s$.{}~]")
_COUNTED = re.compile(r"\A\s?(?!(?:is|not|or|no|wrong|incorrect|false)\b)[A-Za-z]{1,15}(\s(?:and|or)\s)\Z")
_VARIABLE = re.compile(r"(?<![a-z])[a-z](?:_\w)?=\Z|(?<=and)[a-z](?:_\w)?=\Z")
_TAIL = 20_000
"""A box, tag or sentence longer than this is not an answer."""
_PHRASE_TAIL = 100_000
_NEAR = 400
_OR = re.compile(r"\bor\b[\w\s,]{0,16}\Z", re.IGNORECASE)
_HEDGE = re.compile(r"\s{0,3},?\s?(?:\(\s?)?(?:or|and|is not|isn't|/)\b", re.IGNORECASE)
_TRIES = 8


def extract(text: str, order: Sequence[Source], *, words: bool) -> tuple[str, Source] | None:
    """The answer's text and the source that gave it; None where the response holds nothing to score.

    ``order`` is tried from left to right. ``words``: the reference is plain words, so that a short
    response without any number is an answer too.
    """
    for source in order:
        found = _FINDERS[source](text, words)
        if found and (stripped := found.strip()):
            return stripped, source
    return None


def boxed(text: str, words: bool = False) -> str | None:  # noqa: ARG001
    r"""The content of the last closed ``\boxed{}``; neighbours joined by and, or, a comma are one list."""
    plain = _plain_box(text)
    if plain:
        return plain
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
        if found and _joint(text[span[1] : start]) not in _JOIN:
            break
        content = _unworded(text[span[0] : span[1] - 1].strip())
        if content and content not in found:
            found.append(content)
        start = at
    return ", ".join(reversed(found)) if found else None


def _joint(between: str) -> str:
    """What stands between two boxes, without delimiters, spacing, text commands, a unit and ``y =``."""
    if len(between) > _NEAR:
        return between[:_NEAR]
    return _VARIABLE.sub("", _SPACING.sub("", _COUNTED.sub(r"\1", between)).lower())


def _unworded(content: str) -> str:
    r"""What stands behind "The answer is" inside a box, often in a ``\text`` of its own."""
    match = _PHRASE.search(content) if "nswer" in content else None
    if match is None:
        return content
    said = content[match.end() :].lstrip(" }:~")
    return said.removesuffix("}") if said.count("}") > said.count("{") else said


def _plain_box(text: str) -> str | None:
    """The common case in few steps: one closed box without braces inside and none just before it."""
    at = text.rfind("\\boxed{")
    close = text.find("}", at + 7, at + 200) if at >= 0 else -1
    if close < 0 or "}" in text[max(0, at - 20) : at] or text.find("box", close) >= 0:
        return None
    content = text[at + 7 : close]
    return None if "{" in content or "\\" in content or "nswer" in content else content.strip()


def _box_at(text: str, at: int) -> tuple[int, int] | None:
    """Start of the content and end of the box, closing brace included; a box past every limit is cut."""
    match = _BOX.match(text, at)
    if match is None or match.end() >= len(text):
        return None
    if text[match.end()] != "{":
        return (match.end(), match.end() + 2) if text[match.end()].isalnum() else None
    start = match.end() + 1
    close = text.find("}", start, start + _TAIL)
    if close >= 0 and text.find("{", start, close) < 0 and text.find("\\", start, close) < 0:
        return start, close + 1
    depth = 0
    for brace in _BRACE.finditer(text, match.end(), match.end() + _TAIL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return match.end() + 1, brace.end()
    return (start, start + _TAIL) if len(text) > start + _TAIL else None


def tag(text: str, words: bool = False) -> str | None:
    """The inside of the last ``<answer>…</answer>``, narrowed where it is a sentence; neighbours joined by and,
    or, a comma or nothing are one list.
    """
    found: list[str] = []
    end, start = text.rfind("</answer>"), len(text)
    for _ in range(_TRIES):
        start = text.rfind("<answer>", max(0, end - _TAIL), end) if end >= 0 else -1
        if start < 0:
            break
        content = _BOX_TOKEN.sub(" ", text[start + 8 : end]).strip()
        if PROSE.search(content):
            content = phrase(content, words) or last(content, words) or content
        if content not in found:
            found.append(content)
        end = text.rfind("</answer>", max(0, start - _NEAR), start)
        if text[end + 9 : start].strip(" .\n").lower() not in _JOIN:
            break
    return "; ".join(reversed(found)) if found else None


def hashes(text: str, words: bool = False) -> str | None:  # noqa: ARG001
    """What follows the last ``####`` on its line (the form of GSM8K)."""
    at = text.rfind("####")
    if at < 0:
        return None
    line = text[at + 4 : at + 4 + _TAIL].lstrip("# \t").split("\n", 1)[0]
    return line.strip()


def phrase(text: str, words: bool = False) -> str | None:
    """What follows the last ``answer is``, ``answer:`` up to the end of the sentence."""
    text = text[-_PHRASE_TAIL:]
    found: list[re.Match[str]] = []
    for match in _PHRASE.finditer(text):
        found = [*found[-1:], match]
    if not found:
        return None
    said = _said(text, found[-1], words)
    if len(found) > 1 and said and _OR.search(text, max(0, found[-1].start() - 20), found[-1].start()):
        return f"{_said(text, found[0], words)}; {said}"
    return said


def _said(text: str, match: re.Match[str], words: bool) -> str | None:
    rest = text[match.end() : match.end() + _TAIL].lstrip(" \t\n*:")
    if rest[:1] in {"$", "\\"}:
        start, end = next(segments(rest[:SEGMENT]), (1, 1))
        if start == 0 and not _HEDGE.match(rest, end):
            return rest[:end]
    stop = _STOP.search(rest)
    return _stated(rest[: stop.start()] if stop else rest, words)


def last(text: str, words: bool = False) -> str | None:
    """The whole text if it is one expression, else the number or math segment that ends last."""
    tail = _TAG.sub(" ", text[-_TAIL:])
    whole = unwrap(tail).lstrip("#*>∴ ").strip() if len(text) <= _TAIL else ""
    if whole and len(whole) <= 400 and "\n" not in whole and not _is_prose(whole):
        return whole
    best = max(segments(tail), key=lambda span: span[1], default=None)
    number = _last_number(tail)
    if best and (number is None or number[1] <= best[1]):
        return last_stated(tail, *best)
    if number:
        return last_stated(tail, *number)
    return whole if words and len(whole) <= 400 else None


def _is_prose(text: str) -> bool:
    """Whether a common word, or a longer word that mathematics does not know, stands in the text."""
    for match in _BARE_WORD.finditer(text):
        word = match[0].lower()
        if word in _COMMON or (len(word) > 3 and word not in _KNOWN and word.removesuffix("s") not in UNITS):
            return True
    return False


def _last_number(text: str) -> tuple[int, int] | None:
    """The span of the last number, looked for near the end first."""
    for start in (max(0, len(text) - _NEAR), 0):
        found = None
        for match in NUMBER.finditer(text, start):
            if any(map(str.isdigit, match[0])):
                found = match.span()
        if found and (start == 0 or found[0] > start + _NEAR // 2):
            return found
    return found


def _stated(content: str, words: bool) -> str | None:
    """What a sentence states: itself if it is no prose, else its option letter, or its first value."""
    content = content.strip().strip("*").strip()
    if not _is_prose(content):
        return content
    choice = _CHOICE.match(content)
    if choice and not words:
        return choice[1]
    return content if words else first_stated(content)


_FINDERS: dict[Source, Callable[[str, bool], str | None]] = {
    "boxed": boxed, "tag": tag, "hashes": hashes, "phrase": phrase, "last": last,
}  # fmt: skip
