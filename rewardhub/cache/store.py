"""The cache that the scheduler asks: memory, then Redis, then one computation per key.

Only verdicts are kept: a failure is never cached. Twins in flight wait for one computation. If its owner fails, goes
away or runs out of time, one of them computes for the others; if it takes more than half of the time that one has
left, that one computes beside it. Who waits gets a failure where that is the input's, or the second that it waited for:
what fails whoever computes it keeps nobody waiting for more than two.
"""

import asyncio
import math
import time
from collections.abc import Iterable, Sequence
from itertools import islice

from rewardhub.cache.flight import Compute, Flight
from rewardhub.cache.lease import Lease
from rewardhub.cache.memory import MemoryStore
from rewardhub.cache.redis_store import RedisStore
from rewardhub.cache.row import Row, column_of, lasts
from rewardhub.types import Blame, CacheMode, Column, Status

Waiting = asyncio.Future[Row | None]
"""For the row of a key: None where it is of another version, cancelled where its owner gave up."""
GIVEN_UP = {Status.TIMEOUT, Status.CANCELLED}


class Cache:
    """``lookup`` answers positions from the tiers and computes the rest once."""

    def __init__(self, memory: MemoryStore, redis: RedisStore | None = None) -> None:
        self.memory = memory
        self.redis = redis
        self.hits = 0
        self.misses = 0
        self._flights: dict[bytes, list[Waiting]] = {}
        self._wanted: set[bytes] = set()
        """What somebody waits for who may keep it."""

    async def known(
        self, lookups: Sequence[tuple[Sequence[bytes], str]], within_s: float = math.inf
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

        What others compute is waited for at most ``patience_s`` seconds, and half as long again where one of
        those who waited took over. Raises ``VersionChanged`` where known rows are of ``fingerprint`` and computed
        ones are not.
        """
        if mode == "bypass":
            return await compute(list(range(len(keys))))
        rows: list[Row | None] = [None] * len(keys)
        if mode != "refresh":
            # what may claim a key in Redis learns then whether its row is there
            rows = await self._known(keys) if mode == "read_only" else self.memory.get(keys)
        cached = [row is not None for row in rows]
        todo = [position for position, row in enumerate(rows) if row is None]
        flight = Flight(keys, mode, compute, fingerprint, rows, cached)
        try:
            if todo:
                await self._once(flight, todo, patience_s)
        finally:
            self.hits += cached.count(True)
            self.misses += cached.count(False)
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

    async def _once(self, flight: Flight, todo: list[int], patience_s: float) -> None:
        until = time.monotonic() + patience_s
        waited: dict[int, Waiting] = {}
        failed: set[int] = set()
        for limit in (until, until + patience_s / 2):
            while todo:
                mine, waited = self._claim(flight, todo, waited)
                if mine:
                    await self._lead(flight, mine, patience_s, until)
                todo = await self._follow(flight, waited, failed, limit)
                if time.monotonic() >= limit:
                    break
        if todo:
            await self._compute(flight, todo)

    def _claim(
        self, flight: Flight, todo: list[int], waited: dict[int, Waiting]
    ) -> tuple[dict[int, Waiting], dict[int, Waiting]]:
        """By position what is claimed: names that nobody computes, or only who was ``waited`` for; and the others."""
        mine: dict[int, Waiting] = {}
        theirs: dict[int, Waiting] = {}
        for position in todo:
            name = flight.names[position]
            flights = self._flights.setdefault(name, [])
            if flights and flights[-1] is not waited.get(position):
                theirs[position] = flights[-1]
                if flight.mode == "use":
                    self._wanted.add(name)
            else:
                mine[position] = asyncio.get_running_loop().create_future()
                flights.append(mine[position])
        return mine, theirs

    async def _lead(self, flight: Flight, mine: dict[int, Waiting], patience_s: float, until: float) -> None:
        """Computes what was claimed, and tells who waits what came of it."""
        try:
            await self._between_hubs(flight, list(mine), patience_s, until)
        finally:
            for position, waiting in mine.items():
                self._land(flight.names[position], waiting)
                if waiting.done():
                    continue
                row = flight.rows[position]
                if not flight.current:
                    waiting.set_result(None)
                elif row is None or row[1] in GIVEN_UP:
                    waiting.cancel()
                else:
                    waiting.set_result(row)

    def _land(self, name: bytes, waiting: Waiting) -> None:
        self._flights[name].remove(waiting)
        if not self._flights[name]:
            del self._flights[name]
            self._wanted.discard(name)

    async def _follow(self, flight: Flight, theirs: dict[int, Waiting], failed: set[int], limit: float) -> list[int]:
        """Takes what others have computed by ``limit``, computes what is of another version; the rest is to be claimed.

        ``failed`` are the positions for which somebody failed before.
        """
        if theirs:
            await asyncio.wait(set(theirs.values()), timeout=limit - time.monotonic())
        other: list[int] = []
        left: list[int] = []
        for position, waiting in theirs.items():
            if not waiting.done() or waiting.cancelled():
                left.append(position)
            elif (row := waiting.result()) is None:
                other.append(position)
            elif row[1].blame is Blame.SYSTEM and position not in failed:
                failed.add(position)
                left.append(position)
            else:
                flight.take({position: row})
        await self._compute(flight, other)
        if flight.mode == "refresh":
            return left
        rows = self.memory.get([flight.keys[position] for position in left])
        flight.take({position: row for position, row in zip(left, rows, strict=True) if row is not None})
        return [position for position in left if flight.rows[position] is None]

    async def _between_hubs(self, flight: Flight, mine: list[int], patience_s: float, until: float) -> None:
        """Computes what no other hub knows or is computing, and takes over what does not come in time."""
        if self.redis is None or flight.mode != "use":
            await self._compute(flight, mine)
            return
        left = {flight.keys[position]: position for position in mine}
        with Lease(self.redis, patience_s, until) as lease:
            while left:
                known, ours = await lease.claim(list(left))
                self._tell(known.items())
                self.memory.put(known.items())
                flight.take({left.pop(key): row for key, row in known.items()})
                await self._compute(flight, [left.pop(key) for key in ours])
                lease.release(ours)

    async def _compute(self, flight: Flight, positions: list[int]) -> None:
        if not positions:
            return
        computed = await flight.run(positions)
        if not flight.current:
            return
        verdicts = [
            (flight.keys[position], row)
            for position, row in zip(positions, computed, strict=True)
            if lasts(row)
        ]  # fmt: skip
        self._tell(verdicts)
        if flight.mode == "read_only":
            verdicts = [each for each in verdicts if each[0] in self._wanted]
        self.memory.put(verdicts)
        if self.redis:
            self.redis.put(verdicts)

    def _tell(self, rows: Iterable[tuple[bytes, Row]]) -> None:
        """Gives rows to all who wait for them, whomever they wait for."""
        for key, row in rows:
            for waiting in self._flights.get(key, ()):
                if not waiting.done():
                    waiting.set_result(row)
