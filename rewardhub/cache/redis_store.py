"""The second tier: scores shared between hubs in Redis. Its failures are misses, never errors.

A look-up waits for Redis at most 50 ms in all: for its rows, then for its claim. Scores are stored and claims
given back in the background. A call ends after 50 ms and counts as failed where it comes too late for who waits.
After three failures in a row the breaker opens and calls cost nothing until a probe succeeds. What a value
looks like: :mod:`rewardhub.cache.row`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from rewardhub.cache.background import Background
from rewardhub.cache.coalesce import Coalescer
from rewardhub.cache.row import Row, decode, encode
from rewardhub.errors import ConfigError

PREFIX = b"rewardhub:score:"
"""Names of rows begin so, those of leases with :data:`LEASE_PREFIX`."""
LEASE_PREFIX = PREFIX + b"lease:"
BUDGET_S = 0.05
"""What one look-up waits for Redis."""
ROWS_SHARE = 0.7
"""The part of the budget for its rows; the rest is for its claim."""
SLICES = 5
"""What is waited for is cut in so many parts: a loop that was busy meanwhile has not waited for Redis."""
FAILURES = 3
PROBE_S = 1.0
_CLAIM = """
local replies = {}
for i = 1, #KEYS, 2 do
    local row = redis.call('mget', KEYS[i])[1]
    local mine = not row and redis.call('set', KEYS[i + 1], ARGV[1], 'PX', ARGV[2], 'NX')
    replies[#replies + 1] = row or (mine and 1 or 0)
end
return replies
"""
_log = logging.getLogger("rewardhub.cache")


class _Connection(Connection):
    """Packs commands in C, which only the blocking connection does by itself."""

    def pack_command(self, *args: Any) -> list[bytes]:
        name, *rest = args  # a name may be of two words
        return [hiredis.pack_command((*name.split(), *rest))]


def _pool(url: str) -> BlockingConnectionPool:
    try:
        pool = BlockingConnectionPool.from_url(
            url, max_connections=16, timeout=BUDGET_S, socket_timeout=BUDGET_S, socket_connect_timeout=BUDGET_S,
            retry=Retry(NoBackoff(), 0), connection_class=_Connection,
        )  # fmt: skip
        pool.make_connection()  # type: ignore[no-untyped-call]  # connects to nothing yet, but has read all that the URL says
    except (TypeError, ValueError):  # whose words may quote a part of the password
        reason = "redis: no usable URL; expected redis://host:port/db, rediss://… or unix://…"
        raise ConfigError(reason, field="redis") from None
    return pool


class RedisStore:
    """Rows in Redis under ``PREFIX``; ``ttl_s`` is their life in seconds. Raises ``ConfigError`` for another URL."""

    def __init__(self, url: str, *, ttl_s: int) -> None:
        self._redis: Any = Redis.from_pool(_pool(url))
        self._call_s, self._rows_s, self._claim_s = BUDGET_S, BUDGET_S * ROWS_SHARE, BUDGET_S * (1 - ROWS_SHARE)
        self._ttl_s = ttl_s
        self._failures = 0
        self._closed_until = 0.0
        self.errors = 0
        self._asking: set[asyncio.Task[Any]] = set()
        self._gets = Coalescer(self._mget)
        self._claims = Coalescer(lambda commands: self._pipelined(commands, self._claim_s))
        self._later = Background(lambda commands: self._pipelined(commands, self._call_s))

    async def get(self, keys: Sequence[bytes]) -> list[Row | None]:
        """The row of each key, None where there is none; the calls of one turn of the loop share one MGET."""
        values = await self._gets(keys)
        return [None] * len(keys) if values is None else decode(values)

    async def claim(self, keys: Sequence[bytes], token: str, ttl_ms: int, within_s: float) -> list[Row | bool] | None:
        """Per key its row, else whether this marked it with ``token``; None where Redis does not answer in time."""
        pairs = [name for key in keys for name in (PREFIX + key, self._lease(key))]
        command = ("EVAL", _CLAIM, len(pairs), *pairs, token, ttl_ms)
        try:
            async with asyncio.timeout(within_s):
                answers = await self._claims([command])
        except TimeoutError:
            return None
        if answers is None:
            return None
        replies: list[bytes | int] = answers[0]
        rows = decode([reply if isinstance(reply, bytes) else None for reply in replies])
        # bytes that are no row are as good as none, and nobody has marked their key
        return [row if row is not None else bool(reply) for row, reply in zip(rows, replies, strict=True)]

    def put(self, rows: Sequence[tuple[bytes, Row]]) -> None:
        """Stores every row that has a form in Redis, in the background."""
        bodies = ((key, body) for key, row in rows if (body := encode(row)) is not None)
        self._later.add([("SET", PREFIX + key, body, "EX", self._ttl_s) for key, body in bodies])

    def scripted(self, script: str, keys: Sequence[bytes], *arguments: str) -> None:
        """Runs a script on the marks of ``keys``, in the background and after what was put before."""
        if keys:
            self._later.add([("EVAL", script, len(keys), *map(self._lease, keys), *arguments)])

    async def drained(self) -> None:
        """Returns when nothing is left to be done in the background."""
        await self._later.drained()
        if self._asking:
            await asyncio.wait(set(self._asking))

    async def _mget(self, keys: Sequence[Any]) -> list[Any] | None:
        names = [PREFIX + key for key in keys]
        found: list[Any] | None = await self._guard(lambda: self._redis.mget(names), self._rows_s)
        return found

    async def _pipelined(self, commands: Sequence[Any], patience_s: float) -> list[Any] | None:
        async def run() -> list[Any]:
            pipeline = self._redis.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = await pipeline.execute()
            return replies

        answered: list[Any] | None = await self._guard(run, patience_s)
        return answered

    async def aclose(self) -> None:
        await self.drained()
        await self._redis.aclose()

    def _lease(self, key: bytes) -> bytes:
        return LEASE_PREFIX + key

    @property
    def open(self) -> bool:
        """Whether the breaker lets calls through."""
        return time.monotonic() >= self._closed_until

    async def _guard(self, call: Callable[[], Awaitable[Any]], patience_s: float) -> Any:
        if not self.open:
            return None
        if self._failures >= FAILURES:
            self._set_aside()  # this call is the probe, the others stay away meanwhile
        answer = asyncio.create_task(self._asked(call))
        self._asking.add(answer)
        answer.add_done_callback(self._told)
        for _ in range(SLICES):
            await asyncio.wait({answer}, timeout=patience_s / SLICES)
            if answer.done():
                break
        try:
            if not answer.done():
                raise TimeoutError  # what comes now is for nobody
            result = answer.result()
        except Exception as error:  # of Redis, of the way there, or of the library that speaks to it
            self._failed(error)
            return None
        self._failures, self._closed_until = 0, 0.0
        return result

    async def _asked(self, call: Callable[[], Awaitable[Any]]) -> Any:
        async with asyncio.timeout(self._call_s):
            return await call()

    def _told(self, answer: asyncio.Task[Any]) -> None:
        self._asking.discard(answer)
        if not answer.cancelled():
            answer.exception()

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        self._failures += 1
        if self._failures == FAILURES:
            _log.warning("redis is set aside: %s", type(error).__name__)
            self._set_aside()

    def _set_aside(self) -> None:
        self._closed_until = time.monotonic() + PROBE_S
