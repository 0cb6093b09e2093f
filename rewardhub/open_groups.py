"""Open groups: a group whose responses come one by one, from one stream or from many single calls.

Response-wide terms are scored as responses arrive; group-wide terms and values wait for ``close``, for
``expected`` responses, or for the deadline, at which the members that never came are missing.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from rewardhub.errors import Cancelled, InvalidInput
from rewardhub.recipes.execution import Execution
from rewardhub.types import MAX_RESPONSES, Column, Group, GroupScores, Response, Status

_log = logging.getLogger("rewardhub.hub")


class OpenGroup:
    """Responses in by ``add``, scores out by iterating; ``rows_of`` waits for some rows.

    ``take`` is told how many responses come, and raises where they are too many. Raises ``InvalidInput`` where more
    are expected than a group may have.
    """

    def __init__(
        self,
        group: Group,
        execution: Execution,
        lifetime_s: float,
        take: Callable[[int], None],
        on_finished: Callable[[GroupScores], None],
    ) -> None:
        if group.expected > MAX_RESPONSES:
            raise InvalidInput(f"{group.expected} responses expected, at most {MAX_RESPONSES}", field="expected")
        self.group = replace(group, responses=())
        self._execution = execution
        self.call = execution.call
        self._take = take
        self._on_finished = on_finished
        self._started = time.monotonic()
        self._closed = False
        self._out: asyncio.Queue[GroupScores] = asyncio.Queue()
        self._adding: dict[int, asyncio.Task[None]] = {}
        self.finished: asyncio.Future[GroupScores] = asyncio.get_running_loop().create_future()
        self._expiry = asyncio.get_running_loop().call_later(lifetime_s, self.close)
        self._finishing: asyncio.Task[None] | None = None
        try:
            if group.responses:
                self.add(group.responses)
        except Exception:
            self._expiry.cancel()
            raise

    def add(self, responses: Sequence[Response]) -> None:
        """Adds members; raises ``InvalidInput`` when closed, over ``expected`` or ``MAX_RESPONSES``, ``Unavailable``
        where the hub has all in hand that it may have.
        """
        self.place(responses)

    def place(self, responses: Sequence[Response]) -> list[int]:
        """Adds members at the next free indices, which it returns; raises like :meth:`add`."""
        start = len(self.group.responses)
        if self._closed:
            raise InvalidInput(f"group {self.group.id!r} is closed", field="id")
        if self.group.expected and start + len(responses) > self.group.expected:
            raise InvalidInput(f"group {self.group.id!r} expected {self.group.expected} responses", field="expected")
        if start + len(responses) > MAX_RESPONSES:
            raise InvalidInput(f"group {self.group.id!r} has {start} of {MAX_RESPONSES} responses", field="responses")
        self._take(len(responses))
        self.group = replace(self.group, responses=(*self.group.responses, *responses))
        rows = list(range(start, start + len(responses)))
        task = asyncio.create_task(self._advance(self.group, rows))
        self._adding |= dict.fromkeys(rows, task)
        if self.group.expected and len(self.group.responses) == self.group.expected:
            self.close()
        return rows

    def close(self) -> None:
        """No more responses come; group-wide terms run now."""
        if not self._closed:
            self._closed = True
            self._expiry.cancel()
            self._finishing = asyncio.create_task(self._finish())

    def cancel(self) -> None:
        """Nobody waits any more; nothing further is scored."""
        self._closed = True
        self._expiry.cancel()
        for task in [*self._adding.values(), *([self._finishing] if self._finishing else [])]:
            task.cancel()
        size = len(self.group.responses)
        self._done(self._failed(size, Status.CANCELLED, Cancelled("the group was cancelled").message))

    async def rows_of(self, rows: Sequence[int]) -> GroupScores:
        """The final scores of ``rows``."""
        if self._execution.plan.needs_group:
            return (await asyncio.shield(self.finished)).take(rows)
        await asyncio.gather(*{self._adding[row] for row in rows})
        return self._timed(self._execution.partial(self.group, rows))

    async def __aiter__(self) -> AsyncIterator[GroupScores]:
        """Scores as they are final; the last one is ``complete``."""
        while True:
            scores = await self._out.get()
            yield scores
            if scores.complete:
                return

    async def _advance(self, group: Group, rows: list[int]) -> None:
        await self._execution.advance(group, rows)
        if not self._execution.plan.needs_group:
            scores = self._timed(self._execution.partial(group, rows))
            scores.complete = False
            self._out.put_nowait(scores)

    async def _finish(self) -> None:
        adding = await asyncio.gather(*set(self._adding.values()), return_exceptions=True)
        size = len(self.group.responses)
        missing = max(0, self.group.expected - size)
        try:
            failed = [each for each in adding if isinstance(each, Exception)]
            if failed:
                raise failed[0]
            scores = self._timed(await self._execution.finish(self.group, missing))
        except Exception as error:
            _log.exception("an open group could not be scored")
            scores = self._failed(size, Status.INTERNAL_ERROR, f"{type(error).__name__} in the hub")
        self._done(scores)

    def _done(self, scores: GroupScores) -> None:
        if self.finished.done():
            return
        self.finished.set_result(scores)
        self._on_finished(scores)
        told = not self._execution.plan.needs_group
        self._out.put_nowait(scores.take([]) if told and len(scores) else scores)

    def _failed(self, size: int, status: Status, reason: str) -> GroupScores:
        return GroupScores(self.group.id, Column.failed(size, status, reason), indices=list(range(size)))

    def _timed(self, scores: GroupScores) -> GroupScores:
        scores.timings = replace(scores.timings, total_ms=(time.monotonic() - self._started) * 1000)
        return scores
