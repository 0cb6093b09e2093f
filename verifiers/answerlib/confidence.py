"""Stated confidences and whether what they belong to is right."""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from rewardhub.errors import InvalidInput, NoAnswer, ReferenceUnparseable
from rewardhub.types import Json, Response
from rewardhub.verifiers.answerlib.labels import gold_labels, reference_texts, said_label
from rewardhub.verifiers.answerlib.numerals import as_value, read_number
from rewardhub.verifiers.answerlib.scope import LONGEST, scope_of
from rewardhub.verifiers.mcq import mcq
from rewardhub.verifiers.tags import stated_answer

Scale = Literal["unit", "percent"]
Source = Literal["text", "signal"]
Truth = Literal["label", "mcq", "correct", "signal"]
Levels = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(max_length=20)]

MAX_STATED = 1_000
_TAG = re.compile(r"<confidence>([^<]{0,40})</confidence>", re.IGNORECASE)
# Every repetition is bounded: linear time.
_PHRASE = re.compile(
    r"\bconfidence\b[^0-9\n.<>]{0,30}(?<!-)((?:[0-9][0-9.]{0,40}|\.[0-9]{1,40})(?![0-9])\s?%?)", re.IGNORECASE
)
_BEHIND = re.compile(r"\b(?:with\s{1,3}(?:a\s{1,3})?)?confidence\b", re.IGNORECASE)


def confidences(response: Response, source: Source, scale: Scale, levels: Sequence[float]) -> list[float]:
    """The confidences in [0, 1] that a response states, in order.

    ``signal``: the trainer's signal ``confidence``. ``text``: every ``<confidence>`` tag, else the number
    behind the last word "confidence". A percent sign, or ``scale="percent"``, means hundredths; with
    ``levels`` the number n, from 1, stands for the n-th of them. Raises ``NoAnswer`` where none is stated or
    one is no such number, and ``InvalidInput`` for a bad signal.
    """
    if source == "signal":
        return [_signal(response, "confidence")]
    texts = _TAG.findall(response.text)
    if not texts:
        texts = _PHRASE.findall(response.text[-LONGEST:])[-1:]
    if not texts or len(texts) > MAX_STATED:
        raise NoAnswer("no confidence in the response")
    return [_level(text, levels) if levels else _confidence(text, scale) for text in texts]


def is_right(response: Response, reference: Json, truth: Truth) -> bool:
    """Whether the answer is right: its label or option is ``reference.answer``, or as the caller says in
    ``reference.correct`` or the trainer in the signal ``correct``.
    """
    if truth == "signal":
        return _signal(response, "correct") >= 0.5
    if truth == "correct":
        return verdicts(reference, 1)[0]
    if truth == "mcq":
        score = mcq(response, reference)
        if not score.details["chosen"]:
            raise NoAnswer("no option is named")
        return bool(score.value)
    golds = gold_labels(reference_texts(reference), "reference.answer", "edges", True)
    answer = stated_answer(response.text)
    if answer is None:
        answer = _before_confidence(scope_of(_TAG.sub("", response.text[-LONGEST:])).text)
    if not answer.strip():
        raise NoAnswer("the answer is empty")
    return said_label(answer, "edges", True) in golds


def verdicts(reference: Json, count: int) -> list[bool]:
    """``reference.correct``, one truth value or a list of ``count``; raises ``ReferenceUnparseable``."""
    value: Any = reference.get("correct")
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items or not all(isinstance(item, bool) or item in (0, 1) for item in items):
        raise ReferenceUnparseable("reference.correct must be true or false, or a list", field="reference.correct")
    if len(items) != count:
        raise NoAnswer(f"{count} confidences for {len(items)} verdicts")
    return [bool(item) for item in items]


def calibration(confidence: Sequence[float], right: Sequence[bool], bins: int) -> tuple[float, float]:
    """(expected calibration error, mean Brier score) of at least one answer, each in [0, 1].

    Guo et al. 2017: the mean of |mean confidence - accuracy| over ``bins`` of equal width, weighted by their
    size. A bin is closed on the right; a confidence of 0 is in the first.
    """
    cells: dict[int, list[int]] = {}
    for index, value in enumerate(confidence):
        cells.setdefault(max(0, math.ceil(value * bins - 1e-9) - 1), []).append(index)
    gaps = (abs(sum(confidence[index] - right[index] for index in cell)) for cell in cells.values())
    brier = sum((value - truth) ** 2 for value, truth in zip(confidence, right, strict=True))
    return sum(gaps) / len(confidence), brier / len(confidence)


def _signal(response: Response, name: str) -> float:
    value = response.signals.get(name)
    if value is None or not 0 <= value <= 1:
        raise InvalidInput(f"signals.{name} must be a number in [0, 1]", field=f"signals.{name}")
    return float(value)


def _confidence(text: str, scale: Scale) -> float:
    number = read_number(text)
    if number is None:
        raise NoAnswer(f"{text.strip()[:40]!r} is not a confidence")
    value = as_value(number, "value") / (100 if scale == "percent" and not number.percent else 1)
    if not 0 <= value <= 1:
        raise NoAnswer(f"the confidence {text.strip()[:40]!r} is not between 0 and 1")
    return float(value)


def _level(text: str, levels: Sequence[float]) -> float:
    number = read_number(text)
    if number is None or number.value.denominator != 1 or not 1 <= number.value <= len(levels):
        raise NoAnswer(f"{text.strip()[:40]!r} is not a level of 1 to {len(levels)}")
    return levels[int(number.value) - 1]


def _before_confidence(text: str) -> str:
    """What stands before "with confidence", or before the word alone."""
    found = _BEHIND.search(text)
    return text[: found.start()].rstrip(" \n,;.(") if found else text
