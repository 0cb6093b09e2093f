"""What the caller wants instead of a score that has no value; the status always stays."""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from rewardhub.errors import InvalidInput, ScoringFailed
from rewardhub.types import Column, GroupScores, Status

_Word = Literal["raise", "none", "neutral"]
OnFailure = _Word | float
"""``raise`` :class:`ScoringFailed`; leave ``none``; ``neutral``: the mean of the values of the other
members of a complete group, so that the failed one gets no advantage; or this number."""


@dataclass(slots=True)
class Stats:
    """Counts since the client was made: responses scored, failed scores by status, scores replaced by a
    neutral value, groups sent again, media uploaded.
    """

    responses: int = 0
    failures: Counter[Status] = field(default_factory=Counter)
    neutralised: int = 0
    retries: int = 0
    uploads: int = 0


def check_policy(policy: OnFailure) -> None:
    """Raises ``InvalidInput`` unless ``policy`` is one of the words or a finite number."""
    number = isinstance(policy, int | float) and not isinstance(policy, bool) and math.isfinite(policy)
    if not number and policy not in get_args(_Word):
        raise InvalidInput(f"on_failure is {policy!r}, expected raise, none, neutral or a number", field="on_failure")


def apply_policy(scores: GroupScores, policy: OnFailure, stats: Stats) -> GroupScores:
    """``scores`` with the values that ``policy`` gives to failed responses; raises ``ScoringFailed``.

    Scores that are not complete pass unchanged. A group in which no member has a value stays without
    one under ``neutral``.
    """
    if not scores.complete:
        return scores
    total = scores.total
    stats.responses += len(total)
    failed = [row for row, value in enumerate(total.values) if value is None]
    if not failed:
        return scores
    stats.failures.update(total.statuses[row] for row in failed)
    if policy == "none":
        return scores
    if policy == "raise":
        raise failure_of(scores, failed[0])
    value = _neutral(total) if policy == "neutral" else float(policy)
    if policy == "neutral" and value is not None:
        stats.neutralised += len(failed)
    values = [value if each is None else each for each in total.values]
    return replace(scores, total=replace(total, values=values))


def failure_of(scores: GroupScores, row: int) -> ScoringFailed:
    """The error that names group, response index, status and reason of a row without a value."""
    index = scores.indices[row] if scores.indices else row
    score = scores.total.row(row)
    reason = score.details.get("reason", "")
    text = f"group {scores.id!r}, response {index}: {score.status}{': ' if reason else ''}{reason}"
    return ScoringFailed(text, field=f"{scores.id}/{index}")


def _neutral(total: Column) -> float | None:
    present = [value for value in total.values if value is not None]
    return math.fsum(present) / len(present) if present else None
