"""Commands that nobody waits for: sent in the order in which they came, one pipeline after the other."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Send = Callable[[Sequence[Any]], Awaitable[Any]]
PIPELINE = 256
_log = logging.getLogger("rewardhub.cache")
LIMIT = 8_192
"""Commands that wait at most; more are dropped."""


class Background:
    """Hands what is added to ``send``; what it raises costs the commands that it was given."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._queue: deque[Any] = deque()
        self._sending: asyncio.Task[None] | None = None

    def add(self, commands: Sequence[Any]) -> None:
        """Queues all of ``commands``; none where that would be too many."""
        if len(self._queue) + len(commands) > LIMIT:
            return
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
                commands = [self._queue.popleft() for _ in range(min(PIPELINE, len(self._queue)))]
                try:
                    await self._send(commands)
                except Exception:
                    _log.exception("%d commands to the cache are lost", len(commands))
        finally:
            self._sending = None
