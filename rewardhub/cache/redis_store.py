"""The second tier: scores shared between hubs in Redis. Its failures are misses, never errors.

Every call has a budget of 50 ms. After three failures in a row the breaker opens and calls cost
nothing until a probe succeeds. What a value looks like: :mod:`rewardhub.cache.row`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import hiredis
from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from rewardhub.cache.coalesce import Coalescer
from rewardhub.cache.row import Row, decode, encode

T = TypeVar("T")
BUDGET_S = 0.05
FAILURES = 3
PROBE_S = 1.0
_log = logging.getLogger("rewardhub.cache")


class _Connection(Connection):
    """Packs commands in C, which only the blocking connection does by itself."""

    def pack_command(self, *args: Any) -> list[bytes]:
        name, *rest = args  # a name may be of two words
        return [hiredis.pack_command((*name.split(), *rest))]


class RedisStore:
    """Rows in Redis under ``prefix``; ``ttl_s`` is their life in seconds."""

    def __init__(self, url: str, *, ttl_s: int, prefix: str = "rewardhub:score:") -> None:
        pool = BlockingConnectionPool.from_url(
            url, max_connections=16, timeout=BUDGET_S, socket_timeout=BUDGET_S, socket_connect_timeout=BUDGET_S,
            retry=Retry(NoBackoff(), 0), connection_class=_Connection,
        )  # fmt: skip
        self._redis: Any = Redis.from_pool(pool)
        self._ttl_s = ttl_s
        self._prefix = prefix.encode()
        self._lease_prefix = f"{prefix}lease:".encode()
        self._failures = 0
        self._closed_until = 0.0
        self.errors = 0
        self._gets = Coalescer(self._mget)
        self._writes = Coalescer(self._pipelined)

    async def get(self, keys: Sequence[bytes]) -> list[Row | None]:
        """The row of each key, None where there is none; the calls of one turn of the loop share one MGET."""
        values = await self._gets(keys)
        return [None] * len(keys) if values is None else decode(values)

    async def put(self, rows: Sequence[tuple[bytes, Row]]) -> None:
        """Stores every row that has a form in Redis."""
        bodies = ((key, body) for key, row in rows if (body := encode(row)) is not None)
        await self._writes([("SET", self._prefix + key, body, "EX", self._ttl_s) for key, body in bodies])

    async def set_absent(self, keys: Sequence[bytes], token: str, ttl_ms: int) -> list[bool] | None:
        """Marks each key that nobody has marked; which ones, or None when Redis does not answer."""
        commands = [("SET", self._lease(key), token, "PX", ttl_ms, "NX") for key in keys]
        marked = await self._writes(commands)
        return None if marked is None else [bool(each) for each in marked]

    async def scripted(self, script: str, keys: Sequence[bytes], *arguments: str) -> None:
        """Runs a script on the mark of each key."""
        await self._writes([("EVAL", script, 1, self._lease(key), *arguments) for key in keys])

    async def _mget(self, keys: Sequence[Any]) -> list[Any] | None:
        prefix = self._prefix
        found: list[Any] | None = await self._guard(lambda: self._redis.mget([prefix + key for key in keys]))
        return found

    async def _pipelined(self, commands: Sequence[Any]) -> list[Any] | None:
        async def run() -> list[Any]:
            pipeline = self._redis.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = await pipeline.execute()
            return replies

        answered: list[Any] | None = await self._guard(run)
        return answered

    async def aclose(self) -> None:
        await self._redis.aclose()

    def _lease(self, key: bytes) -> bytes:
        return self._lease_prefix + key

    @property
    def open(self) -> bool:
        """Whether the breaker lets calls through."""
        return time.monotonic() >= self._closed_until

    async def _guard(self, call: Any) -> Any:
        if not self.open:
            return None
        if self._failures >= FAILURES:
            self._set_aside()  # this call is the probe, the others stay away meanwhile
        try:
            result = await asyncio.wait_for(_awaited(call()), BUDGET_S)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        self._failures, self._closed_until = 0, 0.0
        return result

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        self._failures += 1
        if self._failures == FAILURES:
            _log.warning("redis is set aside: %s", type(error).__name__)
            self._set_aside()

    def _set_aside(self) -> None:
        self._closed_until = time.monotonic() + PROBE_S


async def _awaited(call: Awaitable[T]) -> T:
    return await call
