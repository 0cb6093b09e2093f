"""The cache that the scheduler asks: memory, then Redis, then one computation per key.

Only verdicts are kept: a failure is never cached. Twins in flight wait for one computation; if it
fails or its owner goes away, they compute for themselves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from rewardhub.cache.lease import Leases
from rewardhub.cache.memory import MemoryStore
from rewardhub.cache.redis_store import RedisStore
from rewardhub.types import CacheMode, Score

Compute = Callable[[list[int]], Awaitable[list[Score]]]


class Cache:
    """``lookup`` answers positions from the tiers and computes the rest once."""

    def __init__(self, memory: MemoryStore, redis: RedisStore | None = None) -> None:
        self.memory = memory
        self.redis = redis
        self.hits = 0
        self.misses = 0
        self._leases = Leases(redis) if redis else None
        self._flights: dict[str, asyncio.Future[Score | None]] = {}

    async def lookup(
        self, keys: Sequence[str], mode: CacheMode, compute: Compute, patience_s: float = 1.0
    ) -> list[Score]:
        """One score per key; ``compute`` gets the positions that nobody knows.

        What another hub computes is waited for at most ``patience_s`` seconds.
        """
        if mode == "bypass":
            return await compute(list(range(len(keys))))
        known = {} if mode == "refresh" else await self._known(keys)
        self.hits += sum(key in known for key in keys)
        todo = [position for position, key in enumerate(keys) if key not in known]
        self.misses += len(todo)
        computed = await self._once(keys, todo, compute, mode, patience_s) if todo else {}
        return [known[key] if key in known else computed[position] for position, key in enumerate(keys)]

    async def aclose(self) -> None:
        if self.redis:
            await self.redis.aclose()

    async def _known(self, keys: Sequence[str]) -> dict[str, Score]:
        found = self.memory.get(keys)
        lacking = [key for key in keys if key not in found]
        if lacking and self.redis:
            shared = await self.redis.get(lacking)
            self.memory.put(shared)
            found |= shared
        return found

    async def _once(
        self, keys: Sequence[str], todo: list[int], compute: Compute, mode: CacheMode, patience_s: float
    ) -> dict[int, Score]:
        mine, theirs = self._claim(keys, todo)
        results: dict[int, Score] = {}
        try:
            if mine:
                results = await self._between_hubs(keys, mine, compute, mode, patience_s)
        finally:
            for position in mine:
                flight = self._flights.pop(keys[position])
                if not flight.done():
                    flight.set_result(results.get(position))
        return results | await self._followed(theirs, compute)

    async def _between_hubs(
        self, keys: Sequence[str], mine: list[int], compute: Compute, mode: CacheMode, patience_s: float
    ) -> dict[int, Score]:
        """Computes what no other hub is computing, and takes over what does not come in time."""
        if self._leases is None or mode != "use":
            return await self._computed(keys, mine, compute, mode)
        async with self._leases.hold([keys[position] for position in mine]) as granted:
            ours = [position for position in mine if keys[position] in granted]
            results = await self._computed(keys, ours, compute, mode) if ours else {}
        held = [position for position in mine if position not in results]
        known = await self._leases.wait([keys[position] for position in held], patience_s) if held else {}
        results |= {p: known[keys[p]] for p in held if keys[p] in known}
        late = [position for position in held if position not in results]
        return results | (await self._computed(keys, late, compute, mode) if late else {})

    async def _computed(
        self, keys: Sequence[str], positions: list[int], compute: Compute, mode: CacheMode
    ) -> dict[int, Score]:
        results = dict(zip(positions, await compute(positions), strict=True))
        if mode != "read_only":
            await self._keep({keys[position]: score for position, score in results.items()})
        return results

    def _claim(self, keys: Sequence[str], todo: list[int]) -> tuple[list[int], dict[int, asyncio.Future[Score | None]]]:
        """The positions whose key nobody computes yet, and the flights of the others."""
        mine: list[int] = []
        theirs: dict[int, asyncio.Future[Score | None]] = {}
        for position in todo:
            flight = self._flights.get(keys[position])
            if flight is None:
                self._flights[keys[position]] = asyncio.get_running_loop().create_future()
                mine.append(position)
            else:
                theirs[position] = flight
        return mine, theirs

    async def _followed(self, flights: dict[int, asyncio.Future[Score | None]], compute: Compute) -> dict[int, Score]:
        results: dict[int, Score] = {}
        for position, flight in flights.items():
            score = await asyncio.shield(flight)
            if score is not None and score.status.is_verdict:
                results[position] = replace(score, cached=True)
        failed = [position for position in flights if position not in results]
        if failed:
            results |= dict(zip(failed, await compute(failed), strict=True))
        return results

    async def _keep(self, scores: dict[str, Score]) -> None:
        verdicts = {key: replace(score, cached=True) for key, score in scores.items() if score.status.is_verdict}
        self.memory.put(verdicts)
        if self.redis:
            await self.redis.put(verdicts)
