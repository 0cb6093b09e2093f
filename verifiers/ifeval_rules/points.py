"""The two point tables of Light-IF (arXiv 2508.03178): what each constraint is, and what it earns.

A count may be stated as ``exact``, as a range (``min`` and ``max``), or one-sided; each form has its own
points, and a form without points is refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewardhub.verifiers.ifeval_rules import arguments, layout, wording
from rewardhub.verifiers.ifeval_rules.arguments import Reader
from rewardhub.verifiers.ifeval_rules.locales import LOCALES
from rewardhub.verifiers.ifeval_rules.reading import Reading

Given = Mapping[str, Any]
Count = Callable[[Reading, Given], int]

_WORD = re.compile(r"\w")
_ENGLISH_END, _CHINESE_END = re.compile(r"[.!?]"), re.compile(r"[。？！]")
_STYLES = {"《》": "《》", "[]": "[]", "【】": "【】"}
_EN = LOCALES["en"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a table. ``forms`` are the points by the form of the stated number (``exact``, ``range``,
    ``sided``, ``absent``); a row without a number has one form, "".
    """

    met: Callable[[Reading, Given], bool]
    forms: Mapping[str, float]
    needed: Mapping[str, Reader] = field(default_factory=dict)
    optional: Mapping[str, Reader] = field(default_factory=dict)

    @property
    def wants(self) -> str:
        """How the number of this row may be stated."""
        return f"its number as one of: {', '.join(self.forms)}"

    def points(self, given: Given) -> float | None:
        """The points for numbers stated like this; None where the row has no such form."""
        return self.forms.get(form_of(given) if self.optional else "")


@dataclass(frozen=True, slots=True)
class Constraint:
    """A row with its arguments and the points it earns."""

    entry: Entry
    given: Given
    points: float

    def met_by(self, reading: Reading) -> bool:
        return self.entry.met(reading, self.given)


def form_of(given: Given) -> str:
    """The form of a stated number; "none" where it is missing, contradictory or stated twice."""
    low, high = given.get("min"), given.get("max")
    if "exact" in given:
        return "none" if low is not None or high is not None else "exact" if given["exact"] else "absent"
    if low is not None and high is not None:
        return "range" if low <= high else "none"
    return "none" if low is None and high is None else "sided"


_NUMBERS = {"exact": arguments.count, "min": arguments.count, "max": arguments.count}
_TEXT = {"text": arguments.text}


def _number(count: Count, forms: Mapping[str, float], needed: Mapping[str, Reader] | None = None) -> Entry:
    """A row whose count is compared with the stated number."""

    def met(reading: Reading, given: Given) -> bool:
        found = count(reading, given)
        if "exact" in given:
            return bool(found == given["exact"])
        return bool(given.get("min", 0) <= found <= given.get("max", found))

    return Entry(met, forms, needed or {}, _NUMBERS)


def _plain(points: float, met: Callable[[Reading, Given], bool], **needed: Reader) -> Entry:
    return Entry(met, {"": points}, needed)


def _pieces(reading: Reading, end: "re.Pattern[str]") -> int:
    """The pieces between sentence marks that hold a letter or digit."""
    return sum(bool(_WORD.search(piece)) for piece in end.split(reading.text))


def _is_titled(line: str) -> bool:
    return line.startswith("#") or any(line[:1] == pair[0] and line[-1:] == pair[-1] for pair in _STYLES)


def title_of(reading: Reading) -> str:
    """The first line: what a title is looked for in."""
    return reading.text.strip().partition("\n")[0].strip()


def chinese_paragraphs(reading: Reading) -> int:
    """The paragraphs between blank lines, without a first one that is only a title."""
    found = layout.paragraphs(reading.text)
    return len(found) - bool(found and "\n" not in found[0] and _is_titled(found[0]))


def _bare_title(reading: Reading) -> str:
    return title_of(reading).lstrip("#").strip().strip("《》[]【】").strip()


def _has_style(reading: Reading, given: Given) -> bool:
    line, pair = title_of(reading), given["text"]
    return len(line) > 2 and line[0] == pair[0] and line[-1] == pair[-1]


def _style(raw: Any) -> str:
    if not isinstance(raw, str) or raw not in _STYLES:
        raise ValueError(f"must be one of {' '.join(_STYLES)}")
    return raw


def _nth_word(reading: Reading, given: Given) -> bool:
    found, number = layout.paragraphs(reading.text), given["number"]
    return 0 < number <= len(found) and layout.begins_with(found[number - 1], given["text"], _EN)


def _keyword(reading: Reading, given: Given) -> int:
    return wording.occurrences(reading, given["text"])


_EXACT = {"exact": 0.10, "absent": 0.10}
_RANGED = {"exact": 0.10, "range": 0.10, "sided": 0.05, "absent": 0.05}

ENGLISH: Mapping[str, Entry] = {
    "repeat_prompt": _plain(0.10, lambda reading, given: wording.repeats(reading, given["text"]), **_TEXT),
    "highlights": _number(lambda reading, _: layout.highlights(reading, _EN), {"sided": 0.05}),
    "words": _number(lambda reading, _: reading.words, {"range": 0.10, "sided": 0.05}),
    "placeholders": _number(lambda reading, _: layout.placeholders(reading), {"sided": 0.05}),
    "bullets": _number(lambda reading, _: layout.bullets(reading, _EN), _EXACT),
    "capital_words": _number(lambda reading, _: reading.capital_words, {**_RANGED, "absent": 0.10}),
    "keyword": _number(_keyword, _RANGED, _TEXT),
    "sentences": _number(lambda reading, _: _pieces(reading, _ENGLISH_END), {"exact": 0.20, "sided": 0.05}),
    "letter": _number(
        lambda reading, given: wording.letter_count(reading, given["letter"], _EN),
        {"sided": 0.05, "absent": 0.20}, {"letter": arguments.letter},
    ),
    "paragraphs": _number(lambda reading, _: len(layout.paragraphs(reading.text)), _EXACT),
    "end_phrase": _plain(0.10, lambda reading, given: wording.ends_with(reading, given["text"]), **_TEXT),
    "paragraph_first_word": _plain(0.10, _nth_word, text=arguments.text, number=arguments.count),
}  # fmt: skip

CHINESE: Mapping[str, Entry] = {
    "keyword": _number(_keyword, _RANGED, _TEXT),
    "paragraphs": _number(lambda reading, _: chinese_paragraphs(reading), _EXACT),
    "sentences": _number(lambda reading, _: _pieces(reading, _CHINESE_END), {"exact": 0.20}),
    "characters": _number(
        lambda reading, _: sum(map(len, reading.text.split())), {"range": 0.10, "sided": 0.05}
    ),
    "title_style": _plain(0.02, _has_style, text=_style),
    "title_length": _number(lambda reading, _: len(_bare_title(reading)), {"sided": 0.05}),
    "begin_with": _plain(0.02, lambda reading, given: wording.repeats(reading, given["text"]), **_TEXT),
    "end_with": _plain(0.02, lambda reading, given: wording.ends_with(reading, given["text"]), **_TEXT),
}  # fmt: skip

TABLES: Mapping[str, Mapping[str, Entry]] = {"en": ENGLISH, "zh": CHINESE}
