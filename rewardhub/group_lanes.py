"""The lanes as one group sees them: with its deadline, its tenant and the versions that its run is held to."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rewardhub.pins import held_to
from rewardhub.scheduler.scheduler import Scheduler
from rewardhub.scorer import Ask, Context
from rewardhub.types import Call, Column


@dataclass(slots=True)
class GroupLanes:
    """The lanes for one group's asks, by ``deadline``; without one, each term gets ``seconds`` of its own.

    ``versions`` are those of models that the group's run is held to.
    """

    scheduler: Scheduler
    call: Call
    tenant: str
    recipe: str
    seconds: float
    deadline: float | None
    versions: Mapping[str, str]

    def prolong(self, seconds: float, deadline: float | None) -> None:
        """From now on terms have as long as these would give them too."""
        self.seconds = max(self.seconds, seconds)
        self.deadline = None if deadline is None or self.deadline is None else max(self.deadline, deadline)

    async def known(self, asks: Sequence[Ask]) -> list[Column | None]:
        return await self.scheduler.known(asks, self._context(), self.call.cache)

    async def compute(self, asks: Sequence[Ask]) -> list[Column]:
        context, mode = self._context(), self.call.cache
        if len(asks) == 1:
            return [await self.scheduler.compute(asks[0], context, mode)]
        return await asyncio.gather(*(self.scheduler.compute(ask, context, mode) for ask in asks))

    def held(self, ask: Ask, column: Column) -> Column:
        """The column, or a refusal where it is of another version than the group's run is held to."""
        return held_to(column, ask, self.versions) if self.versions else column

    def _context(self) -> Context:
        deadline = self.deadline if self.deadline is not None else time.monotonic() + self.seconds
        return Context(deadline, self.call.priority, self.tenant, self.recipe)
