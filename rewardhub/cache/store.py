"""The cache that the scheduler asks: memory, then Redis, then one computation per key.

Only verdicts are kept: a failure is never cached. Twins in flight wait for one computation; if it
fails or its owner goes away, they compute for themselves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice

from rewardhub.cache.lease import Leases
from rewardhub.cache.memory import MemoryStore
from rewardhub.cache.redis_store import RedisStore
from rewardhub.cache.row import Row, column_of, rows_of
from rewardhub.types import CacheMode, Column

Compute = Callable[[list[int]], Awaitable[Column]]
"""Scores the rows at some positions of a look-up."""


class VersionChanged(Exception):
    """The scorer was exchanged between the look-up and the computation, so their rows do not mix."""


class Cache:
    """``lookup`` answers positions from the tiers and computes the rest once."""

    def __init__(self, memory: MemoryStore, redis: RedisStore | None = None) -> None:
        self.memory = memory
        self.redis = redis
        self.hits = 0
        self.misses = 0
        self._leases = Leases(redis) if redis else None
        self._flights: dict[bytes, asyncio.Future[Row | None]] = {}

    async def known(
        self, lookups: Sequence[tuple[Sequence[bytes], str]], within_s: float | None = None
    ) -> list[Column | None]:
        """For keys and the fingerprint of their scorer the column, None where not all are known in time; asks once."""
        keys = [key for wanted, _ in lookups for key in wanted]
        try:
            async with asyncio.timeout(within_s):
                rows = iter(await self._known(keys))
        except TimeoutError:
            return [None] * len(lookups)
        columns: list[Column | None] = []
        for wanted, fingerprint in lookups:
            found = [row for row in islice(rows, len(wanted)) if row is not None]
            complete = len(found) == len(wanted)
            self.hits += len(found) if complete else 0
            columns.append(column_of(found, fingerprint, [True] * len(found)) if complete else None)
        return columns

    async def lookup(
        self, keys: Sequence[bytes], mode: CacheMode, compute: Compute, fingerprint: str, patience_s: float = 1.0
    ) -> Column:
        """One row per key; ``compute`` gets the positions that nobody knows.

        What another hub computes is waited for at most ``patience_s`` seconds. Raises ``VersionChanged``
        where known rows are of ``fingerprint`` and computed ones are not.
        """
        if mode == "bypass":
            return await compute(list(range(len(keys))))
        rows: list[Row | None] = [None] * len(keys) if mode == "refresh" else await self._known(keys)
        cached = [row is not None for row in rows]
        todo = [position for position, row in enumerate(rows) if row is None]
        self.hits += len(keys) - len(todo)
        self.misses += len(todo)
        flight = _Flight(keys, mode, compute, fingerprint, rows, cached)
        if todo:
            await self._once(flight, todo, patience_s)
        return flight.column()

    async def aclose(self) -> None:
        if self.redis:
            await self.redis.aclose()

    async def _known(self, keys: Sequence[bytes]) -> list[Row | None]:
        rows = self.memory.get(keys)
        lacking = [position for position, row in enumerate(rows) if row is None]
        if lacking and self.redis:
            shared = await self.redis.get([keys[position] for position in lacking])
            found = [(position, row) for position, row in zip(lacking, shared, strict=True) if row is not None]
            for position, row in found:
                rows[position] = row
            self.memory.put((keys[position], row) for position, row in found)
        return rows

    async def _once(self, flight: "_Flight", todo: list[int], patience_s: float) -> None:
        mine, theirs = self._claim(flight.keys, todo)
        try:
            if mine:
                await self._between_hubs(flight, mine, patience_s)
        finally:
            for position in mine:
                waiting = self._flights.pop(flight.keys[position])
                if not waiting.done():
                    row = flight.rows[position] if flight.current else None
                    waiting.set_result(row if row and row[1].is_verdict else None)
        if theirs:
            await self._follow(flight, theirs)

    async def _between_hubs(self, flight: "_Flight", mine: list[int], patience_s: float) -> None:
        """Computes what no other hub is computing, and takes over what does not come in time."""
        if self._leases is None or flight.mode != "use":
            await self._compute(flight, mine)
            return
        keys = flight.keys
        async with self._leases.hold([keys[position] for position in mine]) as granted:
            ours = [position for position in mine if keys[position] in granted]
            if ours:
                await self._compute(flight, ours)
        held = [position for position in mine if keys[position] not in granted]
        if held:
            known = await self._leases.wait([keys[position] for position in held], patience_s)
            flight.take({position: known[keys[position]] for position in held if keys[position] in known})
        late = [position for position in held if flight.rows[position] is None]
        if late:
            await self._compute(flight, late)

    async def _compute(self, flight: "_Flight", positions: list[int]) -> None:
        computed = await flight.run(positions)
        if flight.mode == "read_only" or not flight.current:
            return
        verdicts = [
            (flight.keys[position], row)
            for position, row in zip(positions, computed, strict=True)
            if row[1].is_verdict
        ]  # fmt: skip
        self.memory.put(verdicts)
        if self.redis:
            await self.redis.put(verdicts)

    def _claim(self, keys: Sequence[bytes], todo: list[int]) -> tuple[list[int], dict[int, asyncio.Future[Row | None]]]:
        """The positions whose key nobody computes yet, and the flights of the others."""
        mine: list[int] = []
        theirs: dict[int, asyncio.Future[Row | None]] = {}
        for position in todo:
            flight = self._flights.get(keys[position])
            if flight is None:
                self._flights[keys[position]] = asyncio.get_running_loop().create_future()
                mine.append(position)
            else:
                theirs[position] = flight
        return mine, theirs

    async def _follow(self, flight: "_Flight", theirs: dict[int, asyncio.Future[Row | None]]) -> None:
        for position, waiting in theirs.items():
            row = await asyncio.shield(waiting)
            if row is not None:
                flight.take({position: row})
        failed = [position for position in theirs if flight.rows[position] is None]
        if failed:
            await flight.run(failed)


class _Flight:
    """One look-up under way: its rows fill up; ``current`` until something of another version was computed."""

    def __init__(
        self,
        keys: Sequence[bytes],
        mode: CacheMode,
        compute: Compute,
        fingerprint: str,
        rows: list[Row | None],
        cached: list[bool],
    ) -> None:
        self.keys, self.mode, self.rows = keys, mode, rows
        self.current = True
        self._compute, self._cached, self._fingerprint = compute, cached, fingerprint

    async def run(self, positions: list[int]) -> list[Row]:
        """Computes some rows."""
        column = await self._compute(positions)
        computed = rows_of(column)
        for position, row in zip(positions, computed, strict=True):
            self.rows[position] = row
        if column.fingerprint not in {"", self._fingerprint}:
            self.current = False
            if len(positions) < len(self.rows):
                raise VersionChanged
            self._fingerprint = column.fingerprint
        return computed

    def take(self, rows: dict[int, Row]) -> None:
        """Rows that somebody else computed."""
        for position, row in rows.items():
            self.rows[position], self._cached[position] = row, True

    def column(self) -> Column:
        return column_of([row for row in self.rows if row is not None], self._fingerprint, self._cached)
