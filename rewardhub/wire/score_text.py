"""Score lines as text, column by column: what the rows of a column share is written once.

The text is what ``dumps(scores_to_json(scores))`` gives, but for the order of the fields.
"""

import math
from functools import lru_cache

from rewardhub.types import Column, GroupScores, Status
from rewardhub.wire.lines import dumps


def scores_text(scores: GroupScores, *, details: bool) -> str:
    """The score line of a group."""
    parts = {dumps(path): _rows(column, ["{}"] * len(scores), details) for path, column in scores.parts.items()}
    inner = _objects(parts) if parts else ["{}"] * len(scores)
    rows = ",".join(_rows(scores.total, inner, details))
    return f'{{{_head(scores)},"scores":[{rows}]}}'


def _head(scores: GroupScores) -> str:
    """What is not about one row."""
    timings = scores.timings
    indices = ",".join(map(str, scores.indices or range(len(scores))))
    queue, run, total = (_number(each) for each in (timings.queue_ms, timings.run_ms, timings.total_ms))
    return (
        f'"id":{dumps(scores.id)},"indices":[{indices}],"complete":{"true" if scores.complete else "false"},'
        f'"timings":{{"queue_ms":{queue},"run_ms":{run},"total_ms":{total}}}'
    )


def _number(value: float | None) -> str:
    return "null" if value is None or not math.isfinite(value) else repr(float(value))


def _objects(fields: dict[str, list[str]]) -> list[str]:
    """Per row, the object of these fields."""
    rows = zip(*fields.values(), strict=True)
    return ["{" + ",".join(f"{name}:{text}" for name, text in zip(fields, row, strict=True)) + "}" for row in rows]


def _rows(column: Column, parts: list[str], details: bool) -> list[str]:
    """Per row, the object of a score with these parts."""
    size, fingerprint = len(column), column.fingerprint
    texts = [
        f'{{"value":{_number(value)},{_shared(status, cached, fingerprint)},"parts":{inner}'
        for value, status, cached, inner in zip(
            column.values, column.statuses, column.cached or [False] * size, parts, strict=True
        )
    ]
    end = "}"
    for name, values, absent in (
        ("confidence", column.confidence, "null"),
        ("steps", column.steps, "[]"),
        ("details", [dict(each or {}) for each in column.details] if details and column.details else None, "{}"),
    ):
        if values is None:
            end = f',"{name}":{absent}{end}'
        else:
            texts = [f'{text},"{name}":{dumps(value)}' for text, value in zip(texts, values, strict=True)]
    return [text + end for text in texts]


@lru_cache(maxsize=1_024)
def _shared(status: Status, cached: bool, fingerprint: str) -> str:
    known = {"status": str(status), "blame": str(status.blame), "retryable": status.retryable}
    return dumps(known | {"fingerprint": fingerprint, "cached": cached})[1:-1]
