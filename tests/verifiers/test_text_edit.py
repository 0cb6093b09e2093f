"""``ocr_wer``, ``ocr_edit``, ``anls``, ``chart_relaxed``, ``keyword_recall``: the catalogue's rows and faults."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.scorer import Verifier
from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.chart import chart_relaxed
from rewardhub.verifiers.keywords import keyword_recall
from rewardhub.verifiers.ocr import anls, ocr_edit, ocr_wer

EDITS = (ocr_wer, ocr_edit, anls)
GLM = {"tolerance": 0.025, "inclusive": False}


def score(verifier: Verifier, text: str, reference: Json | object, **params: object) -> Score:
    """The score of one response; anything but an object is the answer."""
    full = reference if isinstance(reference, dict) else {"answer": reference}
    return verifier.bind(params).score(Group("g", responses=(Response(text),), reference=full), [0]).row(0)


@pytest.mark.parametrize(
    ("verifier", "text", "answer", "params", "value"),
    [
        (ocr_wer, "the cat", "the cat sat", {}, 2 / 3),  # A11, A62, A74
        (ocr_wer, "a b c d e f", "a b", {}, 0.0),
        (ocr_wer, "the cat sat", "the cat sat down", {}, 0.75),  # B40
        (ocr_edit, "kitten", "sitting", {}, 4 / 7),  # A39
        (ocr_edit, "hello wurld", "hello world", {}, 0.9),  # B35
        (ocr_edit, "", "", {}, 1.0),
        (ocr_edit, "Sale", "Sales", {}, 0.8),  # A32
        (ocr_edit, "abcd", "axyz", {}, 0.25),
        (anls, "kitten", "sitting", {}, 4 / 7),  # A33
        (anls, "six", ["6", "six"], {}, 1.0),
        (anls, "abcd", "axyz", {}, 0.0),
        (anls, "ab", "ax", {}, 0.5),
        (anls, "ab", "ax", {"at_threshold": "zero"}, 0.0),
    ],
)
def test_catalogue_rows(verifier: Verifier, text: str, answer: object, params: dict, value: float) -> None:
    """Rows A11, A32, A33, A39, A62, A74, B35, B40: the stated values, also from a tag and in the fast form."""
    for written in (text, f"<think>so</think><answer>{text}</answer>"):
        assert score(verifier, written, answer, **params).value == pytest.approx(value, abs=1e-12)
        group = Group("g", responses=(Response(written),), reference={"answer": answer})
        assert verifier.bind(params).try_fast(group, [0]).values == [pytest.approx(value, abs=1e-12)]


def test_empty_transcriptions() -> None:
    """GLM's code divides by zero on two empty texts; one empty text is wrong, or no answer."""
    assert score(ocr_edit, "<answer> </answer>", "").value == 1.0
    assert score(ocr_edit, "text", "").value == 0.0
    assert score(ocr_edit, "", ["", "x"]).value == 1.0
    assert score(ocr_edit, "", "x").status is Status.NO_ANSWER
    for verifier in (ocr_wer, anls):
        assert score(verifier, "", "x").status is Status.NO_ANSWER
        assert score(verifier, "x", "").status is Status.REFERENCE_UNPARSEABLE


def test_the_nearest_of_several_references_counts() -> None:
    """For words and for characters alike."""
    assert score(ocr_wer, "a b", ["x y z", "a b c"]).value == pytest.approx(2 / 3)
    assert score(ocr_edit, "abc", ["xyz", "abd"]).value == pytest.approx(2 / 3)


def test_bounds_of_ocr_edit() -> None:
    """At or below the lower bound 0, at or above the upper bound 1, and never the wrong way round."""
    assert score(ocr_edit, "abcd", "abce", lower=0.75).value == 0.0
    assert score(ocr_edit, "abcd", "abce", upper=0.75).value == 1.0
    assert score(ocr_edit, "abcd", "abce", lower=0.8, upper=0.2).status is Status.INVALID_INPUT


@pytest.mark.parametrize("verifier", EDITS, ids=lambda verifier: verifier.info.name)
@pytest.mark.parametrize("answer", [None, 1.5, True, [], [[]], {"a": 1}, ["x", None], "x" * 100_001])
def test_bad_references(verifier: Verifier, answer: object) -> None:
    """Fault F1: an unusable reference earns no number and is named."""
    result = score(verifier, "x", {"answer": answer})
    assert (result.status, result.details["field"]) == (Status.REFERENCE_UNPARSEABLE, "reference.answer")


@pytest.mark.parametrize("verifier", EDITS, ids=lambda verifier: verifier.info.name)
def test_long_texts(verifier: Verifier) -> None:
    """The largest pair is decided within the time limit, a larger one is over the limit."""
    gold = ("abcdefghij " * 10_000)[:100_000]
    begun = time.process_time()
    assert score(verifier, gold[::-1], gold).status is Status.OK
    assert time.process_time() - begun < verifier.info.time_limit_s
    assert score(verifier, "x" * 1_000_000, gold).status is Status.OVER_LIMIT
    group = Group("g", responses=(Response(gold),), reference={"answer": "x"})
    assert verifier.bind({}).try_fast(group, [0]).statuses == [Status.SKIPPED]


TEXTS = st.text(alphabet=st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=40)


@given(TEXTS, TEXTS)
def test_edit_properties(one: str, other: str) -> None:
    """Equal texts earn 1, similarity is symmetric and in [0, 1], and ANLS never exceeds it."""
    if not one.strip() or not other.strip():
        return
    for verifier in EDITS:
        assert score(verifier, f"<answer>{one}</answer>", one).value == 1.0
        assert 0.0 <= score(verifier, one, other).value <= 1.0
    assert score(ocr_edit, one, other).value == pytest.approx(score(ocr_edit, other, one).value)
    similar = score(anls, one, other)
    assert similar.value in (0.0, similar.details["similarity"])


@pytest.mark.parametrize(
    ("text", "answer", "params", "value"),
    [
        ("102", 100, GLM, 1.0), ("103", 100, GLM, 0.0), ("102.5", 100, GLM, 0.0), ("2019", 2020, GLM, 0.0),  # A39
        ("104", 100, {}, 1.0), ("106", 100, {}, 0.0), ("105", "100", {}, 1.0), ("95", 100.0, {}, 1.0),  # A67
        ("2019", 2020, {}, 0.0), ("2020", 2020, {}, 1.0), ("2,019", 2020, {}, 1.0), ("2019.0", 2020, {}, 1.0),
        ("2019", 2020, {"years": False}, 1.0), ("999", 1000, {}, 1.0), ("3001", 3000, {}, 1.0),
        ("12%", "12", {}, 0.0), ("12%", "12%", {}, 1.0), ("12%", 0.12, {}, 1.0), ("12%", 12, {"percent": "ignore"}, 1.0),
        ("12%", 12, {"percent": "match"}, 0.0), ("0", 0, {}, 1.0), ("0.0001", 0, {}, 0.0), ("-100", 100, {}, 0.0),
        ("Blue", "blue", {}, 1.0), ("light blue", "blue", {}, 0.0), ("blue", 100, {}, 0.0), ("100", "blue", {}, 0.0),
        ("<answer>It is about 102 units.</answer>", 100, {}, 1.0), ("<answer>100 or 300</answer>", 100, {}, 0.0),
        ("The answer is 102.", ["50", "100"], {}, 1.0), ("1,234", 1200, {}, 1.0), ("1e999", 100, {}, 0.0),
    ],
)  # fmt: skip
def test_chart_relaxed(text: str, answer: object, params: dict, value: float) -> None:
    """Rows A39, A67, B35; GLM's code gives 0 for 102 against 100, because its numeric tier never runs."""
    result = score(
        chart_relaxed, text if "blue" != text or answer != 100 else "<answer>blue</answer>", answer, **params
    )
    assert (result.value, result.status) == (value, Status.OK)


def test_chart_series() -> None:
    """Row A32: [10.4, 21.2, 30] against [10, 20, 30] matches two of three values within 5 %."""
    assert score(chart_relaxed, "[10.4, 21.2, 30]", {"values": [10, 20, 30]}).value == pytest.approx(2 / 3)
    assert score(chart_relaxed, "<answer>10, 20, 30, 40</answer>", {"values": [10, 20, 30]}).value == 0.75
    assert score(chart_relaxed, "30, 20, 10", {"values": [10, 20, 30]}).value == pytest.approx(1 / 3)
    assert score(chart_relaxed, "none", {"values": [10]}).status is Status.NO_ANSWER
    assert score(chart_relaxed, "1 " * 2_000, {"values": [10]}).value == 0.0


@pytest.mark.parametrize(
    "reference",
    [{}, {"answer": ""}, {"answer": float("nan")}, {"answer": float("inf")}, {"answer": None}, {"answer": True},
     {"answer": []}, {"values": []}, {"values": [1, "x"]}, {"values": [float("nan")]}, {"values": "1"}],
)  # fmt: skip
def test_chart_references(reference: Json) -> None:
    """An unusable reference earns no number, even where the response repeats it."""
    for text in ("nan", "inf", "5", "True"):
        assert score(chart_relaxed, text, reference).status is Status.REFERENCE_UNPARSEABLE


def test_keyword_recall() -> None:
    """Row B54: two of {red, bus, stop sign} are mentioned."""
    reference = {"keywords": ["red", "bus", "stop sign"]}
    result = score(keyword_recall, "A red bus waits.", reference)
    assert (result.value, result.details["missing"]) == (pytest.approx(2 / 3), ["stop sign"])
    assert score(keyword_recall, "A RED bus at the stop-sign", reference).value == 1.0
    assert score(keyword_recall, "a reddish omnibus, stop signs", reference).value == 0.0
    assert score(keyword_recall, "x " * 40_000 + "red", reference).value == pytest.approx(1 / 3)


@pytest.mark.parametrize("keywords", [None, [], "red", [""], ["..."], [None], [["red", ""]], [{}], ["x"] * 1_001])
def test_keyword_references(keywords: object) -> None:
    """A list without usable keywords names its field."""
    result = score(keyword_recall, "red", {"keywords": keywords})
    assert (result.status, result.details["field"]) == (Status.REFERENCE_UNPARSEABLE, "reference.keywords")
