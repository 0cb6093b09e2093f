"""The second tier: scores shared between hubs in Redis. Its failures are misses, never errors.

A look-up waits for Redis at most 50 ms in all: for its rows, then for its claim. Scores are stored and claims
given back in the background. A call ends after 50 ms and counts as failed where it comes too late for who waits.
After three failures in a row the breaker opens and calls cost nothing until a probe succeeds. What a value
looks like: :mod:`rewardhub.cache.row`.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from types import NoneType
from typing import Any, NamedTuple

from rewardhub.cache.background import Background
from rewardhub.cache.coalesce import Coalescer
from rewardhub.cache.connections import Connections, packed
from rewardhub.cache.link import NotRedis, Refused
from rewardhub.cache.row import Row, bytes_of, decode, encode

PREFIX = b"rewardhub:score:"
"""Names of rows begin so, those of leases with :data:`LEASE_PREFIX`."""
LEASE_PREFIX = PREFIX + b"lease:"
BUDGET_S = 0.05
"""What one look-up waits for Redis."""
ROWS_SHARE = 0.5
"""The part of the budget for its rows; the rest is for its claim."""
SLICES = 5
"""What is waited for is cut in so many parts: a loop that was busy meanwhile has not waited for Redis."""
FAILURES = 3
PROBE_S = 1.0
MAX_ROW = 256 * 1024
"""Bytes of a row above which it is kept in memory only: a group of them would not come in time."""
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


class _Command(NamedTuple):
    """What is sent; the reply has ``size`` items of these kinds, or is looked at by nobody where there are none."""

    data: bytes
    size: int = 0
    kinds: frozenset[type] = frozenset()

    def fits(self, reply: Any) -> bool:
        if not self.kinds:
            return True
        return type(reply) is list and len(reply) == self.size and self.kinds.issuperset(map(type, reply))


def _off_course(error: Exception) -> bool:
    """A master that is one no longer keeps its connections, and a connection that is out of step stays so."""
    return isinstance(error, NotRedis) or (isinstance(error, Refused) and error.code == "READONLY")


_ROWS: frozenset[type] = frozenset({bytes, NoneType})
_CLAIMED: frozenset[type] = frozenset({bytes, int})


class RedisStore:
    """Rows in Redis under ``PREFIX``; ``ttl_s`` is their life in seconds. Raises ``ConfigError`` for another URL."""

    def __init__(self, url: str, *, ttl_s: int) -> None:
        self._connections = Connections(url)
        self._call_s, self._rows_s, self._claim_s = BUDGET_S, BUDGET_S * ROWS_SHARE, BUDGET_S * (1 - ROWS_SHARE)
        self._ttl_s = ttl_s
        self._failures = 0
        self._closed_until = 0.0
        self._dropped_until = 0.0
        self.errors = 0
        self._asking: set[asyncio.Task[Any]] = set()
        self._gets = Coalescer(self._mget)
        self._claims = Coalescer(lambda commands: self._guard(commands, self._claim_s))
        self._later = Background(lambda commands: self._guard([*map(_Command, commands)], self._call_s))

    def start(self) -> None:
        """Begins to connect, so that the log says at once what keeps this hub from its Redis."""
        self._connections.begin()

    async def get(self, keys: Sequence[bytes]) -> list[Row | None]:
        """The row of each key, None where there is none; the calls of one turn of the loop share one MGET."""
        values = await self._gets(keys)
        return [None] * len(keys) if values is None else decode(keys, values)

    async def claim(self, keys: Sequence[bytes], token: str, ttl_ms: int, within_s: float) -> list[Row | bool] | None:
        """Per key its row, else whether this marked it with ``token``; None where Redis does not answer in time."""
        pairs = [name for key in keys for name in (PREFIX + key, self._lease(key))]
        command = _Command(packed("EVAL", _CLAIM, len(pairs), *pairs, token, ttl_ms), len(keys), _CLAIMED)
        try:
            async with asyncio.timeout(within_s):
                answers = await self._claims([command])
        except TimeoutError:
            return None
        if answers is None:
            return None
        replies: list[bytes | int] = answers[0]
        rows = decode(keys, [reply if isinstance(reply, bytes) else None for reply in replies])
        # bytes that are no row are as good as none, and nobody has marked their key
        return [row if row is not None else bool(reply) for row, reply in zip(rows, replies, strict=True)]

    def put(self, rows: Sequence[tuple[bytes, Row]]) -> None:
        """Stores every row that is not too large and has a form in Redis, in the background."""
        small = ((key, row) for key, row in rows if bytes_of(row) <= MAX_ROW)
        bodies = [(key, body) for key, row in small if (body := encode(key, row)) is not None]
        self._later.add([packed("SET", PREFIX + key, body, "EX", self._ttl_s) for key, body in bodies])

    def scripted(self, script: str, keys: Sequence[bytes], *arguments: str) -> None:
        """Runs a script on the marks of ``keys``, in the background and after what was put before."""
        if keys:
            self._later.add([packed("EVAL", script, len(keys), *map(self._lease, keys), *arguments)])

    async def drained(self) -> None:
        """Returns when nothing is left to be done in the background."""
        await self._later.drained()
        if self._asking:
            await asyncio.wait(set(self._asking))

    async def aclose(self) -> None:
        await self.drained()
        await self._connections.aclose()

    @property
    def open(self) -> bool:
        """Whether the breaker lets calls through."""
        return time.monotonic() >= self._closed_until

    @property
    def up(self) -> bool:
        """Whether Redis was reached, and the breaker has not opened since it last answered."""
        return self._connections.made and self._failures < FAILURES

    async def _mget(self, keys: Sequence[Any]) -> list[Any] | None:
        command = _Command(packed("MGET", *(PREFIX + key for key in keys)), len(keys), _ROWS)
        replies = await self._guard([command], self._rows_s)
        found: list[Any] | None = replies[0] if replies else None
        return found

    def _lease(self, key: bytes) -> bytes:
        return LEASE_PREFIX + key

    async def _guard(self, commands: Sequence[_Command], patience_s: float) -> list[Any] | None:
        """The replies to commands; None where one is none of its kind, where they are late, or the breaker is open."""
        if not self.open:
            return None
        if self._failures >= FAILURES:
            self._set_aside()  # this call is the probe, the others stay away meanwhile
        try:
            replies, waited_s = await self._asked(commands, patience_s)
        except Exception as error:
            self._failed(error)
            return None
        if waited_s > self._rows_s:  # a write's patience: that it came says nothing of look-ups, for which it is late
            return replies
        if self._failures >= FAILURES:
            _log.info("redis is asked again")
        self._failures, self._closed_until = 0, 0.0
        return replies

    async def _asked(self, commands: Sequence[_Command], patience_s: float) -> tuple[list[Any], float]:
        """The replies to commands, and for how long they were waited for at least; raises ``TimeoutError``, an error
        that is a reply, or what is wrong with a reply.
        """
        answer = asyncio.create_task(self._connections.ask([command.data for command in commands], self._call_s))
        self._asking.add(answer)
        answer.add_done_callback(self._told)
        waited_s = 0.0
        for _ in range(SLICES):
            await asyncio.wait({answer}, timeout=patience_s / SLICES)
            if answer.done():
                break
            waited_s += patience_s / SLICES
        if not answer.done() or answer.cancelled():
            raise TimeoutError  # what comes now is for nobody
        replies = answer.result()
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception):
                raise reply
            if not command.fits(reply):
                raise NotRedis("a reply to something else")
        return replies, waited_s

    def _told(self, answer: asyncio.Task[Any]) -> None:
        self._asking.discard(answer)
        if not answer.cancelled():
            answer.exception()

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        self._failures += 1
        self._connections.tell(error)
        if _off_course(error) and time.monotonic() >= self._dropped_until:
            self._dropped_until = time.monotonic() + PROBE_S
            self._connections.drop()
        if self._failures == FAILURES:
            self._set_aside()
            self._connections.drop()

    def _set_aside(self) -> None:
        self._closed_until = time.monotonic() + PROBE_S
