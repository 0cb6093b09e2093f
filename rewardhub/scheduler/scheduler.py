"""Sends a bound scorer's rows to its lane, through the cache, under the deadline."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, cast

from rewardhub import tracing
from rewardhub.cache.flight import Compute, VersionChanged
from rewardhub.cache.key import row_keys
from rewardhub.cache.store import Cache
from rewardhub.errors import Unavailable
from rewardhub.flaws import sound
from rewardhub.owned import own_column
from rewardhub.pace import Pace
from rewardhub.raised import failure
from rewardhub.sandbox.place import place
from rewardhub.scheduler.beginnings import beside
from rewardhub.scheduler.device import Devices
from rewardhub.scheduler.figures import Figures
from rewardhub.scheduler.model_lane import ModelLane
from rewardhub.scheduler.pool import Pool
from rewardhub.scheduler.program_lane import ProgramLane
from rewardhub.scheduler.quarantine import Quarantine
from rewardhub.scorer import UNDECIDED, Ask, Bound, BoundVerifier, Context, RemoteBound
from rewardhub.types import CacheMode, Column, Group, Status
from rewardhub.wire.plain import is_plain


class Service(Protocol):
    """What is started and ended with the scheduler: the judges' connections."""

    async def start(self) -> None: ...
    async def aclose(self) -> None: ...


_log = logging.getLogger("rewardhub.scheduler")
INLINE_CHARS = 65_536
"""Texts and references longer than this in all leave the event loop."""
VERSIONS = 3
"""How often a look-up begins again because its scorer was exchanged meanwhile."""


class Scheduler:
    """The lanes of one hub: inline, the verifier pool, sandbox threads, model workers, judges."""

    def __init__(
        self, pool: Pool, cache: Cache, quarantine: Quarantine, *, sandbox_slots: int = 0, figures: Figures
    ) -> None:
        self.figures = figures
        self.pool = pool
        self.cache = cache
        self.quarantine = quarantine
        self.models: list[ModelLane] = []
        self.leaving: list[Pool | ModelLane] = []
        """Exchanged ones, the latest first, which finish what began on them."""
        self.devices = Devices()
        self.services: list[Service] = []
        self.programs = ProgramLane(sandbox_slots, figures=figures)

    async def start(self) -> None:
        await self.pool.start()
        await asyncio.to_thread(place)  # which the first fingerprint of a program's scorer would wait for
        for lane in self.models:
            lane.start()
        for service in self.services:
            await service.start()
        if self.cache.redis:
            self.cache.redis.start()

    async def aclose(self) -> None:
        """Ends all that was started, whatever of it cannot be ended as it should."""
        self.programs.close()
        for each in (*self.models, *self.leaving, *self.services, self.pool, self.cache):
            try:
                await each.aclose()
            except Exception:
                _log.exception("a part of the hub did not end as it should")

    def check_room(self, bounds: Sequence[Bound], rows: int) -> None:
        """Raises ``Unavailable`` where one of ``bounds`` can only be scored by the pool, which has no room for more."""
        if any(map(_pooled_always, bounds)):
            self.pool.check_room(rows)

    async def known(self, asks: Sequence[Ask], context: Context, mode: CacheMode = "use") -> list[Column | None]:
        """The columns that need no lane: cheap verifiers of short texts, and what is cached, looked up in one go."""
        columns: list[Column | None] = []
        pace = Pace()
        for ask in asks:
            if pace.due:
                await pace.rest()
            columns.append(_inline(ask))
        if mode not in {"use", "read_only"}:
            return columns
        places = [place for place, ask in enumerate(asks) if columns[place] is None and cacheable(ask.bound)]
        lookups = [lookup for place in places if (lookup := await _lookup(place, asks[place], context)) is not None]
        if lookups:
            began = time.time_ns()
            within_s = (context.deadline - time.monotonic()) / 2  # the rest is for computing
            found = await self.cache.known([(keys, fingerprint) for _, keys, fingerprint in lookups], within_s)
            for (place, _, _), column in zip(lookups, found, strict=True):
                columns[place] = column
                if column is not None:
                    _traced(asks[place], began)
        return columns

    async def compute(self, ask: Ask, context: Context, mode: CacheMode = "use") -> Column:
        """The column of an ask that is not known; whatever goes wrong is a status."""
        started = time.monotonic()
        column = await self._in_time(ask, context, mode)
        cached = column.cached or [False] * len(column)
        computed = [status for status, known in zip(column.statuses, cached, strict=True) if not known]
        self.figures.scored(ask.bound.info.name, computed, time.monotonic() - started)
        return column

    async def _in_time(self, ask: Ask, context: Context, mode: CacheMode) -> Column:
        bound, rows = ask.bound, ask.rows
        try:
            with tracing.span("term", scorer=bound.info.name, lane=bound.info.lane, responses=len(rows)):
                async with asyncio.timeout(remaining_s(context)):
                    return await self._on_lane(bound, ask.group, rows, context, mode)
        except TimeoutError:
            return Column.failed(len(rows), Status.TIMEOUT, "the deadline passed")
        except Exception as error:
            return Column.of([failure(error) for _ in rows])

    async def _on_lane(
        self, bound: Bound, group: Group, rows: Sequence[int], context: Context, mode: CacheMode
    ) -> Column:
        if not cacheable(bound):
            return await self._deduplicated(bound, group, rows, context)

        async def compute(positions: list[int]) -> Column:
            return await self._lane(bound, group, [rows[position] for position in positions], context)

        run = whole(compute, len(rows)) if bound.info.scope != "response" else compute
        for _ in range(VERSIONS):
            fingerprint = bound.fingerprint
            try:
                keys = await _keys(bound, group, rows, context.tenant)
            except (TypeError, ValueError, RecursionError) as error:
                return Column.failed(len(rows), Status.INVALID_INPUT, f"the group is not JSON: {error}")
            patience_s = max(0.0, context.deadline - time.monotonic()) / 2
            try:
                return await self.cache.lookup(keys, mode, run, fingerprint, patience_s)
            except VersionChanged:
                continue
        raise Unavailable(f"{bound.info.name} is being exchanged", retry_after_s=1.0)

    async def _deduplicated(self, bound: Bound, group: Group, rows: Sequence[int], context: Context) -> Column:
        """Equal responses of the group are scored once."""
        if bound.info.scope != "response":
            return await self._lane(bound, group, rows, context)
        chosen: list[int] = []
        places: dict[str | int, int] = {}
        known: list[int] = []
        for row in rows:
            response = group.responses[row]
            place = places.setdefault(response.text if is_plain(response) else row, len(chosen))
            known.append(place)
            if place == len(chosen):
                chosen.append(row)
        column = await self._lane(bound, group, chosen, context)
        return column if len(chosen) == len(rows) else own_column(column.take(known))

    async def _lane(self, bound: Bound, group: Group, rows: Sequence[int], context: Context) -> Column:
        """What the scorer's lane makes of rows, of which none is in quarantine."""
        refused = await self.quarantine.verdicts(bound, group, rows) if self.quarantine else {}
        if not refused:
            return await self._worked(bound, group, rows, context)
        column = Column.of([refused.get(place, UNDECIDED) for place in range(len(rows))])
        free = [place for place in range(len(rows)) if place not in refused]
        if free:
            column.put(free, await self._worked(bound, group, [rows[place] for place in free], context))
        return column if column.fingerprint else replace(column, fingerprint=bound.fingerprint)

    async def _worked(self, bound: Bound, group: Group, rows: Sequence[int], context: Context) -> Column:
        if not isinstance(bound, BoundVerifier):
            column = checked(await cast("RemoteBound", bound).score_remote(group, rows, context))
            if len(column) != len(rows):
                return Column.failed(len(rows), Status.INTERNAL_ERROR, "the scorer returned other than one score each")
            return column
        if bound.info.lane == "sandbox":
            parts = [[row] for row in rows] if bound.info.scope == "response" else [rows]
            works = [partial(bound.score, group, part) for part in parts]
            column = Column([], [], bound.fingerprint)
            for each in await self.programs.run(works, bound.fingerprint, context.tenant, context.priority):
                column.extend(each)
            return column
        return await self._pooled(bound, group, rows, context)

    async def _pooled(self, bound: BoundVerifier, group: Group, rows: Sequence[int], context: Context) -> Column:
        """What the fast path cannot decide goes to the pool."""
        short = bound.info.lane == "pool" and Ask(bound, group, rows).chars <= INLINE_CHARS
        column = bound.try_fast(group, rows) if short else None
        if column is None:
            return await self._pool_of(bound).run(bound, without_media(group), rows, context)
        undecided = [position for position, status in enumerate(column.statuses) if status is Status.SKIPPED]
        if undecided:
            chosen = [rows[position] for position in undecided]
            column.put(undecided, await self._pool_of(bound).run(bound, without_media(group), chosen, context))
        return column

    def _pool_of(self, bound: BoundVerifier) -> Pool:
        """The pool whose workers have this version of the verifier."""
        pools = [self.pool, *(each for each in self.leaving if isinstance(each, Pool))]
        return next((pool for pool in pools if pool.has(bound)), self.pool)


def remaining_s(context: Context) -> float | None:
    """Seconds until the deadline; None without one."""
    return max(0.0, context.deadline - time.monotonic()) if math.isfinite(context.deadline) else None


def _inline(ask: Ask) -> Column | None:
    """The column of a cheap verifier of short texts; None where a lane has to do it."""
    bound = ask.bound
    if not isinstance(bound, BoundVerifier) or bound.info.lane not in {"inline", "pool"}:
        return None
    began = time.time_ns()
    inline = bound.info.lane == "inline"
    try:
        if ask.chars > INLINE_CHARS:
            return None
        column = bound.score(ask.group, ask.rows) if inline else bound.try_fast(ask.group, ask.rows)
    except Exception as error:  # a group that is none, which a program has made
        return Column.of([failure(error) for _ in ask.rows])
    if column is None or (not inline and Status.SKIPPED in column.statuses):
        return None
    _traced(ask, began)
    return column


def _traced(ask: Ask, since_ns: int) -> None:
    """A term that no lane was needed for; the others have their spans where they run."""
    info = ask.bound.info
    tracing.past("term", since_ns, scorer=info.name, lane=info.lane, responses=len(ask.rows))


def _pooled_always(bound: Bound) -> bool:
    """Whether nothing but the pool, no cache and no fast path, knows a score."""
    pooled = isinstance(bound, BoundVerifier) and bound.info.lane == "pool" and bound.verifier.fast is None
    return pooled and not cacheable(bound)


async def _keys(bound: Bound, group: Group, rows: Sequence[int], tenant: str) -> list[bytes]:
    return await beside(group, lambda: row_keys(bound, group, rows, tenant))


async def _lookup(place: int, ask: Ask, context: Context) -> tuple[int, list[bytes], str] | None:
    """The keys of an ask; None where its input has none, which its lane will say."""
    try:
        fingerprint = ask.bound.fingerprint
        return place, await _keys(ask.bound, ask.group, ask.rows, context.tenant), fingerprint
    except Exception:
        return None


def checked(column: Column) -> Column:
    """A remote scorer's column, in which every row that is no score has become an error."""
    for row in range(len(column)):
        given = column.row(row)
        score = sound(given)
        if isinstance(score, str):
            column.put([row], Column.failed(1, Status.INTERNAL_ERROR, score))
        elif score is not given:
            column.put([row], Column.of([score]))
    return own_column(column)


def cacheable(bound: Bound) -> bool:
    """Whether results are looked up: dear ones that are the same each time."""
    return bound.info.cost == "dear" and bound.info.deterministic


def whole(compute: Compute, size: int) -> Compute:
    """Pair and group scope: whatever rows are asked for, all rows are scored together."""

    async def compute_all(positions: list[int]) -> Column:
        column = await compute(list(range(size)))
        return column if len(positions) == size else column.take(positions)

    return compute_all


def without_media(group: Group) -> Group:
    """The group without media bytes, which no rule verifier reads."""
    if not any(media.data or media.frame_data for media in group.media):
        return group
    return replace(group, media=tuple(replace(media, data=None, frame_data=()) for media in group.media))
