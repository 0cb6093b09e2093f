"""Scores for protocols that have no word for a failure: a number, or the error that its status stands for."""

from collections.abc import Mapping

from rewardhub.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidInput,
    JudgeUnparseable,
    ReferenceUnparseable,
    RewardHubError,
    Unavailable,
)
from rewardhub.types import GroupScores, Score, Status

_ERRORS: Mapping[Status, type[RewardHubError]] = {
    Status.NO_ANSWER: InvalidInput,
    Status.OVER_LIMIT: InvalidInput,
    Status.REFERENCE_UNPARSEABLE: ReferenceUnparseable,
    Status.INVALID_INPUT: InvalidInput,
    Status.TIMEOUT: DeadlineExceeded,
    Status.UNAVAILABLE: Unavailable,
    Status.JUDGE_UNPARSEABLE: JudgeUnparseable,
    Status.CANCELLED: Unavailable,
}


def error_of(score: Score) -> RewardHubError:
    """The error that the status of a score stands for."""
    details = score.details
    reason, field = str(details.get("reason", score.status)), str(details.get("field", ""))
    kind = _ERRORS.get(score.status, InternalError)
    return kind(reason, field=field, retry_after_s=float(details.get("retry_after_s", 0.0)))


def values_of(answers: list[GroupScores]) -> list[float]:
    """The values of all rows in order; raises the error of the first row without one."""
    values = []
    for scores in answers:
        for row, value in enumerate(scores.values):
            if value is None:
                raise error_of(scores[row])
            values.append(value)
    return values
