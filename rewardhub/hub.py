"""The hub: the straight line from groups to scores, usable in process without a server.

resolve the recipe per group -> check the run's pin -> stamp the deadline -> run the plan's waves, each
term on its lane -> compose -> reward log. Nothing here knows HTTP, gRPC or any trainer.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rewardhub import tracing
from rewardhub.errors import InternalError, InvalidInput, RewardHubError, Unavailable
from rewardhub.media.store import MediaStore
from rewardhub.metrics import Metrics
from rewardhub.open_groups import OpenGroup
from rewardhub.recipe_book import RecipeBook
from rewardhub.recipes.execution import Execution
from rewardhub.recipes.plan import Plan
from rewardhub.reward_log import RewardLog
from rewardhub.scheduler.scheduler import Scheduler
from rewardhub.scorer import Bound, Context
from rewardhub.types import Call, Column, Group, GroupScores, Status, Timings

MAX_RESPONSES = 16_384
ROUNDING_S = 0.5
IN_FLIGHT = 256
"""Groups of a stream that are scored at once."""
_log = logging.getLogger("rewardhub.hub")


@dataclass(frozen=True)
class Limits:
    """``deadline_ms`` for calls that name none; ``open_group_s`` is an open group's life without one; ``responses``
    are those of all calls in hand, beyond which no call is taken.
    """

    deadline_ms: int = 60_000
    open_group_s: float = 600.0
    responses: int = 400_000


class Hub:
    """Scores groups by recipe. Make one with :func:`rewardhub.assembly.make_hub`."""

    def __init__(
        self,
        book: RecipeBook,
        scheduler: Scheduler,
        media: MediaStore,
        *,
        limits: Limits | None = None,
        log: RewardLog | None = None,
    ) -> None:
        self.book = book
        self.scheduler = scheduler
        self.media = media
        self.metrics = Metrics(scheduler)
        self.reloader: Callable[[], Awaitable[dict[str, list[str]]]] | None = None
        self._limits = limits or Limits()
        self._log = log
        self._open: dict[tuple[str, str], OpenGroup] = {}
        self._running = 0
        self._responses = 0
        self._idle = asyncio.Event()
        self._draining = False

    async def start(self) -> None:
        """Starts the lanes and waits until every reward model is loaded or has failed.

        Raises ``ConfigError`` for a recipe of the operator's that does not compile.
        """
        self.book.compile_own()
        await self.scheduler.start()
        for lane in self.scheduler.models:
            await lane.settled()

    async def score(self, groups: Sequence[Group], call: Call, *, tenant: str = "") -> list[GroupScores]:
        """Scores groups; the answers are in request order, every failure is a status."""
        self.admit()
        size = sum([len(group.responses) for group in groups])
        self._running += 1
        self._responses += size
        try:
            if len(groups) == 1:
                return [await self._score(groups[0], call, tenant)]
            return await asyncio.gather(*(self._score(group, call, tenant) for group in groups))
        finally:
            self._running -= 1
            self._responses -= size
            self._idle.set()

    async def stream(
        self, groups: Iterable[Group] | AsyncIterable[Group], call: Call, *, tenant: str = ""
    ) -> AsyncIterator[GroupScores]:
        """Scores groups as they come, at most ``IN_FLIGHT`` at once, and yields each as it is ready."""
        ready: asyncio.Queue[GroupScores | BaseException | None] = asyncio.Queue()
        slots = asyncio.Semaphore(IN_FLIGHT)
        feeding = asyncio.create_task(self._feed(groups, call, tenant, slots, ready))
        try:
            while (item := await ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                slots.release()
                yield item
        finally:
            feeding.cancel()

    async def _feed(
        self,
        groups: Iterable[Group] | AsyncIterable[Group],
        call: Call,
        tenant: str,
        slots: asyncio.Semaphore,
        ready: "asyncio.Queue[GroupScores | BaseException | None]",
    ) -> None:
        async def one(group: Group) -> None:
            ready.put_nowait((await self.score([group], call, tenant=tenant))[0])

        try:
            async with asyncio.TaskGroup() as tasks:
                async for group in aiter_of(groups):
                    await slots.acquire()
                    tasks.create_task(one(group))
        except ExceptionGroup as errors:
            ready.put_nowait(errors.exceptions[0])
        except Exception as error:
            ready.put_nowait(error)
        ready.put_nowait(None)

    def open(self, group: Group, call: Call, *, tenant: str = "") -> OpenGroup:
        """An open group of its own; raises ``InvalidInput`` for an unknown recipe or media."""
        self.admit()
        plan = self.book.resolve(group, call, tenant)
        resolved = self.media.resolve(group, tenant)
        lifetime = call.deadline_ms / 1000 or self._limits.open_group_s
        deadline = time.monotonic() + lifetime + ROUNDING_S if call.deadline_ms else None
        execution = Execution(
            plan, call, _Runner(self.scheduler, call, tenant, name_of(plan, group, call), self._seconds(call), deadline)
        )

        def finished(scores: GroupScores) -> None:
            self._record(opened.group, scores, call, plan, tenant)
            self._idle.set()

        opened = OpenGroup(resolved, execution, lifetime, finished)
        return opened

    async def reload(self) -> dict[str, list[str]]:
        """Reads the operator's files again: which scorers and recipes were added, removed and changed.

        Raises ``ConfigError`` where one cannot be loaded; everything stays as it was then.
        """
        if self.reloader is None:
            raise InvalidInput("this hub was started without files to read again")
        return await self.reloader()

    def scorers(self) -> list[dict[str, Any]]:
        """Every scorer and recipe with its fingerprint."""
        return self.book.listing()

    def ready(self) -> list[str]:
        """Why the hub should get no work now; empty when it is ready."""
        reasons = [f"{lane.card.name} is not loaded" for lane in self.scheduler.models if not lane.loaded.is_set()]
        return ["draining", *reasons] if self._draining else reasons

    def metrics_text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return self.metrics.text()

    async def drain(self, grace_s: float) -> None:
        """Refuses new work and waits for what runs, at most ``grace_s`` seconds."""
        self._draining = True
        until = time.monotonic() + grace_s
        while self._running and (left := until - time.monotonic()) > 0:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), min(left, 1.0))
            except TimeoutError:
                continue

    async def aclose(self) -> None:
        for opened in list(self._open.values()):
            opened.cancel()
        await self.scheduler.aclose()
        if self._log:
            await asyncio.to_thread(self._log.close)

    def admit(self, tenant: str = "") -> None:
        """Raises ``Unavailable`` while the hub takes no call: it drains, or has all that it may have in hand."""
        if self._draining:
            raise Unavailable("the hub is shutting down", retry_after_s=1.0)
        if self._responses >= self._limits.responses:
            raise Unavailable(f"{self._responses} responses are in hand", retry_after_s=1.0)

    async def _score(self, group: Group, call: Call, tenant: str) -> GroupScores:
        with tracing.span("group", recipe=group.recipe or call.recipe, responses=len(group.responses)) as span:
            scores = await self._scored(group, call, tenant)
            if span is not None:
                for status in set(scores.total.statuses):
                    span.set_attribute(f"status.{status}", scores.total.statuses.count(status))
            return scores

    async def _scored(self, group: Group, call: Call, tenant: str) -> GroupScores:
        started = time.monotonic()
        try:
            if len(group.responses) > MAX_RESPONSES:
                raise InvalidInput(f"{len(group.responses)} responses, at most {MAX_RESPONSES}", field="responses")
            if group.expected > len(group.responses):
                return await self._join(group, call, tenant)
            plan = self.book.resolve(group, call, tenant)
            seconds = self._seconds(call)
            group = self.media.resolve(await self.media.fetch(group, tenant, seconds), tenant)
            name = name_of(plan, group, call)
            execution = Execution(plan, call, _Runner(self.scheduler, call, tenant, name, seconds, started + seconds))
            scores = await execution.finish(group)
        except RewardHubError as error:
            return refused(group, error)
        except Exception as error:
            _log.exception("a group could not be scored")
            return refused(group, InternalError(f"{type(error).__name__} in the hub"))
        scores.timings = Timings(total_ms=(time.monotonic() - started) * 1000)
        self._record(group, scores, call, plan, tenant)
        return scores

    async def _join(self, group: Group, call: Call, tenant: str) -> GroupScores:
        """A part of an open group: its scores when they are final."""
        key = (tenant, group.id)
        group = self.media.resolve(await self.media.fetch(group, tenant, self._seconds(call)), tenant)
        opened = self._open.get(key)
        if opened is None:
            opened = self.open(replace(group, responses=()), call, tenant=tenant)
            self._open[key] = opened
            opened.finished.add_done_callback(lambda _: self._open.pop(key, None))
        elif (difference := differing(opened.group, group)) is not None:
            raise InvalidInput(f"{difference} differs from the open group {group.id!r}", field=difference)
        rows = opened.place(group.responses)
        try:
            # A little longer than the group's own deadline, which answers with what there is.
            return await asyncio.wait_for(opened.rows_of(rows), self._seconds(call) + ROUNDING_S)
        except TimeoutError:
            reason = f"{len(opened.group.responses)} of {group.expected} members came by the deadline"
            return GroupScores(group.id, Column.failed(len(rows), Status.INCOMPLETE_GROUP, reason), indices=rows)

    def _seconds(self, call: Call) -> float:
        return (call.deadline_ms or self._limits.deadline_ms) / 1000

    def _record(self, group: Group, scores: GroupScores, call: Call, plan: Plan, tenant: str) -> None:
        self.metrics.count(plan.recipe.name, scores)
        if self._log:
            self._log.record(group, scores, call, plan.recipe.name, plan.fingerprint, tenant)


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs the terms of one group by ``deadline``; without one, each gets ``seconds`` of its own."""

    scheduler: Scheduler
    call: Call
    tenant: str
    recipe: str
    seconds: float
    deadline: float | None

    async def __call__(self, bound: Bound, group: Group, indices: Sequence[int]) -> Column:
        deadline = self.deadline if self.deadline is not None else time.monotonic() + self.seconds
        context = Context(deadline, self.call.priority, self.tenant, self.recipe)
        return await self.scheduler.run(bound, group, indices, context, self.call.cache)


def name_of(plan: Plan, group: Group, call: Call) -> str:
    """What a group's recipe is accounted under: callers choose the names of inline ones."""
    return plan.recipe.name if group.recipe or call.recipe else "inline"


def refused(group: Group, error: RewardHubError) -> GroupScores:
    """The scores of a group that could not be scored at all: every row has the error's status."""
    details: dict[str, Any] = {"field": error.field} if error.field else {}
    if error.retry_after_s:
        details["retry_after_s"] = error.retry_after_s
    size = len(group.responses)
    column = Column.failed(size, error.status, error.message, code=error.code, **details)
    return GroupScores(group.id, column, indices=list(range(size)))


def differing(opened: Group, group: Group) -> str | None:
    """The first field in which a single call differs from the open group that it names."""
    fields = ("prompt", "reference", "media", "problem_type", "recipe", "metadata", "expected")
    return next((name for name in fields if getattr(opened, name) != getattr(group, name)), None)


async def aiter_of(groups: Iterable[Group] | AsyncIterable[Group]) -> AsyncIterator[Group]:
    if isinstance(groups, AsyncIterable):
        async for group in groups:
            yield group
    else:
        for group in groups:
            yield group
