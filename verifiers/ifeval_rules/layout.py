"""Counts and marks of a response's layout. Everything here is linear in the text."""

import re
from functools import lru_cache

from rewardhub.verifiers.ifeval_rules.locales import Locale
from rewardhub.verifiers.ifeval_rules.reading import Reading

_BULLET_MARKS = frozenset("*-・ ")
_LATIN = "A-Za-zÀ-ɏ"


def placeholders(reading: Reading) -> int:
    """The number of ``[…]`` within a line, from the first ``[`` to the next ``]``."""
    return sum("[" in piece for line in reading.lines for piece in line.split("]")[:-1])


def bullets(reading: Reading, locale: Locale) -> int:
    """The number of list lines; a rule such as ``---`` or ``* * *`` is none, nor is ``**bold**``."""
    return sum(_is_bullet(line.strip(), locale.bullets) for line in reading.lines)


def _is_bullet(line: str, marks: str) -> bool:
    if not line or line[0] not in marks or _BULLET_MARKS.issuperset(line):
        return False
    return line[0] == "-" or line[1] != line[0]


def highlights(reading: Reading, locale: Locale) -> int:
    """The number of ``*…*`` and ``**…**`` within a line that are not blank; in Japanese of ``《…》``."""
    if locale.code == "ja":
        return sum(_angled(line) for line in reading.lines)
    return sum(_starred(line.split("*")) for line in reading.lines if "*" in line)


def _angled(line: str) -> int:
    """Pieces between 》 and 》 that hold a 《 with something behind the last of them."""
    pieces = line.split("》")[:-1]
    return sum("《" in piece and bool(piece.rpartition("《")[2].strip()) for piece in pieces)


def _starred(pieces: list[str]) -> int:
    """Single and double highlights among the pieces between stars, each kind counted from the left."""
    single = sum(bool(piece.strip()) for piece in pieces[1:-1:2])
    double, at, last = 0, 1, len(pieces) - 1
    while at + 2 < last:
        if pieces[at] or pieces[at + 2]:
            at += 1
            continue
        double += bool(pieces[at + 1].strip())
        at += 4
    return single + double


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
    return opening in reading.text and any(_titled(line, opening, closing) for line in reading.lines)


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
