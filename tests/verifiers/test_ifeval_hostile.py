"""Hostile responses: every rule is linear in the text, and one megabyte is scored within the limit."""

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardhub.types import Group, Response, Score, Status
from rewardhub.verifiers.ifeval import ifeval
from rewardhub.verifiers.ifeval_points import ifeval_points
from rewardhub.verifiers.reasonif import reasonif

ALL: dict[str, dict[str, Any]] = {
    "change_case:capital_word_frequency": {"capital_frequency": 10**5, "capital_relation": "at least"},
    "change_case:english_capital": {},
    "change_case:english_lowercase": {},
    "combination:repeat_prompt": {"prompt_to_repeat": "a" * 1000},
    "combination:two_responses": {},
    "detectable_content:number_placeholders": {"num_placeholders": 10**5},
    "detectable_content:postscript": {"postscript_marker": "P.P.S"},
    "detectable_format:constrained_response": {},
    "detectable_format:json_format": {},
    "detectable_format:multiple_sections": {"section_spliter": "Section", "num_sections": 10**5},
    "detectable_format:number_bullet_lists": {"num_bullets": 10**5},
    "detectable_format:number_highlighted_sections": {"num_highlights": 10**5},
    "detectable_format:title": {},
    "keywords:existence": {"keywords": ["a" * 50 + "b"]},
    "keywords:forbidden_words": {"forbidden_words": ["a" * 50, "x.*", "(a+)+$"]},
    "keywords:frequency": {"keyword": "aa", "frequency": 10**5, "relation": "at least"},
    "keywords:letter_frequency": {"letter": "a", "let_frequency": 10**5, "let_relation": "at least"},
    "language:response_language": {"language": "kn"},
    "length_constraints:nth_paragraph_first_word": {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a"},
    "length_constraints:number_paragraphs": {"num_paragraphs": 10**5},
    "length_constraints:number_sentences": {"num_sentences": 10**5, "relation": "at least"},
    "length_constraints:number_words": {"num_words": 10**5, "relation": "at least"},
    "punctuation:no_comma": {},
    "startend:end_checker": {"end_phrase": "z" * 1000},
    "startend:quotation": {},
}
ENGLISH = {"instruction_id_list": list(ALL), "kwargs": list(ALL.values())}
JAPANESE = {
    "instruction_id_list": [
        "ja:length_constraints:number_sentences", "ja:detectable_format:number_highlighted_sections",
        "ja:detectable_format:multiple_sections", "ja:detectable_content:postscript", "ja:detectable_format:title",
        "ja:detectable_format:number_bullet_lists",
    ],
    "kwargs": [
        {"num_sentences": 10**5, "relation": "以上"}, {"num_highlights": 10**5},
        {"num_sections": 10**5, "section_spliter": "章"}, {"postscript_marker": "追伸"}, {}, {"num_bullets": 10**5},
    ],
}  # fmt: skip
SIZE = 1_000_000
PARTS = [
    "a", "a ", "A ", "*", "* a\n", "**a** ", ".", "a. ", "A.B. ", "P. ", "p.", "p.s.", "p. ", "1.\n", "1", "?!", "...x", '. "',
    "\n", "\n\n", " ", "\t", "[", "[]", "]", "<<", ">>", "<<>>", "<<\n", "***", "******", "* * *\n", "---\n", "- ", "#",
    '"', "'", "»", ",", "{", '["a",', "Section ", "Section 1", "My answer is ", "aa", "É", "\u0301", "\ud800", "\x00",
]  # fmt: skip
JAPANESE_PARTS = [
    "。",
    "！",
    "あ。",
    "あ\n",
    "「",
    "」",
    "《",
    "《あ》",
    "》",
    "『あ",
    "第",
    "第1",
    "第1章",
    "追",
    "・あ\n",
]


def timed(text: str, reference: dict[str, Any]) -> tuple[float, Score]:
    """CPU seconds of one scoring, and its score."""
    begun = time.process_time()
    score = ifeval.bind({}).score(Group("g", reference=reference, responses=(Response(text),)), [0]).row(0)
    return time.process_time() - begun, score


@pytest.mark.parametrize("part", PARTS)
def test_one_megabyte_against_all_25_types(part: str) -> None:
    """Within the two seconds of the verifier's limit, for all eight variants and all types at once."""
    timed("warm", ENGLISH)
    took, score = timed((part * (SIZE // len(part) + 1))[:SIZE], ENGLISH)
    assert score.status is Status.OK
    assert took < ifeval.info.time_limit_s


@pytest.mark.parametrize("part", JAPANESE_PARTS)
def test_one_megabyte_against_the_japanese_rules(part: str) -> None:
    """The same for the rules with marks of their own."""
    timed("warm", JAPANESE)
    took, score = timed((part * (SIZE // len(part) + 1))[:SIZE], JAPANESE)
    assert score.status is Status.OK
    assert took < ifeval.info.time_limit_s


def test_more_than_a_megabyte_is_over_the_limit() -> None:
    """The stated size."""
    assert timed("a" * (SIZE + 1), ENGLISH)[1].status is Status.OVER_LIMIT


@given(st.text(alphabet=st.sampled_from(list("aA1 .!?*\n[]<>\"',-#PSp{}《》「」。第章あ")), max_size=60))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text_has_a_verdict(text: str) -> None:
    """Fuzz: ok, JSON details, and strict never above loose."""
    for reference in (ENGLISH, JAPANESE):
        score = timed(text, reference)[1]
        assert score.status is Status.OK
        assert json.loads(json.dumps(dict(score.details))) == score.details
        pairs = zip(score.details["strict"], score.details["loose"], strict=True)
        assert all(loose or not strict for strict, loose in pairs)


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_unicode_has_a_verdict(text: str) -> None:
    """Fuzz over all of Unicode."""
    assert timed(text, ENGLISH)[1].status is Status.OK


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(JUNK, st.sampled_from(sorted(ALL)), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_junk_arguments_are_never_a_crash(junk: Any, kind: str, rng: random.Random) -> None:
    """A reference with one argument replaced is scored or refused, never an internal error."""
    arguments = dict(ALL[kind])
    if arguments:
        arguments[rng.choice(sorted(arguments))] = junk
    reference = {"instruction_id_list": [kind], "kwargs": [arguments]}
    for verifier in (ifeval, reasonif):
        score = (
            verifier.bind({}).score(Group("g", reference=reference, responses=(Response("Some text."),)), [0]).row(0)
        )
        assert score.status in (Status.OK, Status.REFERENCE_UNPARSEABLE)


@given(JUNK)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_junk_references_are_refused(junk: Any) -> None:
    """No reference of another shape becomes a number."""
    for verifier in (ifeval, reasonif, ifeval_points):
        for key in ("instruction_id_list", "kwargs", "language", "constraints"):
            group = Group("g", reference={key: junk}, responses=(Response("Some text."),))
            assert verifier.bind({}).score(group, [0]).row(0).status is Status.REFERENCE_UNPARSEABLE
