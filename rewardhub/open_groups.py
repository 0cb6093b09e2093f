"""Open groups: a group whose responses come one by one, from one stream or from many single calls.

Response-wide terms are scored as responses arrive; group-wide terms and values wait for ``close``, for
``expected`` responses, or for the deadline, at which the members that never came are missing. A hub that goes
away has no value for a group that needs its members.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from rewardhub.errors import Cancelled, InvalidInput, RewardHubError, Unavailable
from rewardhub.group_lanes import GroupLanes
from rewardhub.in_process import check_responses
from rewardhub.recipes.execution import Execution
from rewardhub.recipes.plan import Plan
from rewardhub.types import MAX_RESPONSES, Call, Column, Group, GroupScores, Response, Status

Key = tuple[str, str]
"""Tenant and id of a group that single calls join."""

LINGER_S = 60.0
"""How long a group whose callers were all answered waits for further ones: what it holds counts as in hand."""

_log = logging.getLogger("rewardhub.hub")


class OpenGroup:
    """Responses in by ``add`` and scores out by iterating, or both by ``answer``.

    ``take`` is told how many responses come, and raises where they are too many. Raises ``InvalidInput`` where more
    are expected than a group may have.
    """

    def __init__(
        self,
        group: Group,
        plan: Plan,
        call: Call,
        lanes: GroupLanes,
        lifetime_s: float,
        take: Callable[[int], None],
        on_finished: Callable[[GroupScores], None],
    ) -> None:
        if group.expected > MAX_RESPONSES:
            raise InvalidInput(f"{group.expected} responses expected, at most {MAX_RESPONSES}", field="expected")
        self.group = replace(group, responses=())
        self._execution = Execution(plan, call, lanes)
        self._lanes = lanes
        self.call, self.plan = call, plan
        self._take = take
        self._on_finished = on_finished
        self._started = time.monotonic()
        self._closed = False
        self.late = False
        """Whether it ended before its caller closed it, at its deadline or because the hub goes away."""
        self._waiting, self._answered = 0, False
        self._out: asyncio.Queue[GroupScores] = asyncio.Queue()
        self._told: set[int] = set()
        self._adding: dict[int, asyncio.Task[None]] = {}
        self.finished: asyncio.Future[GroupScores] = asyncio.get_running_loop().create_future()
        self._ends = asyncio.get_running_loop().time() + lifetime_s
        self._expiry = asyncio.get_running_loop().call_at(self._ends, self._expire)
        self._finishing: asyncio.Task[None] | None = None
        try:
            if group.responses:
                self.add(group.responses)
        except Exception:
            self._expiry.cancel()
            raise

    def add(self, responses: Sequence[Response]) -> None:
        """Adds members; raises ``InvalidInput`` when closed, over ``expected`` or ``MAX_RESPONSES`` or for what is no
        response, ``Unavailable`` where the hub has all in hand that it may have.
        """
        self._place(responses)

    def _place(self, responses: Sequence[Response], lost: int = 0) -> list[int]:
        """Adds members at the next free indices, which it returns; ``lost`` more cannot be sent."""
        start = len(self.group.responses)
        check_responses(responses)
        if self._closed:
            raise InvalidInput(f"group {self.group.id!r} is closed", field="id")
        if self.group.expected and start + len(responses) > self.group.expected:
            raise InvalidInput(f"group {self.group.id!r} expected {self.group.expected} responses", field="expected")
        if start + len(responses) > MAX_RESPONSES:
            raise InvalidInput(f"group {self.group.id!r} has {start} of {MAX_RESPONSES} responses", field="responses")
        self._take(len(responses))
        group = self.group
        self.group = replace(group, responses=(*group.responses, *responses), lost=group.lost + lost)
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
        self._give_up(Cancelled("the group was cancelled"))

    def leave(self) -> None:
        """The hub goes away: what came is scored where it needs no others, else it is to be sent elsewhere."""
        self.late = self.late or not self._closed
        if not self.plan.needs_group:
            self.close()
        elif not self._closed:
            self._give_up(Unavailable("the hub is shutting down before the group is closed", retry_after_s=1.0))

    def join(self, call: Call, lifetime_s: float, seconds: float, deadline: float | None) -> None:
        """A further call brings members: the group lives at least ``lifetime_s`` from now on, and its
        terms have as long as these would give them.
        """
        self.call = _agreed(self.call, call)
        self._ends = max(self._ends, asyncio.get_running_loop().time() + lifetime_s)
        self._lanes.prolong(seconds, deadline)

    async def answer(self, responses: Sequence[Response], within_s: float, lost: int = 0) -> GroupScores:
        """Adds members, of which ``lost`` more cannot be sent, and waits for their final scores, at most ``within_s``
        seconds; raises like :meth:`add`.

        When the last of those who wait leaves, the group is cancelled where nobody was answered; else it waits for
        others no longer than ``LINGER_S``.
        """
        self._waiting += 1
        self._expire_at(self._ends)
        try:
            rows = self._place(responses, lost)
            scores = await asyncio.wait_for(self._rows_of(rows), within_s)
            self._answered = True
            return scores
        except TimeoutError:
            came, expected = len(self.group.responses), self.group.expected
            column = Column.failed(len(rows), Status.TIMEOUT, "the deadline passed")
            if self.plan.needs_group and came < expected:
                reason = f"{came} of {expected} members came by the deadline"
                column = Column.failed(len(rows), Status.INCOMPLETE_GROUP, reason)
            return GroupScores(self.group.id, column, indices=rows)
        finally:
            self._waiting -= 1
            if not (self._waiting or self._answered):
                self.cancel()
            elif not self._waiting:
                self._expire_at(asyncio.get_running_loop().time() + LINGER_S)

    async def __aiter__(self) -> AsyncIterator[GroupScores]:
        """Scores as they are final; the last one is ``complete``."""
        while True:
            scores = await self._out.get()
            yield scores
            if scores.complete:
                return

    async def _rows_of(self, rows: Sequence[int]) -> GroupScores:
        if self.plan.needs_group:
            return (await asyncio.shield(self.finished)).take(rows)
        await asyncio.gather(*{self._adding[row] for row in rows})
        return self._timed(self._execution.partial(self.group, rows))

    def _expire_at(self, when: float) -> None:
        if not self._closed:
            self._expiry.cancel()
            self._expiry = asyncio.get_running_loop().call_at(min(when, self._ends), self._expire)

    def _expire(self) -> None:
        self.late = True
        self.close()

    def _give_up(self, error: RewardHubError) -> None:
        self._closed = True
        self._expiry.cancel()
        for task in [*self._adding.values(), *([self._finishing] if self._finishing else [])]:
            task.cancel()
        self._done(self._failed(error.status, **error.details))

    async def _advance(self, group: Group, rows: list[int]) -> None:
        await self._execution.advance(group, rows)
        if not self.plan.needs_group:
            scores = self._timed(self._execution.partial(group, rows))
            scores.complete = False
            self._told.update(rows)
            self._out.put_nowait(scores)

    async def _finish(self) -> None:
        adding = await asyncio.gather(*set(self._adding.values()), return_exceptions=True)
        # How many a group that nobody closed still lacks is not known where none are expected.
        missing = max(int(self.late), self.group.expected - len(self.group.responses), 0)
        try:
            failed = [each for each in adding if isinstance(each, Exception)]
            if failed:
                raise failed[0]
            scores = self._timed(await self._execution.finish(self.group, missing))
        except Exception as error:
            _log.exception("an open group could not be scored")
            scores = self._failed(Status.INTERNAL_ERROR, f"{type(error).__name__} in the hub")
        self._done(scores)

    def _done(self, scores: GroupScores) -> None:
        if self.finished.done():
            return
        self.finished.set_result(scores)
        self._out.put_nowait(scores.take([row for row in scores.indices if row not in self._told]))
        self._on_finished(scores)
        self._on_finished = self._take = _nothing  # they hold this group, and so its media, in a cycle

    def _failed(self, status: Status, reason: str, **details: float) -> GroupScores:
        """No value for any row, but for those that were told before."""
        size, rows = len(self.group.responses), sorted(self._told)
        told = self._execution.partial(self.group, rows) if rows else GroupScores(self.group.id, Column([], []))

        def failed(column: Column) -> Column:
            every = Column.failed(size, status, reason, **details)
            every.put(rows, column)
            return every

        parts = {path: failed(column) for path, column in told.parts.items()}
        return GroupScores(self.group.id, failed(told.total), parts, list(range(size)))

    def _timed(self, scores: GroupScores) -> GroupScores:
        scores.timings = replace(scores.timings, total_ms=(time.monotonic() - self._started) * 1000)
        return scores


def _nothing(_: object) -> None: ...


class OpenGroups:
    """The open groups of a hub: the one place that knows which there are and how many responses they hold."""

    def __init__(self) -> None:
        self.responses = 0
        self._groups: set[OpenGroup] = set()
        self._joined: dict[Key, OpenGroup] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def begin(
        self,
        group: Group,
        plan: Plan,
        call: Call,
        lanes: GroupLanes,
        lifetime_s: float,
        admit: Callable[[], None],
        tell: Callable[[Group, GroupScores, Call], None],
        key: Key | None = None,
    ) -> OpenGroup:
        """A new group; ``admit`` may refuse members, ``tell`` gets the final scores. With a ``key`` calls may join."""

        def take(count: int) -> None:
            admit()
            self.responses += count

        def finished(scores: GroupScores) -> None:
            self._groups.discard(opened)
            self.responses -= len(opened.group.responses)
            if key is not None:
                del self._joined[key]
            tell(opened.group, scores, opened.call)

        opened = OpenGroup(group, plan, call, lanes, lifetime_s, take, finished)
        self._groups.add(opened)
        if key is not None:
            self._joined[key] = opened
        return opened

    def joined(self, key: Key, group: Group, call: Call) -> OpenGroup | None:
        """The group that single calls of this key join; raises ``InvalidInput`` where the call differs from them."""
        opened = self._joined.get(key)
        if opened is not None:
            _check_same(opened.group, group, call, opened.call)
        return opened

    def leave(self) -> None:
        """Ends all because the hub goes away, which takes no members from now on."""
        for opened in [*self._groups]:
            opened.leave()

    def cancel(self) -> None:
        for opened in [*self._groups]:
            opened.cancel()


_SHARED = ("prompt", "reference", "media", "problem_type", "recipe", "metadata", "expected")
_SHORT = {"problem_type", "recipe", "expected", "inputs", "run", "cache", "priority"}
"""Fields whose values are told."""


def _check_same(opened: Group, group: Group, call: Call, of: Call) -> None:
    """Raises ``InvalidInput`` for the first field, or option of how to score, in which a single call differs from the
    open group that it names.
    """
    scored_by = () if group.recipe else ("recipe", "recipe_text")
    options = (*scored_by, "inputs", "run", "cache", "priority")
    for name, theirs, ours in (
        *((name, getattr(opened, name), getattr(group, name)) for name in _SHARED),
        *((name, getattr(of, name), getattr(call, name)) for name in options),
    ):
        if theirs != ours:
            values = f": {ours!r}, not {theirs!r}" if name in _SHORT else ""
            raise InvalidInput(f"{name} differs from the open group {group.id!r}{values}", field=name)


def _agreed(one: Call, other: Call) -> Call:
    """The call of a group: which step and policy its members are of, where they agree."""
    step = one.step if one.step == other.step else None
    version = one.policy_version if one.policy_version == other.policy_version else ""
    return replace(one, step=step, policy_version=version)
