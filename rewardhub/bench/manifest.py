"""What a scorer answered, kept as JSONL so that a run can stop and go on, and be scored again later."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from rewardhub.errors import InternalError, InvalidInput
from rewardhub.types import Call, Group, GroupScores, Score, Status


@dataclass(frozen=True, slots=True)
class Answer:
    """The scores of one group, in the order of its responses; ``reason`` is of the first failure."""

    values: tuple[float | None, ...]
    statuses: tuple[Status, ...]
    fingerprint: str
    reason: str = ""

    @classmethod
    def of(cls, scores: GroupScores, count: int) -> "Answer":
        """Raises ``InternalError`` unless there is exactly one row per response."""
        indices = scores.indices or list(range(len(scores)))
        if sorted(indices) != list(range(count)) or len(scores) != count:
            raise InternalError(f"group {scores.id}: rows {indices} for {count} responses")
        rows = [_finite(scores.total.row(indices.index(index))) for index in range(count)]
        failed = [row for row in rows if row.status is not Status.OK]
        return cls(
            tuple(row.value for row in rows),
            tuple(row.status for row in rows),
            scores.total.fingerprint,
            str(failed[0].details.get("reason", "")) if failed else "",
        )

    @property
    def final(self) -> bool:
        """Whether asking again is pointless: every status is a verdict on the response."""
        return all(status.is_verdict for status in self.statuses)

    @property
    def retryable(self) -> bool:
        return any(status.retryable for status in self.statuses)


class Manifest:
    """Answers by key, appended to a file as they come; the last line of a key counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._answers = dict(_read(path)) if path.exists() else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    def get(self, key: str) -> Answer | None:
        return self._answers.get(key)

    def add(self, key: str, name: str, answer: Answer) -> None:
        self._answers[key] = answer
        self._lines.write(json.dumps({"key": key, "id": name, **asdict(answer)}) + "\n")
        self._lines.flush()


def key_of(place: str, group: Group, call: Call) -> str:
    """Place and content together: ids repeat in published sets, and rows move when a file changes."""
    asked: list[Any] = [
        place, call.recipe, call.recipe_text, dict(call.inputs), group.prompt, group.reference,
        [response.text for response in group.responses], [media.sha256 for media in group.media],
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _finite(score: Score) -> Score:
    if score.value is None or math.isfinite(score.value):
        return score
    return Score(None, Status.INTERNAL_ERROR, details={"reason": "the value is not a finite number"})


def _read(path: Path) -> Iterator[tuple[str, Answer]]:
    lines = path.read_bytes().split(b"\n")
    if lines[-1]:  # a run that was killed while writing leaves half a line
        lines.pop()
        path.write_bytes(b"\n".join([*lines, b""]))
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            record = json.loads(line)
            statuses = tuple(Status(status) for status in record["statuses"])
            yield record["key"], Answer(tuple(record["values"]), statuses, record["fingerprint"], record["reason"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{path}:{number}: not a line of a score manifest: {error}", field="out") from None
