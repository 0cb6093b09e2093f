"""What differs by the language of an instruction: its marks, its options, its words of comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "es", "fr", "ja"]

_LATIN_COMMAS = frozenset(",，、،﹐")
_STRAIGHT = (('"', '"'),)


@dataclass(frozen=True, slots=True)
class Locale:
    """One language of instructions.

    ``options`` are the accepted texts of a constrained response; ``title``, ``quotes`` are pairs of
    opening and closing marks; ``bullets`` the marks that begin a list line. ``words`` tells whether
    the language sets its words apart by blanks.
    """

    code: Language
    name: str
    options: tuple[str, ...]
    title: tuple[str, str] = ("<<", ">>")
    quotes: tuple[tuple[str, str], ...] = _STRAIGHT
    commas: frozenset[str] = _LATIN_COMMAS
    bullets: str = "*-"
    words: bool = True


LOCALES: Mapping[str, Locale] = {
    "en": Locale("en", "english", ("My answer is yes.", "My answer is no.", "My answer is maybe.")),
    "es": Locale("es", "spanish", ("Sí.", "No.", "Quizás."), bullets="*"),
    "fr": Locale(
        "fr", "french", ("Oui.", "Non.", "Peut-être."),
        title=("##", "##"), quotes=(*_STRAIGHT, ("'", "'"), ("«", "»")),
    ),
    "ja": Locale(
        "ja", "japanese", ("はい、そうです。", "いいえ、違います。", "どちらとも言えません。"),
        title=("『", "』"), quotes=(("「", "」"),), commas=frozenset("、，､"), bullets="・*-", words=False,
    ),
}  # fmt: skip

RELATIONS: Mapping[str, str] = {
    "at least": ">=", "al menos": ">=", "au moins": ">=", "以上": ">=",
    "at most": "<=", "como máximo": "<=", "au plus": "<=", "以下": "<=",
    "less than": "<", "menos de": "<", "moins de": "<", "未満": "<",
}  # fmt: skip
"""Words of comparison in all languages, and what they mean."""


def compare(count: int, relation: str, threshold: int) -> bool:
    """Whether ``count`` stands in ``relation`` (``>=``, ``<=`` or ``<``) to ``threshold``."""
    if relation == ">=":
        return count >= threshold
    return count <= threshold if relation == "<=" else count < threshold
