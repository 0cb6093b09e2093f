"""The options of a multiple-choice question and which of them the reference means."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rewardhub.errors import ReferenceUnparseable
from rewardhub.types import Json

Style = Literal["auto", "alpha", "numeric", "roman"]

MAX_OPTIONS = 26
_ROMANS = (
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI",
    "XVII", "XVIII", "XIX", "XX", "XXI", "XXII", "XXIII", "XXIV", "XXV", "XXVI",
)  # fmt: skip
LABELS = {
    "alpha": tuple(string.ascii_uppercase),
    "numeric": tuple(str(number) for number in range(1, MAX_OPTIONS + 1)),
    "roman": _ROMANS,
}
"""The labels of the options in order, by style."""

EDGES = " \t\r\n()[]{}<>.,:;!?\"'*_`$（）。，：；、"
"""What may stand around a label or a text without being part of it."""


@dataclass(frozen=True, slots=True)
class Question:
    """Labels in the accepted style, option texts (normalised, maybe none), indices of the answer."""

    style: str
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    answer: tuple[int, ...]


def normal(text: str) -> str:
    """A text as options are compared: case, runs of blanks and outer punctuation do not count."""
    return " ".join(text.casefold().split()).strip(EDGES)


def question_of(reference: Json, style: Style) -> Question:
    """Raises ``ReferenceUnparseable`` where the options are none or the answer names none of them."""
    names, texts = _options(reference.get("options"))
    items = _answer_items(reference.get("answer"))
    chosen = _style_of(items, style, texts)
    labels = LABELS[chosen][: len(texts) or MAX_OPTIONS]
    indices = [_answer_index(item, labels, names, texts) for item in items]
    if None in indices and len(items) == 1 and chosen == "alpha":
        compact = items[0].upper()
        if len(set(compact)) == len(compact) > 1 and set(compact) <= set(labels):
            indices = [labels.index(letter) for letter in compact]
    answer = tuple(index for index in indices if index is not None)
    if len(answer) < len(indices) or len(set(answer)) < len(answer):
        raise ReferenceUnparseable(f"reference.answer {str(items)[:80]} names no option", field="reference.answer")
    return Question(chosen, labels, texts, answer)


def _options(options: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The caller's own labels (of an object) and the normalised texts."""
    if options is None:
        return (), ()
    named = isinstance(options, Mapping)
    texts = list(options.values()) if named else options
    if not isinstance(texts, list | tuple) or not 1 < len(texts) <= MAX_OPTIONS:
        reason = f"reference.options must be 2 to {MAX_OPTIONS} texts"
        raise ReferenceUnparseable(reason, field="reference.options")
    if not all(isinstance(text, str | int | float) for text in texts):
        raise ReferenceUnparseable("reference.options must be texts", field="reference.options")
    names = tuple(str(name).strip(EDGES).upper() for name in options) if named else ()
    return names, tuple(normal(str(text)) for text in texts)


def _answer_items(answer: Any) -> list[str]:
    items = answer if isinstance(answer, list | tuple) else [answer]
    if not items or not all(isinstance(item, str | int) and not isinstance(item, bool) for item in items):
        raise ReferenceUnparseable("reference.answer must be a label or a text", field="reference.answer")
    if len(items) == 1:
        parts = str(items[0]).replace(" and ", ",").split(",")
        if len(parts) > 1 and all(_known_label(part.strip(EDGES).upper()) for part in parts):
            items = parts
    return [str(item).strip() for item in items]


def _known_label(text: str) -> bool:
    return any(text in labels for labels in LABELS.values())


def _style_of(items: Sequence[str], style: Style, texts: Sequence[str]) -> str:
    if style != "auto":
        return style
    bare = [item.strip(EDGES).upper() for item in items]
    if all(normal(item) in texts for item in items):
        return "alpha"
    for name in ("alpha", "numeric", "roman"):
        if all(item in LABELS[name][: len(texts) or MAX_OPTIONS] for item in bare):
            return name
    return "alpha"


def _answer_index(item: str, labels: Sequence[str], names: Sequence[str], texts: Sequence[str]) -> int | None:
    """The option that the reference means: its label in any style, its own label, or its text."""
    bare = item.strip(EDGES).upper()
    for known in (names, labels):
        if bare in known:
            return list(known).index(bare)
    if texts.count(normal(item)) == 1:
        return list(texts).index(normal(item))
    for others in LABELS.values():
        if bare in others[: len(labels)]:
            return others.index(bare)
    first = item.split(maxsplit=1)[0] if item.split() else ""
    led = first.strip(EDGES).upper() if first[-1:] in (".", ")", ":") else ""
    return list(labels).index(led) if led in labels else None
