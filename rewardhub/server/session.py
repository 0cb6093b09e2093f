"""Groups in as they come, answers out as they are ready: what a stream of either door runs on.

One task per group, none per response. Whole groups wait for a free slot, which is the back-pressure on
the caller; groups that wait for members elsewhere take none, so that they cannot block each other.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rewardhub import logs
from rewardhub.errors import Cancelled, InternalError, InvalidInput, QuotaExceeded, RewardHubError, Unavailable
from rewardhub.server import intake
from rewardhub.server.inflight import Share
from rewardhub.server.partial import Partial
from rewardhub.server.surface import OpenGroup, ScoringHub
from rewardhub.types import Call, Group, GroupScores, Response

WIDTH = 256
MAX_OPEN = 4_096
MAX_READY = 4_096
MAX_ID_CHARS = 4_096
QUIET_S = 10.0
"""A stream never says nothing for longer: proxies end what idles for a minute, some after less."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows to send; ``error`` says why the group as a whole was not scored."""

    scores: GroupScores
    details: bool = True
    error: RewardHubError | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Not about one group: media to send again, or an event that was not accepted."""

    missing: Sequence[str] = ()
    error: RewardHubError | None = None


@dataclass(frozen=True, slots=True)
class _Work:
    group_id: str
    rows: int = 0
    kind: Literal["whole", "member", "open"] = "whole"
    size: int = 0


class Session:
    """One caller's stream. With ``inflight`` the bytes of its groups count among all until they are answered."""

    def __init__(self, hub: ScoringHub, tenant: str, inflight: Share | None = None) -> None:
        self._hub = hub
        self._tenant = tenant
        self.inflight = inflight
        self._added: Counter[str] = Counter()
        self._slots = asyncio.Semaphore(WIDTH)
        self._tasks: dict[asyncio.Task[None], _Work] = {}
        self._whole: set[str] = set()
        self._members: Counter[str] = Counter()
        self._closed = False
        self._open: dict[str, OpenGroup] = {}
        self._closing: set[str] = set()
        self._over: dict[int, bool] = {}  # by hashes of ids, which may be long
        self._ready: list[Answer | Notice] = []
        self._wake = asyncio.Event()
        self._taken = asyncio.Event()
        self._finished = False

    async def score(self, item: Group | Partial, call: Call, size: int = 0) -> None:
        """Takes a group of ``size`` bytes, waiting for a free slot; its answer comes from :meth:`batches`."""
        await self.room()
        rows = intake.rows_of(item)
        if isinstance(item, Group) and item.expected > rows:
            self.check_free(item.id, member=True)
            self._check_room()
            self._take(size)
            self._members[item.id] += 1
            self._spawn(_Work(item.id, rows, "member", size), self._score(item, call))
            return
        self.check_free(item.id)
        await self._slots.acquire()
        try:
            self._take(size)
        except Unavailable:
            self._slots.release()
            raise
        self._whole.add(item.id)
        self._spawn(_Work(item.id, rows, size=size), self._score(item, call))

    def open(self, group: Group, call: Call, size: int = 0) -> None:
        """Opens a group for :meth:`add`; raises for an id that is in use and what the hub refuses."""
        self.check_free(group.id)
        self._check_room()
        handle = self._hub.open(group, call, tenant=self._tenant)
        try:
            self._count(group.id, size)
        except Unavailable:
            handle.cancel()
            raise
        self._open[group.id] = handle
        self._spawn(_Work(group.id, kind="open"), self._follow(group.id, handle, call))

    def add(self, group_id: str, responses: Sequence[Response], size: int = 0) -> None:
        """More members; those that were under way when the hub ended the group are answered with it."""
        if self.is_over(group_id):
            return
        handle = self._handle(group_id)
        self._count(group_id, size)
        handle.add(responses)

    def close(self, group_id: str) -> None:
        """No more members; a Close that was under way when its group ended is no error."""
        if self._over.pop(hash(group_id), None) is None:
            self._handle(group_id).close()
            self._closing.add(group_id)

    def end(self, group_id: str, *, late: bool = True) -> None:
        """The group is answered before its Close; where it was ``late``, so are the members under way."""
        self._over[hash(group_id)] = late
        if len(self._over) > MAX_OPEN:
            del self._over[next(iter(self._over))]

    def forget(self, group_id: str) -> None:
        """The id is used anew."""
        self._over.pop(hash(group_id), None)

    def is_over(self, group_id: str) -> bool:
        """Whether members of the group are answered already."""
        handle = self._open.get(group_id)
        return handle.late if handle else self._over.get(hash(group_id), False)

    def cancel(self, group_id: str) -> None:
        """Ends a group's work; its answer has the status ``cancelled``. An unknown id is no error."""
        if group_id in self._open:
            self._open[group_id].cancel()
            return
        for task, work in self._tasks.items():
            if work.group_id == group_id:
                task.cancel()

    def answer(self, answer: Answer | Notice) -> None:
        self._ready.append(answer)
        self._wake.set()

    async def room(self) -> None:
        """Waits while the caller does not read its answers."""
        while len(self._ready) >= MAX_READY:
            self._taken.clear()
            await self._taken.wait()

    def finish(self) -> None:
        """The caller sends no more: open groups are closed, and :meth:`batches` ends with the last answer."""
        for handle in self._open.values():
            handle.close()
        self.leave()

    def leave(self) -> None:
        """The hub goes away, which ends its open groups: :meth:`batches` ends with the last answer."""
        self._finished = True
        self._wake.set()

    async def batches(self) -> AsyncIterator[list[Answer | Notice]]:
        """All that is ready, each time something is, and nothing after each :data:`QUIET_S` without; ends after
        :meth:`finish` and the last answer.
        """
        while self._ready or self._tasks or not self._finished:
            try:
                async with asyncio.timeout(QUIET_S):
                    await self._wake.wait()
            except TimeoutError:
                yield []
            self._wake.clear()
            ready, self._ready = self._ready, []
            self._taken.set()
            if ready:
                yield ready

    async def aclose(self) -> None:
        """The caller went away: ends all that still runs."""
        self._closed = True
        for handle in self._open.values():
            handle.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def check_free(self, group_id: str, *, member: bool = False) -> None:
        """Raises ``InvalidInput`` for an id that an answer could not be told apart by; members share theirs."""
        if not group_id:
            raise InvalidInput("group.id is empty; answers of a stream are told apart by it", field="group.id")
        if len(group_id) > MAX_ID_CHARS:
            reason = f"group.id has {len(group_id)} characters, at most {MAX_ID_CHARS}"
            raise InvalidInput(reason, field="group.id")
        if group_id in self._whole or group_id in self._open or (group_id in self._members and not member):
            raise InvalidInput(f"the id {group_id!r} is in use on this stream", field="group.id")

    def _take(self, size: int) -> None:
        if self.inflight:
            self.inflight.take(size)

    def _count(self, group_id: str, size: int) -> None:
        """More bytes of an open group."""
        self._take(size)
        self._added[group_id] += size

    def _check_room(self) -> None:
        if len(self._tasks) >= MAX_OPEN:
            raise QuotaExceeded(f"more than {MAX_OPEN} groups wait on this stream", retry_after_s=1.0)

    def _handle(self, group_id: str) -> OpenGroup:
        handle = self._open.get(group_id)
        if handle is None:
            raise InvalidInput(f"no group {group_id!r} is open on this stream", field="id")
        return handle

    def _spawn(self, work: _Work, run: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(run)
        self._tasks[task] = work
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        # Here and not in the coroutine, which never runs if it is cancelled before its first step.
        work = self._tasks.pop(task)
        if work.kind == "whole":
            self._whole.discard(work.group_id)
            self._slots.release()
        elif work.kind == "member":
            self._members[work.group_id] -= 1
            if not self._members[work.group_id]:
                del self._members[work.group_id]
        elif work.kind == "open":
            handle = self._open.pop(work.group_id)
            if work.group_id not in self._closing:
                self.end(work.group_id, late=handle.late)
            self._closing.discard(work.group_id)
        if self.inflight:
            self.inflight.give(work.size + (self._added.pop(work.group_id, 0) if work.kind == "open" else 0))
        if task.cancelled() and not self._closed:
            self.answer(failure(work.group_id, work.rows, Cancelled("the group was cancelled")))
        self._wake.set()

    async def _score(self, item: Group | Partial, call: Call) -> None:
        try:
            (scores,) = await intake.score(self._hub, [item], call, self._tenant)
        except Exception as error:
            self.answer(failure(item.id, intake.rows_of(item), error))
        else:
            self.answer(Answer(scores, call.details))

    async def _follow(self, group_id: str, handle: OpenGroup, call: Call) -> None:
        try:
            async for scores in handle:
                self.answer(Answer(scores, call.details))
        except Exception as error:
            self.answer(failure(group_id, 0, error))


def failure(group_id: str, rows: int, error: Exception) -> Answer:
    """The answer for a group that failed as a whole."""
    error = known(error)
    return Answer(intake.failed(group_id, rows, error), error=error)


def known(error: Exception) -> RewardHubError:
    """The error as the caller may see it: what is no error of ours is logged, and only its id told."""
    if isinstance(error, RewardHubError):
        return error
    return InternalError(f"an internal error; its id is {logs.fault('group failed', error)}")
