"""Counts and marks of a response's layout. Everything here is linear in the text."""

import re
from functools import lru_cache

from rewardhub.verifiers.ifeval_rules.locales import Locale
from rewardhub.verifiers.ifeval_rules.reading import Reading

_LATIN = "A-Za-zÀ-ɏ"
# Of a line, what a mark opens is read once, closed or not: each pattern is linear and counts in one pass.
_PLACEHOLDER = re.compile(r"\[[^\]\n]*+(\])?")
_BLANKS = r"[^\S\n]*+"
_SINGLE = re.compile(rf"\*{_BLANKS}([^*\s])?[^*\n]*+\*")
_DOUBLE = re.compile(rf"\*\*{_BLANKS}([^*\s])?[^*\n]*+\*\*")
_ANGLED = re.compile(rf"《{_BLANKS}[^《》\s][^《》\n]*+》")


def placeholders(reading: Reading) -> int:
    """The number of ``[…]`` within a line, from the first ``[`` to the next ``]``."""
    return _PLACEHOLDER.findall(reading.text).count("]")


def bullets(reading: Reading, locale: Locale) -> int:
    """The number of list lines; a rule such as ``---`` or ``* * *`` is none, nor is ``**bold**``."""
    return len(_bullet(locale.bullets).findall(reading.text))


@lru_cache(maxsize=8)
def _bullet(marks: str) -> "re.Pattern[str]":
    first = "|".join("-" if mark == "-" else rf"{re.escape(mark)}(?!{re.escape(mark)})" for mark in marks)
    return re.compile(rf"(?m)^{_BLANKS}(?:{first})(?:[*・-]|[^\S\n])*+\S")


def highlights(reading: Reading, locale: Locale) -> int:
    """The number of ``*…*`` and ``**…**`` within a line that are not blank; in Japanese of ``《…》``."""
    if locale.code == "ja":
        return len(_ANGLED.findall(reading.text))
    kinds = (_SINGLE, _DOUBLE) if "**" in reading.text else (_SINGLE,)
    return sum(len(found) - found.count("") for found in (kind.findall(reading.text) for kind in kinds))


def sections(reading: Reading, mark: str, locale: Locale) -> int:
    """The number of headings "Section 1"; in Japanese 第1章."""
    return len(_heading(mark, locale.code == "ja").findall(reading.text))


@lru_cache(maxsize=256)
def _heading(mark: str, japanese: bool) -> "re.Pattern[str]":
    return re.compile(rf"第\d++{re.escape(mark)}" if japanese else rf"{re.escape(mark)}\s?\d++")


def divided(text: str, divider: str) -> list[str] | None:
    """The stripped pieces between dividers, or None where one that is not the first or last is blank."""
    pieces = [piece.strip() for piece in text.split(divider)]
    return None if not all(pieces[1:-1]) else [piece for piece in pieces if piece]


def paragraphs(text: str) -> list[str]:
    """The paragraphs between blank lines; blank ones are none and are not numbered."""
    return [piece.strip() for piece in text.split("\n\n") if piece.strip()]


def begins_with(paragraph: str, wanted: str, locale: Locale) -> bool:
    """Whether a paragraph begins with a word or phrase, in any case, with or without opening quotes."""
    head = paragraph.lstrip("\"'“‘«「『 \u00a0¿¡")[: len(wanted) + 8].lower()
    rest = head.removeprefix(wanted.lower())
    if len(rest) == len(head):
        return False
    return not locale.words or not rest or not (rest[0].isalnum() or rest[0] in "-‐_")


def has_title(reading: Reading, locale: Locale) -> bool:
    """Whether a line holds a title in its marks that is not blank."""
    opening, closing = locale.title
    if opening not in reading.text or closing not in reading.text:
        return False
    return any(_titled(line, opening, closing) for line in reading.lines if closing in line)


def _titled(line: str, opening: str, closing: str) -> bool:
    begin = line.find(opening)
    end = line.rfind(closing)
    inner = line[begin + len(opening) : end] if 0 <= begin < end else ""
    return bool(inner.lstrip(opening[0]).rstrip(closing[0]).strip())


def has_postscript(reading: Reading, marker: str) -> bool:
    """Whether the marker occurs, in any case and not within a Latin word; "P. S." is "P.S."."""
    return bool(_postscript(marker).search(reading.text))


@lru_cache(maxsize=256)
def _postscript(marker: str) -> "re.Pattern[str]":
    compact = "".join(marker.split())
    spaced = re.escape(compact).replace(r"\.", r"\.\s?").removesuffix(r"\s?")
    return re.compile(rf"(?<![{_LATIN}0-9]){spaced}(?![{_LATIN}])", re.IGNORECASE)
