"""Labels: how two of them are compared, and lists of them."""

import re
import string
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from rewardhub.errors import ReferenceUnparseable
from rewardhub.types import Json
from rewardhub.verifiers.answerlib.scope import LONGEST, without_text_commands

Normal = Literal["none", "edges", "vqa"]

MAX_LABELS, MAX_CHARS = 10_000, 100_000
"""Texts of one field of a reference, and characters of all of them."""

_LONGEST_LABEL = 1_000
"""Unicode normalisation takes quadratic time on runs of combining marks; no label is longer."""

EDGES = " \t\r\n()[]{}<>.,:;!?\"'*_`$（）。，：；、“”‘’"
_LATEX = re.compile(r"\\[A-Za-z]")
_SMALL = "zero one two three four five six seven eight nine ten"
_DIGITS = {word: str(value) for value, word in enumerate(_SMALL.split())}
_ARTICLES = frozenset({"a", "an", "the"})
_DROPPED = str.maketrans(dict.fromkeys(string.punctuation.replace("-", "").replace("/", ""), None))
_SPLIT = str.maketrans("-/", "  ")


def normal(text: str, how: Normal, ignore_case: bool) -> str:
    """A label as it is compared.

    ``none``: the characters as they are. ``edges``: runs of blanks, width of characters and outer
    punctuation do not count. ``vqa``: as the VQA evaluation (Antol et al. 2015), without articles and
    punctuation, apostrophes included, and with zero to ten as digits.
    """
    if how != "none":
        width = text if len(text) > _LONGEST_LABEL else unicodedata.normalize("NFKC", text)
        text = " ".join(width.split()).strip(EDGES)
    if ignore_case:
        text = text.casefold()
    if how == "vqa":
        words = text.translate(_SPLIT).translate(_DROPPED).split()
        text = " ".join(_DIGITS.get(word, word) for word in words if word.casefold() not in _ARTICLES)
    return text


def is_latex(text: str) -> bool:
    """Whether a text holds a LaTeX command: mathematics is no label."""
    return bool(_LATEX.search(text))


def printable(text: str) -> str:
    """The first 200 characters of a text from outside, safe to write as JSON."""
    return text[:200].encode("utf-8", "replace").decode()


def said_label(text: str, how: Normal, ignore_case: bool) -> str | None:
    r"""The label that an answer is, ``\text{}`` taken off; None where it is LaTeX or over the limit."""
    bare = text if how == "none" else without_text_commands(text)
    if len(bare) > LONGEST or is_latex(bare):
        return None
    return normal(bare, how, ignore_case)


def reference_texts(reference: Json, key: str = "answer", *, empty: bool = False) -> list[str]:
    """``reference[key]``, a text or a list of texts, as a list; raises ``ReferenceUnparseable``.

    ``empty`` allows empty texts.
    """
    return texts_of(reference.get(key), f"reference.{key}", empty=empty)


def texts_of(value: Any, field: str, *, empty: bool = False) -> list[str]:
    """A text, a whole number, or a list of them, as texts."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    texts = [str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in items]
    if not texts or len(texts) > MAX_LABELS or not all(isinstance(text, str) for text in texts):
        raise ReferenceUnparseable(f"{field} must be a text or a list of texts", field=field)
    if sum(map(len, texts)) > MAX_CHARS:
        raise ReferenceUnparseable(f"{field} is over {MAX_CHARS} characters", field=field)
    if not empty and not all(text.strip() for text in texts):
        raise ReferenceUnparseable(f"{field} holds an empty text", field=field)
    return texts


def gold_labels(values: Sequence[str], field: str, how: Normal, ignore_case: bool) -> tuple[str, ...]:
    """Labels of a reference as they are compared; raises ``ReferenceUnparseable`` for one that is none."""
    return _gold_labels(tuple(values), field, how, ignore_case)


@lru_cache(maxsize=128)
def _gold_labels(values: tuple[str, ...], field: str, how: Normal, ignore_case: bool) -> tuple[str, ...]:
    for value in values:
        if is_latex(value):
            raise ReferenceUnparseable(f"{field}: {value[:40]!r} is LaTeX, not a label", field=field)
    labels = tuple(normal(value, how, ignore_case) for value in values)
    if not all(labels):
        raise ReferenceUnparseable(f"{field} holds a label of nothing but punctuation", field=field)
    return labels


def split_labels(text: str, separators: str, how: Normal, ignore_case: bool) -> list[str]:
    """The labels of a list in text, in order, as often as they stand there."""
    if text and separators:
        text = text.translate({ord(separator): "\n" for separator in separators})
    labels = (normal(part, how, ignore_case) for part in text.split("\n"))
    return [label for label in labels if label]
