"""Many groups of one call, scored in one pass as far as nothing has to wait for a lane.

Wave by wave, what all groups ask for is looked up at once. A group that needs a lane goes on by itself,
so that it holds up no other.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rewardhub.pace import Pace
from rewardhub.recipes.execution import Asked, Execution
from rewardhub.types import Column, Group, GroupScores

Outcome = GroupScores | Exception


@dataclass(slots=True, eq=False)
class _Work:
    """One group on its way; ``outcome`` once it is scored or has failed."""

    execution: Execution
    group: Group
    tell: Callable[[GroupScores], None]
    asked: Sequence[Asked] = ()
    outcome: Outcome | None = None

    def begin(self, wave: int) -> None:
        """Asks for what the wave has to score."""
        try:
            terms = self.execution.plan.waves[wave]
            self.asked = self.execution.asks(terms, self.group, range(len(self.group.responses)))
        except Exception as error:
            self.outcome = error

    def settle(self, wave: int, columns: Sequence[Column]) -> None:
        try:
            self.execution.settle(self.asked, columns)
            if wave + 1 == len(self.execution.plan.waves):
                self._finish(self.execution.scores(self.group))
        except Exception as error:
            self.outcome = error

    async def go_on(self, wave: int, columns: Sequence[Column | None]) -> None:
        """The rest, from a wave of which only some columns are known."""
        try:
            await self.execution.answer(self.asked, columns)
            self._finish(await self.execution.finish(self.group, since=wave + 1))
        except Exception as error:
            self.outcome = error

    def _finish(self, scores: GroupScores) -> None:
        self.tell(scores)
        self.outcome = scores


Started = tuple[Execution, Group, Callable[[GroupScores], None]]
"""An execution that has not begun, its group, and who is told of its scores the moment they are there."""


async def finish_all(started: Sequence[Started]) -> list[Outcome]:
    """The scores of each group, or the exception that it came to, in their order."""
    works = [_Work(*each) for each in started]
    async with asyncio.TaskGroup() as apart:
        going, wave = works, 0
        while going:
            slow = await _wave(going, wave)
            if len(works) == len(slow) == 1:
                await works[0].go_on(wave, slow[0][1])
            else:
                for work, columns in slow:
                    apart.create_task(work.go_on(wave, columns))
            left = {id(work) for work, _ in slow}
            going = [work for work in going if work.outcome is None and id(work) not in left]
            wave += 1
    return [work.outcome for work in works if work.outcome is not None]


async def _wave(going: Sequence[_Work], wave: int) -> list[tuple[_Work, list[Column | None]]]:
    """Settles the groups of which everything in the wave is known; the others, with what is."""
    pace = Pace()
    for work in going:
        if pace.due:
            await pace.rest()
        work.begin(wave)
    asking = [work for work in going if work.outcome is None]
    asks = [ask for work in asking for _, ask in work.asked]
    columns = iter(await going[0].execution.lanes.known(asks) if asks else ())
    slow: list[tuple[_Work, list[Column | None]]] = []
    for work in asking:
        if pace.due:
            await pace.rest()
        found = [next(columns) for _ in work.asked]
        known = [column for column in found if column is not None]
        if len(known) == len(found):
            work.settle(wave, known)
        else:
            slow.append((work, found))
    return slow
