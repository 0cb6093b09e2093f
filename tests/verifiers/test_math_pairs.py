"""Labelled pairs over the whole range of answers, and labelled responses in other people's formats.

``math_pairs.tsv`` has an answer in a box and what a careful reader says of it, with the recorded verdicts of this
verifier and of Math-Verify 0.9; a verdict of ours that differs from the reader's says why.
``math_formats.tsv`` has whole responses to a problem whose answer is 5.
"""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from rewardhub.types import Group, Response, Status
from rewardhub.verifiers.math_answer import math

HERE = Path(__file__).parent
BOUND = math.bind({})


class Pair(NamedTuple):
    category: str
    expected: str
    ours: str
    math_verify: str
    reference: str
    answer: str
    reason: str = ""


def pairs() -> list[Pair]:
    return [Pair(*line.split("\t")) for line in (HERE / "math_pairs.tsv").read_text().split("\n")[1:] if line]


def formats() -> list[tuple[str, str]]:
    lines = (HERE / "math_formats.tsv").read_text().split("\n")[1:]
    return [(label, json.loads(text)) for label, text in (line.split("\t") for line in lines if line)]


def value(reference: str, text: str) -> float | None:
    group = Group(id="g", responses=(Response(text),), reference={"answer": reference})
    score = BOUND.try_fast(group, [0]).row(0)
    return BOUND.score(group, [0]).row(0).value if score.status == Status.SKIPPED else score.value


def test_verdicts_are_as_recorded():
    """All of more than 700 pairs."""
    wrong = [
        pair for pair in pairs() if (value(pair.reference, rf"\boxed{{{pair.answer}}}") == 1.0) != (pair.ours == "1")
    ]
    assert wrong == []


def test_differences_from_the_reader_are_few_and_have_a_reason():
    """No more than one pair in twenty, each with its reason, and a third of Math-Verify's errors or fewer."""
    ours = [pair for pair in pairs() if pair.ours != pair.expected]
    theirs = [pair for pair in pairs() if pair.math_verify != pair.expected]
    assert all(pair.reason for pair in ours)
    assert len(ours) <= 0.05 * len(pairs())
    assert 3 * len(ours) <= len(theirs)


def test_nothing_wrong_is_paid_for_but_what_is_stated():
    """A wrong answer is right here in one pair only, and Math-Verify agrees on it."""
    paid = [pair for pair in pairs() if pair.expected == "0" and pair.ours == "1"]
    assert [(pair.reference, pair.answer) for pair in paid] == [("10:30", "5:15")]
    assert {pair.math_verify for pair in paid} == {"1"}


@pytest.mark.slow
def test_math_verify_is_as_recorded():
    """The column of Math-Verify says what its release says; every third pair."""
    from math_verify import parse, verify

    def theirs(pair: Pair) -> str:
        gold, answer = (parse(rf"\boxed{{{text}}}", parsing_timeout=None) for text in (pair.reference, pair.answer))
        return str(int(bool(verify(gold, answer, timeout_seconds=None))))

    assert [pair for pair in pairs()[::3] if theirs(pair) != pair.math_verify] == []


def test_every_category_has_both_labels():
    """The pairs cover what graders meet, right and wrong."""
    labels: dict[str, set[str]] = {}
    for pair in pairs():
        labels.setdefault(pair.category, set()).add(pair.expected)
    assert len(pairs()) > 700
    assert len(labels) >= 20
    assert sum(len(found) == 2 for found in labels.values()) >= 0.8 * len(labels)


@pytest.mark.parametrize(("label", "text"), formats(), ids=lambda each: each[:40])
def test_format(label, text):
    """Right: the answer in any usual form. Wrong: hedged, listed, denied, only thought, repeated from the prompt."""
    assert (value("5", text) == 1.0) == (label == "right")
