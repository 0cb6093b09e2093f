"""``cubic_rank``, ``ndcg``, ``recall_at_k``, ``similarity_gap``: the catalogue's rows and hostile lists."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.scorer import Verifier
from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.ranking import cubic_rank, ndcg, recall_at_k, similarity_gap

LISTS = (cubic_rank, ndcg, recall_at_k)
PAGES = {"relevant": [2, 5]}


def score(verifier: Verifier, text: str, reference: Json, **params: object) -> Score:
    """The score of one response."""
    group = Group("g", responses=(Response(text),), reference=reference)
    return verifier.bind(params).score(group, [0]).row(0)


def test_catalogue_row_of_the_reranker() -> None:
    """Row A25: gold {2, 5}, stated [2, 7, 5], K = 3."""
    assert score(cubic_rank, "[2, 7, 5]", PAGES, k=3).value == pytest.approx(0.9218, abs=5e-5)
    assert score(ndcg, "[2, 7, 5]", PAGES, k=3).value == pytest.approx(0.9197, abs=5e-5)
    assert score(recall_at_k, "[2, 7, 5]", PAGES, k=3).value == 1.0
    assert score(recall_at_k, "[2, 7, 5]", PAGES, k=2).value == 0.5


@pytest.mark.parametrize("verifier", LISTS, ids=lambda verifier: verifier.info.name)
def test_repeated_ids_pay_once(verifier: Verifier) -> None:
    """Row A25: duplicates are merged before scoring, and before the list is cut."""
    once = score(verifier, "[2, 7, 5]", PAGES, k=3).value
    assert score(verifier, "[2, 2, 2, 7, 2, 5, 5]", PAGES, k=3).value == once
    assert score(verifier, "[2, 2, 2, 2]", PAGES, k=3).value == score(verifier, "[2]", PAGES, k=3).value < once


@pytest.mark.parametrize(
    "text",
    ["[2, 5]", "<answer>[2, 5]</answer>", "<answer>2, 5</answer>", "<answer>2 > 5</answer>", "<answer>2\n5</answer>",
     "\\boxed{[2, 5]}", "[7, 8] was wrong, it is ['2', \"5\"].", "<answer>The order is [2, 5]</answer>",
     "<think>[9]</think><answer>[2; 5]</answer>"],
)  # fmt: skip
def test_where_the_list_stands(text: str) -> None:
    """In the tag or box, else the last brackets of the response."""
    for verifier in LISTS:
        assert score(verifier, text, PAGES).value == 1.0


def test_the_tag_is_a_parameter() -> None:
    """MM-R5 states its list in a tag of its own."""
    text = "<think>[9]</think><rerank>[2, 5]</rerank><answer>[9]</answer>"
    assert score(cubic_rank, text, PAGES, tag="rerank").value == 1.0
    assert score(cubic_rank, text, PAGES).value == 0.0


def test_gains() -> None:
    """Graded relevance, linear and exponential; ids are compared without case."""
    reference = {"gains": {"A": 3, "b": 1, "c": 0}}
    assert score(ndcg, "[a, b]", reference).value == 1.0
    ideal = 3 + 1 / math.log2(3)
    assert score(ndcg, "[c, b, a]", reference).value == pytest.approx((1 / math.log2(3) + 3 / 2) / ideal)
    assert score(ndcg, "[x, y]", reference).value == 0.0


def test_recall_can_be_cut() -> None:
    """At k below the number of relevant ids plain recall cannot reach 1."""
    assert score(recall_at_k, "[2]", PAGES, k=1).value == 0.5
    assert score(recall_at_k, "[2]", PAGES, k=1, cut=True).value == 1.0


@pytest.mark.parametrize(
    "reference",
    [{}, {"relevant": []}, {"relevant": None}, {"relevant": [None]}, {"relevant": [""]}, {"relevant": ["a b"]},
     {"relevant": {"a": 1}}, {"relevant": [1.5]}],
)  # fmt: skip
def test_bad_references(reference: Json) -> None:
    """An unusable list of relevant ids is named, and no response earns a number on it."""
    for verifier in LISTS:
        result = score(verifier, "[2]", reference)
        assert (result.status, result.details["field"]) == (Status.REFERENCE_UNPARSEABLE, "reference.relevant")


@pytest.mark.parametrize(
    "gains", [{}, [1], {"a": -1}, {"a": float("nan")}, {"a": 1e4}, {"a": "1"}, {"a": True}, {"a": 0}, {"a b": 1}]
)
def test_bad_gains(gains: object) -> None:
    """Gains are an object of bounded numbers, one of them above 0."""
    assert score(ndcg, "[a]", {"gains": gains}).details["field"] == "reference.gains"
    assert score(ndcg, "[a]", {"gains": {"a": 31}}, exponential=True).status is Status.REFERENCE_UNPARSEABLE


@pytest.mark.parametrize("verifier", LISTS, ids=lambda verifier: verifier.info.name)
def test_no_list(verifier: Verifier) -> None:
    """Prose is no list, an empty list is none, and a megabyte of brackets is read at once."""
    for text in ("", "pages 2 and 5", "[]", "<answer></answer>", "<answer>[ , ]</answer>"):
        assert score(verifier, text, PAGES).status is Status.NO_ANSWER
    begun = time.process_time()
    for part in ("[", "]", "[]", "[1,", "1 ", "<answer>"):
        assert score(verifier, (part * 1_000_000)[:1_000_000], PAGES).status in (Status.OK, Status.NO_ANSWER)
    assert time.process_time() - begun < 2.0


IDS = st.lists(st.integers(0, 12), min_size=1, max_size=10)


@given(IDS, IDS, st.integers(1, 12))
def test_ranking_properties(relevant: list[int], stated: list[int], k: int) -> None:
    """Values are in [0, 1]; all relevant ids first is 1; putting a relevant id first never costs."""
    reference = {"relevant": sorted(set(relevant))}
    for verifier in LISTS:
        value = score(verifier, str(stated), reference, k=k).value
        assert 0.0 <= value <= 1.0
        better = score(verifier, str([relevant[0], *stated]), reference, k=k).value
        assert better >= value - 1e-12 or verifier is recall_at_k
    for verifier in (cubic_rank, ndcg):
        assert score(verifier, str([*reference["relevant"], 99]), reference, k=k).value == pytest.approx(1.0)


def gap(**signals: float) -> Score:
    """The score of a response with these signals."""
    group = Group("g", responses=(Response(signals=signals),))
    return similarity_gap.bind({}).score(group, [0]).row(0)


def test_similarity_gap() -> None:
    """Row A70: positives .9 and .8, or .9 and .4, against negatives .5 and .3."""
    assert gap(positive_0=0.9, positive_1=0.8, negative_0=0.5, negative_1=0.3).value == pytest.approx(0.45)
    assert gap(positive_0=0.9, positive_1=0.4, negative_0=0.5, negative_1=0.3).value == pytest.approx(0.125)
    assert gap(positive_0=0.5, negative_0=0.5).value == 0.0
    for bad in (
        {},
        {"positive_0": 1.0},
        {"positive_0": 2.0, "negative_0": 0.0},
        {"positive": math.nan, "negative": 0.0},
    ):
        assert gap(**bad).status is Status.INVALID_INPUT
