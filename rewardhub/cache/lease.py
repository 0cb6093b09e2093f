"""Single flight between hubs: who computes a key holds a short lease on it in Redis.

One pipelined ``SET NX`` claims a batch of keys. The holder renews its leases while it computes and gives
them back when the scores are stored; both are fenced by a token, so that a holder that was away too
long cannot end another's lease. Who finds a key held polls for its score, for as long as the lease can
last or half of its own remaining time, and then computes itself. Without Redis everything is granted.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from rewardhub.cache.redis_store import RedisStore
from rewardhub.cache.row import Row

LEASE_MS = 2_000
POLL_S = (0.005, 0.01, 0.02, 0.05)

_RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class Leases:
    """Leases on keys of one store."""

    def __init__(self, store: RedisStore, *, lease_ms: int = LEASE_MS) -> None:
        self._store = store
        self._lease_ms = lease_ms

    @asynccontextmanager
    async def hold(self, keys: Sequence[bytes]) -> AsyncIterator[set[bytes]]:
        """Claims ``keys``; yields those that this hub is to compute, which it holds until the end."""
        token = secrets.token_hex(8)
        granted = await self._claim(keys, token)
        renewing = asyncio.create_task(self._renew(sorted(granted), token))
        try:
            yield granted
        finally:
            renewing.cancel()
            await self._store.scripted(_RELEASE, sorted(granted), token)

    async def wait(self, keys: Sequence[bytes], patience_s: float) -> dict[bytes, Row]:
        """The rows of keys that others hold, as far as they come within ``patience_s`` or a lease."""
        until = time.monotonic() + min(patience_s, self._lease_ms / 1000)
        found: dict[bytes, Row] = {}
        for turn in range(10_000):
            lacking = [key for key in keys if key not in found]
            if not lacking or time.monotonic() >= until or not self._store.open:
                break
            await asyncio.sleep(POLL_S[min(turn, len(POLL_S) - 1)])
            rows = await self._store.get(lacking)
            found |= {key: row for key, row in zip(lacking, rows, strict=True) if row is not None}
        return found

    async def _claim(self, keys: Sequence[bytes], token: str) -> set[bytes]:
        taken = await self._store.set_absent(keys, token, self._lease_ms)
        return set(keys) if taken is None else {key for key, mine in zip(keys, taken, strict=True) if mine}

    async def _renew(self, keys: Sequence[bytes], token: str) -> None:
        while keys:
            await asyncio.sleep(self._lease_ms / 3000)
            await self._store.scripted(_RENEW, keys, token, str(self._lease_ms))
