"""What waits for a verifier worker: rows of one group for one verifier."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from rewardhub.scheduler.quarantine import inputs_of
from rewardhub.scorer import BoundVerifier, Context
from rewardhub.types import Group, Score, Status
from rewardhub.wire.proto import group_to_proto, response_to_proto


@dataclass(eq=False)
class PoolJob:
    """``scores`` fills up by row."""

    bound: BoundVerifier
    group: Group
    rows: list[int]
    context: Context
    done: asyncio.Future[None]
    scores: dict[int, Score] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    @cached_property
    def inputs(self) -> dict[int, bytes]:
        """What each row is known by in quarantine."""
        return dict(zip(self.rows, inputs_of(self.bound, self.group, self.rows), strict=True))

    @property
    def alone(self) -> bool:
        """Whether each row is scored by itself."""
        return self.bound.info.scope == "response"

    @property
    def left(self) -> list[int]:
        return [row for row in self.rows if row not in self.scores]

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.done.done() or time.monotonic() >= self.context.deadline

    def message(self, rows: Sequence[int]) -> bytes | None:
        """The group with the responses of some rows; None where one of them, which is answered now, fits no message."""
        responses = tuple(self.group.responses[row] for row in rows)
        try:
            return group_to_proto(replace(self.group, responses=responses)).SerializeToString()
        except Exception as error:
            bad = {row: told for row in rows if (told := self._unwritable(row)) is not None}
            if not (bad and self.alone):
                bad = dict.fromkeys(self.left, next(iter(bad.values()), _refused(error)))
            self.scores |= bad
            return None

    def _unwritable(self, row: int) -> Score | None:
        try:
            response_to_proto(self.group.responses[row])
        except Exception as error:
            return _refused(error)
        return None


def _refused(error: Exception) -> Score:
    """Half of a surrogate pair, an object that is no JSON, a number that is too large."""
    return Score(None, Status.INVALID_INPUT, details={"reason": f"it cannot be sent to a worker: {error}"})
