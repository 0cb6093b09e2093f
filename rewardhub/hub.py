"""The hub: the straight line from groups to scores, usable in process without a server.

resolve the recipe per group -> check the run's pin -> stamp the deadline -> run the plan's waves, each
term on its lane -> compose -> reward log. Nothing here knows HTTP, gRPC or any trainer.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rewardhub import tracing
from rewardhub.errors import Cancelled, InternalError, InvalidInput, RewardHubError, Unavailable
from rewardhub.group_lanes import GroupLanes
from rewardhub.in_process import Usable, aiter_of, check_call, check_group
from rewardhub.media.store import MediaStore
from rewardhub.metrics import Metrics
from rewardhub.open_groups import Key, OpenGroup, OpenGroups
from rewardhub.pace import Pace
from rewardhub.recipe_book import RecipeBook
from rewardhub.recipes.execution import Execution
from rewardhub.recipes.plan import Plan
from rewardhub.recipes.together import Outcome, Started, finish_all
from rewardhub.reward_log import RewardLog
from rewardhub.scheduler.program_lane import ProgramLane
from rewardhub.scheduler.scheduler import Scheduler
from rewardhub.types import Call, Group, GroupScores, Timings

ROUNDING_S = 0.5
LEAVING_S = 5.0
"""When to come again to a hub that drains: so that a client's tries outlast the drain."""
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


class Reloader(Protocol):
    """Reads the operator's files again; see :class:`rewardhub.reload.Reload`."""

    async def __call__(self) -> dict[str, list[str]]: ...
    async def aclose(self) -> None: ...


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
        self.reloader: Reloader | None = None
        self._limits = limits or Limits()
        self._log = log
        self._opened = OpenGroups()
        self._running = 0
        self._responses = 0
        self._idle = asyncio.Event()
        self._draining = False
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts the lanes and waits until every reward model is loaded or has failed.

        Raises ``ConfigError`` for a recipe of the operator's that does not compile, or a reward log that cannot be
        opened.
        """
        self.book.compile_own()
        if self._log:
            self._log.start()
        self._sweeping = asyncio.create_task(self.media.keep_swept())
        await self.scheduler.start()
        for lane in self.scheduler.models:
            await lane.settled()

    async def score(self, groups: Sequence[Group], call: Call, *, tenant: str = "") -> list[GroupScores]:
        """Scores groups; the answers are in request order, every failure is a status.

        Raises ``Unavailable`` where the hub takes no call, ``InvalidInput`` for options that are none.
        """
        self.admit()
        check_call(call)
        if not groups:
            return []
        size = sum([len(group.responses) for group in groups if not group.is_member])
        self._running += 1
        self._responses += size
        try:
            if len(groups) == 1 or not tracing.on():
                return await self._score(groups, call, tenant)
            # Each under a span of its own, which is its task's.
            answers = await asyncio.gather(*(self._score([group], call, tenant) for group in groups))
            return [scores for (scores,) in answers]
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
        except BaseExceptionGroup as errors:
            ready.put_nowait(errors.exceptions[0])
        except asyncio.CancelledError:
            ready.put_nowait(Cancelled("the source of the groups was cancelled"))  # or nobody reads any more
        except BaseException as error:
            ready.put_nowait(error)
        ready.put_nowait(None)

    def open(self, group: Group, call: Call, *, tenant: str = "") -> OpenGroup:
        """An open group of its own; raises ``InvalidInput`` for an unknown recipe or media."""
        return self._begin(group, call, tenant)

    def _begin(self, group: Group, call: Call, tenant: str, key: Key | None = None) -> OpenGroup:
        self.admit()
        check_call(call)
        check_group(group)
        book = self.book
        plan = book.resolve(group.recipe, call, tenant)
        resolved = self.media.resolve(group, tenant)
        name = book.label(group.recipe, call)
        lifetime, deadline = self._life(call)
        lanes = self._lanes(plan, name, call, tenant, deadline)

        def tell(whole: Group, scores: GroupScores, of: Call) -> None:
            book.users -= 1
            self._idle.set()
            self._record(whole, scores, of, plan, tenant, name)

        opened = self._opened.begin(resolved, plan, call, lanes, lifetime, self.admit, tell, key)
        book.users += 1
        return opened

    def _life(self, call: Call) -> tuple[float, float | None]:
        """How many seconds an open group of the call lives, and its deadline, if the call names one."""
        lifetime = call.deadline_ms / 1000 or self._limits.open_group_s
        return lifetime, time.monotonic() + lifetime + ROUNDING_S if call.deadline_ms else None

    async def reload(self) -> dict[str, list[str]]:
        """Reads the operator's files again: which scorers and recipes were added, removed and changed.

        Raises ``ConfigError`` where one cannot be loaded, ``Unavailable`` where the hub ends meanwhile: everything
        stays as it was then.
        """
        if self.reloader is None:
            raise InvalidInput("this hub was started without files to read again")
        return await self.reloader()

    def scorers(self) -> list[dict[str, Any]]:
        """Every scorer and recipe with its fingerprint."""
        return self.book.listing()

    def writers(self) -> list[str]:
        """The generative models, by name."""
        return [lane.card.name for lane in self.scheduler.models if lane.card.kind == "generative"]

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
        self._opened.leave()
        until = time.monotonic() + grace_s
        while (self._running or len(self._opened)) and (left := until - time.monotonic()) > 0:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), min(left, 1.0))
            except TimeoutError:
                continue

    async def aclose(self) -> None:
        self._draining = True
        if self.reloader is not None:
            await self.reloader.aclose()
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._opened.cancel()
        await self.scheduler.aclose()
        if self._log:
            await asyncio.to_thread(self._log.close)

    def admit(self, tenant: str = "") -> None:
        """Raises ``Unavailable`` while the hub takes no call: it drains, or has all that it may have in hand."""
        if self._draining:
            raise Unavailable("the hub is shutting down", retry_after_s=LEAVING_S)
        in_hand = self._responses + self._opened.responses
        if in_hand >= self._limits.responses:
            raise Unavailable(f"{in_hand} responses are in hand", retry_after_s=1.0)

    def check_room(self, recipe: str, rows: int, call: Call, tenant: str) -> None:
        """Raises ``Unavailable`` where a lane that the value of a group needs is full, before any work is done for it.

        What is wrong with the recipe is told where the group is scored.
        """
        try:
            needed = self.book.resolve(recipe, call, tenant).needed
        except Exception:
            return
        self.scheduler.check_room(needed, rows)

    @property
    def programs(self) -> ProgramLane:
        """Where programs run, those of recipes and those of the doors' own routes."""
        return self.scheduler.programs

    async def _score(self, groups: Sequence[Group], call: Call, tenant: str) -> list[GroupScores]:
        recipe = self.book.label(groups[0].recipe, call)
        with tracing.span("group", recipe=recipe, responses=len(groups[0].responses)) as span:
            usable = [*map(Usable.of, groups)]
            found = await self._answers([each.group for each in usable], call, tenant)
            answers = [each.merged(scores) for each, scores in zip(usable, found, strict=True)]
            if span is not None:
                statuses = answers[0].total.statuses
                for status in set(statuses):
                    span.set_attribute(f"status.{status}", statuses.count(status))
            return answers

    async def _answers(self, groups: Sequence[Group], call: Call, tenant: str) -> list[GroupScores]:
        """The answers in order; groups that wait for something do so beside the others."""
        waits = [self._waits(group) for group in groups]
        waiting = [place for place, each in enumerate(waits) if each]
        if not waiting:
            return await self._whole(groups, call, tenant)
        places = [*(place for place, each in enumerate(waits) if not each), *waiting]
        whole = self._whole([groups[place] for place in places[: -len(waiting)]], call, tenant)
        apart = (self._apart(groups[place], call, tenant) for place in waiting)
        found, others = await asyncio.gather(whole, asyncio.gather(*apart))
        answers = dict(zip(places, [*found, *others], strict=True))
        return [answers[place] for place in range(len(groups))]

    def _waits(self, group: Group) -> bool:
        """Whether it waits for other members of its open group, or for media from elsewhere."""
        return group.is_member or self.media.fetches(group)

    async def _whole(
        self, groups: Sequence[Group], call: Call, tenant: str, since: float | None = None
    ) -> list[GroupScores]:
        """The scores of whole groups whose media are here; deadlines count from ``since``, or from now."""
        started = time.monotonic() if since is None else since
        outcomes: list[Outcome | None] = [None] * len(groups)
        works: dict[int, Started] = {}
        book = self.book
        book.users += 1
        try:
            pace = Pace()
            for place, group in enumerate(groups):
                if pace.due:
                    await pace.rest()
                try:
                    works[place] = self._planned(book, group, call, tenant, started)
                except Exception as error:
                    outcomes[place] = error
            for place, outcome in zip(works, await finish_all(list(works.values())), strict=True):
                outcomes[place] = outcome
        finally:
            book.users -= 1
        answers = [
            each if isinstance(each, GroupScores) else self._failed(group, each, call)
            for group, each in zip(groups, outcomes, strict=True)
        ]
        outcomes.clear()  # an error holds this frame by its traceback, and so the groups with their media
        return answers

    def _failed(self, group: Group, error: Exception | None, call: Call) -> GroupScores:
        scores = failed(group, error)
        self.metrics.count_statuses(self.book.label(group.recipe, call), scores.total.statuses)
        return scores

    def _planned(self, book: RecipeBook, group: Group, call: Call, tenant: str, started: float) -> Started:
        """The group's execution, to be told to metrics and log; raises ``RewardHubError`` where it is refused."""
        check_group(group)
        plan = book.resolve(group.recipe, call, tenant)
        self.scheduler.check_room(plan.needed, len(group.responses))
        group = self.media.resolve(group, tenant)
        name = book.label(group.recipe, call)
        execution = Execution(plan, call, self._lanes(plan, name, call, tenant, started + self._seconds(call)))

        def finished(scores: GroupScores) -> None:
            scores.timings = Timings(total_ms=(time.monotonic() - started) * 1000)
            self._record(group, scores, call, plan, tenant, name)

        return execution, group, finished

    async def _apart(self, group: Group, call: Call, tenant: str) -> GroupScores:
        started = time.monotonic()
        try:
            check_group(group)
            if group.is_member:
                return await self._join(group, call, tenant)
            self.book.resolve(group.recipe, call, tenant)
            here = await self.media.fetch(group, tenant, self._seconds(call))
        except Exception as error:
            return self._failed(group, error, call)
        return (await self._whole([here], call, tenant, started))[0]

    async def _join(self, group: Group, call: Call, tenant: str) -> GroupScores:
        """A part of an open group: its scores when they are final."""
        key = (tenant, group.id)
        group = self.media.resolve(await self.media.fetch(group, tenant, self._seconds(call)), tenant)
        opened = self._opened.joined(key, group, call)
        # It lives no longer than a group whose call names no deadline.
        short = replace(call, deadline_ms=min(call.deadline_ms, int(self._limits.open_group_s * 1000)))
        if opened is None:
            opened = self._begin(replace(group, responses=(), lost=0), short, tenant, key)
        else:
            self.book.hold(opened.plan, call, tenant)
            lifetime, deadline = self._life(short)
            opened.join(call, lifetime, self._seconds(call), deadline)
        # A little longer than the group's own deadline, which answers with what there is.
        return await opened.answer(group.responses, self._seconds(call) + ROUNDING_S, group.lost)

    def _lanes(self, plan: Plan, name: str, call: Call, tenant: str, deadline: float | None) -> GroupLanes:
        versions = plan.versions if call.run and not call.repin else {}
        return GroupLanes(self.scheduler, call, tenant, name, self._seconds(call), deadline, versions)

    def _seconds(self, call: Call) -> float:
        return (call.deadline_ms or self._limits.deadline_ms) / 1000

    def _record(self, group: Group, scores: GroupScores, call: Call, plan: Plan, tenant: str, name: str) -> None:
        try:
            self.metrics.count(name, scores)
            if self._log:
                self._log.record(group, scores, call, plan.recipe.name, plan.fingerprint, tenant)
        except Exception:
            _log.exception("a group is scored, and not recorded")


def failed(group: Group, error: Exception | None) -> GroupScores:
    """The scores of a group that could not be scored: every row has the error's status. What is no error of ours is
    logged.
    """
    if not isinstance(error, RewardHubError):
        _log.error("a group could not be scored", exc_info=error)
        error = InternalError(f"{type(error).__name__} in the hub")
    size = len(group.responses)
    return GroupScores(group.id, error.column(size), indices=list(range(size)))
