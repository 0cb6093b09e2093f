"""Law 1 for an operator's own scorers: what they give that is no score becomes an error of theirs."""

import math

import pytest

from rewardhub.registry import verifier
from rewardhub.scheduler.scheduler import checked
from rewardhub.types import Column, Group, Response, Score, Status

NAN = math.nan
WRONG = [
    (Score(None), "no value with the status ok"),
    (Score(0.0, Status.TIMEOUT), "a value with the status timeout"),
    (Score(1.0, Status.SKIPPED), "a value with the status skipped"),
    (Score(NAN), "no finite number"),
    (Score(10**400), "no finite number"),
    (Score("1"), "no finite number"),
    (Score(1.0, steps=(NAN, 1.0)), "steps or a confidence"),
    (Score(1.0, confidence=math.inf), "steps or a confidence"),
]
RIGHT = [
    Score(1.0, steps=(None, 0.5), confidence=0.5),
    Score(0.0, Status.NO_ANSWER),
    Score(None, Status.NO_ANSWER),
    Score(None, Status.TIMEOUT),
]


@pytest.mark.parametrize(("score", "reason"), WRONG)
def test_what_is_no_score(score, reason):
    """Law 1, R2: no value beside a failure, no success without one, no number that is none; by any lane."""

    @verifier("wrong")
    def wrong(response, reference):
        return score

    (own,) = [wrong.bind({}).score(Group("g", "p", (Response("x"),)), [0]).row(0)]
    remote = checked(Column.of([Score(0.5), score], "f"))
    assert remote.row(0) == Score(0.5, fingerprint="f")
    for each in (own, remote.row(1)):
        assert (each.value, each.status, each.steps, each.confidence) == (None, Status.INTERNAL_ERROR, (), None)
        assert reason in each.details["reason"]


@pytest.mark.parametrize("score", RIGHT)
def test_what_is_a_score(score):
    """Verdicts and failures of a scorer's own pass unchanged."""
    assert checked(Column.of([score])).row(0) == score
