"""Answers for one group, made by the client or put together from what the hub sent."""

from collections.abc import Sequence
from dataclasses import replace

from rewardhub.types import Column, Group, GroupScores, Score, Status
from rewardhub.wire.lines import column_of


def failed(group: Group, status: Status, reason: str) -> GroupScores:
    """Scores without a value for every response, made by the client."""
    count = len(group.responses)
    return GroupScores(group.id, Column.failed(count, status, reason), indices=list(range(count)))


def whole(group: Group, answer: GroupScores) -> GroupScores:
    """The answer, with a row for each response: a group that was refused before its responses came has one for all."""
    count = len(group.responses)
    if len(answer) == count:
        return answer
    if count and len(answer) == 1 and answer.values == [None]:
        return replace(answer.take([0] * count), indices=list(range(count)))
    # A group that travels in parts was ended before all had come: at its deadline, or because the hub goes away.
    reason = f"the hub answered {len(answer)} of {count} responses"
    return failed(group, Status.UNAVAILABLE, reason)


def better(answer: GroupScores, earlier: GroupScores | None) -> GroupScores:
    """The answer with fewer failures, the later one of two equal ones."""
    if earlier is None:
        return answer
    return earlier if earlier.values.count(None) < answer.values.count(None) else answer


def merged(answers: Sequence[GroupScores]) -> GroupScores:
    """The rows of all answers for one group, ordered by index; the last wins where several have a row."""
    if len(answers) == 1:
        return answers[0]
    rows: dict[int, Score] = {}
    for scores in answers:
        rows.update(zip(scores.indices, scores, strict=True))
    indices = sorted(rows)
    ordered = [rows[index] for index in indices]
    paths = {path: None for row in ordered for path in row.parts}
    pending = Score(None, Status.INCOMPLETE_GROUP)
    parts = {path: column_of([row.parts.get(path, pending) for row in ordered]) for path in paths}
    return replace(answers[-1], total=column_of(ordered), parts=parts, indices=indices)


def told_wait_s(scores: GroupScores) -> float:
    """The longest wait that the details of the rows ask for before a repeat, in seconds."""
    rows = [details for details in scores.total.details or () if details]
    waits = [details.get("retry_after_s", 0.0) for details in rows]
    return max((float(wait) for wait in waits if isinstance(wait, int | float)), default=0.0)
