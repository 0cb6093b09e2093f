"""Commands that nobody waits for: sent in the order in which they came, one pipeline after the other."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Send = Callable[[list[bytes]], Awaitable[Any]]
PIPELINE = 256
_log = logging.getLogger("rewardhub.cache")
PIPELINE_BYTES = 1 << 20
LIMIT_BYTES = 32 << 20
"""Bytes of commands that wait at most; more are dropped."""


class Background:
    """Hands what is added to ``send``; what it raises costs the commands that it was given."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._queue: deque[bytes] = deque()
        self._sending: asyncio.Task[None] | None = None
        self.bytes = 0

    def add(self, commands: Sequence[bytes]) -> None:
        """Queues all of ``commands``; none where that would be too many bytes."""
        size = sum(map(len, commands))
        if self.bytes + size > LIMIT_BYTES:
            return
        self.bytes += size
        self._queue.extend(commands)
        if self._queue and self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._work())

    async def drained(self) -> None:
        """Returns when what was added has been sent."""
        if self._sending:
            await asyncio.shield(self._sending)

    async def _work(self) -> None:
        try:
            while self._queue:
                commands = self._next()
                try:
                    await self._send(commands)
                except Exception:
                    _log.exception("%d commands to the cache are lost", len(commands))
        finally:
            self._sending = None

    def _next(self) -> list[bytes]:
        pipeline: list[bytes] = []
        size = 0
        while self._queue and len(pipeline) < PIPELINE and size < PIPELINE_BYTES:
            pipeline.append(self._queue.popleft())
            size += len(pipeline[-1])
        self.bytes -= size
        return pipeline
