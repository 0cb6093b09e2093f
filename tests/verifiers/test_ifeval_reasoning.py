"""``reasonif``: six checks on the reasoning trace."""

from typing import Any

import pytest

from rewardhub.errors import ReferenceUnparseable
from rewardhub.types import Response
from rewardhub.verifiers.reasonif import reasonif

CHECKS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "language:reasoning_language", {"language": "de"},
        "Ich denke zuerst über die Frage nach.", "I think about the question first.",
    ),
    ("language:reasoning_language", {"language": "de"}, "2 + 2 = 4", "Je pense à la question d'abord."),
    ("length_constraint_checkers:number_words", {"num_words": 4}, "one two three", "one two three four"),
    (
        "change_case:english_capital", {}, "THE ANSWER IS FOUND BY ADDING TWO AND TWO TOGETHER.",
        "The answer is found by adding two and two together.",
    ),
    ("startend:end_checker", {"end_phrase": "MADE BY AI"}, 'so it is. "Made by AI" ', "Made by AI, I think"),
    ("detectable_format:json_format", {}, '```json\n{"step": 1}\n```', "{step: 1}"),
    ("punctuation:no_comma", {}, "Step 1 add", "Step 1, add"),
]  # fmt: skip


def value(text: str, name: str, given: dict[str, Any]) -> float:
    """The value of one instruction."""
    return float(reasonif(Response(text), {"instruction_id_list": [name], "kwargs": [given]}))


@pytest.mark.parametrize(("name", "given", "good", "bad"), CHECKS)
def test_each_check(name: str, given: dict[str, Any], good: str, bad: str) -> None:
    """The trace decides; the answer behind it does not."""
    for answer in (good, bad):
        assert value(f"<think>{good}</think>{answer}", name, given) == 1.0
        assert value(f"<think>{bad}</think>{answer}", name, given) == 0.0
        assert value(f"{good}\n</think>{answer}", name, given) == 1.0


def test_all_six_are_tried() -> None:
    """One row at least for each."""
    assert len({row[0] for row in CHECKS}) == 6


@pytest.mark.parametrize(
    "text", ["", "no trace at all", "<think>never closed", "<think> \n</think>answer", "</think>x"]
)
def test_an_empty_trace_follows_nothing(text: str) -> None:
    """Even what could hold of an empty text."""
    assert value(text, "punctuation:no_comma", {}) == 0.0


def test_the_score_is_the_mean_over_items() -> None:
    """Four items, followed [1, 0, 0, 0]: 0.25."""
    traces = ["a b", "a, b", "", "a, b, c"]
    values = [value(f"<think>{trace}</think>x", "punctuation:no_comma", {}) for trace in traces]
    assert sum(values) / len(values) == 0.25


def test_share_of_the_instructions() -> None:
    """One of two followed."""
    reference = {"instruction_id_list": ["punctuation:no_comma", "detectable_format:json_format"], "kwargs": [{}, {}]}
    score = reasonif(Response("<think>words</think>x"), reference, aggregate="share")
    assert (score.value, score.details["followed"]) == (0.5, [True, False])
    assert reasonif(Response("<think>words</think>x"), reference).value == 0.0


@pytest.mark.parametrize(
    "name", ["length_constraints:number_words", "punctuation:no_commas", "en:punctuation:no_comma"]
)
def test_other_ids_are_named(name: str) -> None:
    """Six ids, as published."""
    with pytest.raises(ReferenceUnparseable, match=f"unknown instruction '{name}'; did you mean"):
        value("<think>a</think>", name, {})
