"""What waits for a verifier worker: rows of one group for one verifier."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rewardhub.owned import own_score
from rewardhub.scheduler.beginnings import Shared, beside
from rewardhub.scheduler.quarantine import inputs_of
from rewardhub.scorer import BoundVerifier, Context
from rewardhub.types import Group, Score, Status
from rewardhub.wire.proto import group_to_proto, response_to_proto


class Known:
    """What each row of a group is known by in quarantine: found once for all jobs that were made of it."""

    def __init__(self, bound: BoundVerifier, group: Group, rows: Sequence[int]) -> None:
        self._asked = bound, group, rows
        self._found: asyncio.Future[dict[int, bytes]] | None = None

    async def inputs(self) -> dict[int, bytes]:
        if self._found is None:
            self._found = asyncio.ensure_future(self._find())
        return await asyncio.shield(self._found)

    async def _find(self) -> dict[int, bytes]:
        bound, group, rows = self._asked
        return dict(zip(rows, await beside(group, lambda: inputs_of(bound, group, rows)), strict=True))


@dataclass(eq=False)
class PoolJob:
    """``scores`` fills up by row; ``shared`` is what the group's messages begin with, ``known`` what its rows are known
    by in quarantine, once anybody asked.
    """

    bound: BoundVerifier
    group: Group
    rows: list[int]
    context: Context
    shared: Shared
    known: "Known"
    done: asyncio.Future[None]
    scores: dict[int, Score] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)
    stops: int = 0
    """Workers that were stopped at it since one got on with it."""

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
        """The responses of some rows behind what is sent with them of the group; None where one of them, which is
        answered now, fits no message.
        """
        responses = tuple(self.group.responses[row] for row in rows)
        try:
            return self.shared.group + group_to_proto(Group("", responses=responses)).SerializeToString()
        except Exception as error:
            bad = {row: told for row in rows if (told := self._unwritable(row)) is not None}
            if not (bad and self.alone):
                told = next(iter(bad.values()), unwritable(error))
                bad = {row: own_score(told) for row in self.left}
            self.scores |= bad
            return None

    def _unwritable(self, row: int) -> Score | None:
        try:
            response_to_proto(self.group.responses[row])
        except Exception as error:
            return unwritable(error)
        return None


def unwritable(error: Exception) -> Score:
    """The score of what no message holds: half of a surrogate pair, an object that is no JSON, too large a number."""
    return Score(None, Status.INVALID_INPUT, details={"reason": f"it cannot be sent to a worker: {error}"})
