"""``log_score``, ``brier``, ``ece``, ``external``: the catalogue's rows and what must never earn a number."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.scorer import Verifier
from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.answerlib.confidence import calibration
from rewardhub.verifiers.calibration import brier, ece, log_score
from rewardhub.verifiers.external import external

B: Json = {"answer": "B"}


def score(verifier: Verifier, response: str | Response, reference: Json, **params: object) -> Score:
    """The score of one response."""
    response = Response(response) if isinstance(response, str) else response
    return verifier.bind(params).score(Group("g", responses=(response,), reference=reference), [0]).row(0)


def said(answer: str, confidence: object) -> str:
    """A response in the usual form."""
    return f"<think>x</think><answer>{answer}</answer><confidence>{confidence}</confidence>"


def scores(texts: list[str], reference: Json, **params: object) -> list[Score]:
    """The calibration errors of a group."""
    group = Group("g", responses=tuple(map(Response, texts)), reference=reference)
    return list(map(ece.bind(params).score(group, range(len(texts))).row, range(len(texts))))


@pytest.mark.parametrize(
    ("answer", "confidence", "value"),
    [("B", 0.8, -0.2231), ("C", 0.8, -2.6094), ("C", 1, -24.0259), ("B", 1, 0.0), ("B", 0, -23.0259), ("C", 0, -1.0)],
)
def test_log_score(answer: str, confidence: float, value: float) -> None:
    """Row A66: ln p of a right answer, ln(1 - p) - 1 of a wrong one, p and 1 - p of at least 1e-10."""
    result = score(log_score, said(answer, confidence), B)
    assert result.value == pytest.approx(value, abs=5e-5)
    assert result.confidence == result.details["confidence"] == confidence


@pytest.mark.parametrize(
    "text",
    ["", "B", "<answer>B</answer>", said("B", ""), said("B", "high"), said("B", "1.01"), said("B", "-0.1"),
     said("B", "nan"), said("B", "80"), said("B", "0.8 or 0.9"), said("", 0.8), "confidence 0.8",
     "The answer is B with confidence -0.8", said("B", "0" * 50), "confidence " + "9" * 10_000],
)  # fmt: skip
def test_unreadable_confidence_is_no_answer(text: str) -> None:
    """Row A66: what cannot be read is no answer; 0, the usual number for it, would be the best score."""
    result = score(log_score, text, B)
    assert (result.value, result.status) == (None, Status.NO_ANSWER)


@pytest.mark.parametrize(
    ("text", "scale"),
    [
        ("In conclusion, the answer is B with confidence 80", "percent"), ("The answer is (b), confidence: 80%", "unit"),
        ("Answer: B\nConfidence: 0.8", "unit"), ("Answer: B\n**Confidence:** 80", "percent"), ("B, confidence .8", "unit"),
        ("<answer>B</answer><confidence> 80 % </confidence>", "percent"), (said("B", 0.8), "unit"),
        ("<answer>B</answer> My confidence is 0.8.", "unit"), (said("B", 80), "percent"),
    ],
)  # fmt: skip
def test_where_confidence_and_answer_stand(text: str, scale: str) -> None:
    """The usual ways to state both; without a percent sign the scale is a parameter."""
    for truth in ("label", "mcq"):
        assert score(log_score, text, B, scale=scale, truth=truth).value == pytest.approx(math.log(0.8))
        assert score(log_score, text, {"answer": "C"}, scale=scale, truth=truth).value == pytest.approx(
            math.log(0.2) - 1
        )


def test_who_says_what_is_right() -> None:
    """The label, the option, the caller's verdict, or the trainer's signal."""
    options = {"answer": "B", "options": ["cat", "dog"]}
    assert score(log_score, said("dog", 0.8), options, truth="mcq").details["right"] is True
    assert score(log_score, said("dog", 0.8), options).details["right"] is False
    assert score(log_score, said("x", 0.8), {"correct": True}, truth="correct").details["right"] is True
    known = Response("", signals={"correct": 0.0, "confidence": 0.8})
    result = score(log_score, known, {}, truth="signal", confidence="signal")
    assert result.value == pytest.approx(math.log(0.2) - 1)


@pytest.mark.parametrize("signals", [{}, {"correct": 1.0}, {"correct": 1.0, "confidence": math.nan}, {"correct": 2.0}])
def test_bad_signals(signals: dict) -> None:
    """A missing or impossible signal is the caller's fault."""
    result = score(log_score, Response("B", signals=signals), {}, truth="signal", confidence="signal")
    assert (result.value, result.status) == (None, Status.INVALID_INPUT)


@pytest.mark.parametrize("verifier", [log_score, brier, ece], ids=lambda verifier: verifier.info.name)
def test_bad_references(verifier: Verifier) -> None:
    """Fault F1: an unusable reference earns no number, whoever says what is right."""
    for reference in ({}, {"answer": ""}, {"answer": None}, {"answer": [[]]}):
        for truth in ("label", "mcq"):
            assert score(verifier, said("B", 0.9), reference, truth=truth).status is Status.REFERENCE_UNPARSEABLE
    for correct in (None, "yes", [], [2], 0.5, math.nan):
        result = score(verifier, said("B", 0.9), {"correct": correct}, truth="correct")
        assert (result.status, result.details["field"]) == (Status.REFERENCE_UNPARSEABLE, "reference.correct")


def test_brier() -> None:
    """Rows A66 and B53: as a reward and as a loss, and the mean of both answers of row A66 is 0.185."""
    losses = [score(brier, said(answer, p), B, form="loss").value for answer, p in (("B", 0.9), ("C", 0.6))]
    assert sum(losses) / 2 == pytest.approx(0.185)
    assert score(brier, said("B", 0.9), B).value == pytest.approx(0.99)


def test_step_confidences() -> None:
    """Row B53: stated .9 .8 .6 .55, truth 1 1 0 1, rewards .99 .96 .64 .7975, Brier 0.1531."""
    text = " ".join(f"<confidence>{value}</confidence>" for value in (0.9, 0.8, 0.6, 0.55))
    reference = {"correct": [1, 1, 0, 1]}
    result = score(brier, text, reference, truth="correct")
    assert result.steps == pytest.approx((0.99, 0.96, 0.64, 0.7975))
    assert 1 - result.value == pytest.approx(0.1531, abs=5e-5)
    assert score(brier, text, {"correct": [1, 1, 0]}, truth="correct").status is Status.NO_ANSWER


def test_levels() -> None:
    """Row B53: five fixed statements stand for five probabilities."""
    levels = [0.1, 0.3, 0.5, 0.7, 0.9]
    assert score(brier, said("B", 5), B, levels=levels).value == pytest.approx(0.99)
    for level in ("0", "6", "1.5", "high"):
        assert score(brier, said("B", level), B, levels=levels).status is Status.NO_ANSWER


def test_ece_of_a_group() -> None:
    """Row A66: .9 right and .6 wrong have an ECE of 0.35 and a Brier score of 0.185, for each member."""
    found = scores([said("B", 0.9), said("C", 0.6)], B)
    assert [each.value for each in found] == pytest.approx([0.35, 0.35])
    assert found[0].details == {"brier": pytest.approx(0.185), "accuracy": 0.5, "counted": 2}


def test_ece_by_hand() -> None:
    """Row B53: five bins, closed on the right; and bins hold what lies exactly on their upper edge."""
    error, loss = calibration([0.9, 0.8, 0.6, 0.55], [True, True, False, True], 5)
    assert (error, loss) == (pytest.approx(0.1125), pytest.approx(0.153125))
    assert calibration([0.8, 0.81], [True, False], 10)[0] == pytest.approx((0.2 + 0.81) / 2)
    assert calibration([0.71, 0.8], [True, False], 10)[0] == pytest.approx(abs(0.71 - 1 + 0.8) / 2)


def test_a_confidence_of_zero_is_in_the_first_bin() -> None:
    """Prompt4Trust's code leaves a confidence of 0 out of every bin: a wrong 0 for a right answer."""
    assert calibration([0.0], [True], 10)[0] == 1.0
    assert [each.value for each in scores([said("B", 0), said("B", 0.05)], B)] == pytest.approx([0.975] * 2)


def test_ece_leaves_failures_out() -> None:
    """A response without a confidence has its own status and does not touch the others."""
    found = scores([said("B", 0.9), "no idea", said("B", 0.9) + "x" * 100_001], B)
    assert [each.status for each in found] == [Status.OK, Status.NO_ANSWER, Status.OVER_LIMIT]
    assert found[0].value == pytest.approx(0.1)
    assert [each.value for each in scores(["", "x"], B)] == [None, None]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30), st.integers(1, 20))
def test_calibration_properties(items: list[tuple[float, bool]], bins: int) -> None:
    """Both are in [0, 1], do not depend on the order, and are 0 for perfect knowledge."""
    stated, right = [item[0] for item in items], [item[1] for item in items]
    error, loss = calibration(stated, right, bins)
    assert 0.0 <= error <= 1.0 + 1e-12
    assert 0.0 <= loss <= 1.0
    assert calibration(stated[::-1], right[::-1], bins) == (pytest.approx(error), pytest.approx(loss))
    assert calibration([float(truth) for truth in right], right, bins) == (0.0, 0.0)


@pytest.mark.parametrize("verifier", [log_score, brier, ece], ids=lambda verifier: verifier.info.name)
@pytest.mark.parametrize(
    "part", ["confidence ", "<confidence>", "<confidence>1</confidence>", "(", "9", "with a ", "."]
)
def test_linear_time(verifier: Verifier, part: str) -> None:
    """The longest text allowed is read in linear time."""
    text = (part * 100_000)[:100_000]
    begun = time.process_time()
    assert score(verifier, text, B).status in (Status.OK, Status.NO_ANSWER)
    assert score(verifier, "<answer>B</answer>" + text[:-20], B).status in (Status.OK, Status.NO_ANSWER)
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize("values", [[1, 0, 1], [0.5], [-5.0, 5.0]])
def test_external_is_the_identity(values: list[float]) -> None:
    """Rows A7, A19, A34, A43, A65, A38: success flags, a Sharpe ratio, a game's score go through unchanged."""
    group = Group("g", responses=tuple(Response(signals={"reward": value}) for value in values))
    assert external.bind({}).score(group, range(len(values))).values == values
    assert score(external, "x", {"sharpe": 0.5}, source="reference", name="sharpe").value == 0.5


def test_human_normalised_score() -> None:
    """Row A38: (300 - 100) / (500 - 100)."""
    assert score(external, Response(signals={"reward": 300}), {}, zero=100, one=500).value == 0.5
    assert score(external, Response(signals={"reward": 3}), {}, zero=1, one=1).status is Status.INVALID_INPUT


@pytest.mark.parametrize("value", [None, math.nan, math.inf, 1e10, "1", True, [1]])
def test_external_failures_are_the_callers(value: object) -> None:
    """A number that is missing or not finite is never replaced by one."""
    result = score(external, Response(signals={"reward": value}), {})
    assert (result.value, result.status, result.details["field"]) == (None, Status.INVALID_INPUT, "signals.reward")
    result = score(external, "x", {"reward": value}, source="reference")
    assert (result.status, result.details["field"]) == (Status.REFERENCE_UNPARSEABLE, "reference.reward")
