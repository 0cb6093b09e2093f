"""Score lines as text, column by column: what the rows of a column share is written once.

The text is what ``dumps(scores_to_json(scores))`` gives, but for the order of the fields.
"""

import math
from collections.abc import Iterable
from typing import Any

from rewardhub.types import Column, GroupScores, Status
from rewardhub.wire.lines import dumps


def scores_text(scores: GroupScores, *, details: bool) -> str:
    """The score line of a group."""
    timings = scores.timings
    line = {
        "id": scores.id,
        "indices": scores.indices or list(range(len(scores))),
        "complete": scores.complete,
        "timings": {"queue_ms": timings.queue_ms, "run_ms": timings.run_ms, "total_ms": timings.total_ms},
    }
    parts = {dumps(path): _rows(column, ["{}"] * len(scores), details) for path, column in scores.parts.items()}
    inner = _objects(parts) if parts else ["{}"] * len(scores)
    return f'{dumps(line)[:-1]},"scores":[{",".join(_rows(scores.total, inner, details))}]}}'


def _objects(fields: dict[str, list[str]]) -> list[str]:
    """Per row, the object of these fields."""
    rows = zip(*fields.values(), strict=True)
    return ["{" + ",".join(f"{name}:{text}" for name, text in zip(fields, row, strict=True)) + "}" for row in rows]


def _rows(column: Column, parts: list[str], details: bool) -> list[str]:
    """Per row, the object of a score with these parts."""
    size = len(column)
    shared: dict[tuple[Status, bool], str] = {}
    texts = []
    for value, status, cached, inner in zip(
        column.values, column.statuses, column.cached or [False] * size, parts, strict=True
    ):
        tail = shared.get((status, cached))
        if tail is None:
            tail = shared[status, cached] = dumps(_shared(status, cached, column.fingerprint))[1:-1]
        number = "null" if value is None or not math.isfinite(value) else repr(float(value))
        texts.append(f'{{"value":{number},{tail},"parts":{inner}')
    for name, values, absent in (
        ("confidence", column.confidence, "null"),
        ("steps", column.steps, "[]"),
        ("details", [dict(each or {}) for each in column.details] if details and column.details else None, "{}"),
    ):
        texts = [f'{text},"{name}":{value}' for text, value in zip(texts, _each(values, absent, size), strict=True)]
    return [text + "}" for text in texts]


def _each(values: Iterable[Any] | None, absent: str, size: int) -> list[str]:
    return [absent] * size if values is None else list(map(dumps, values))


def _shared(status: Status, cached: bool, fingerprint: str) -> dict[str, Any]:
    known = {"status": str(status), "blame": str(status.blame), "retryable": status.retryable}
    return known | {"fingerprint": fingerprint, "cached": cached}
