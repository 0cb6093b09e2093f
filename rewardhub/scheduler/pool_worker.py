"""The hub's handle on one verifier process: its socket, and how long it may be silent."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rewardhub.process_state import process_state
from rewardhub.scheduler.beginnings import Shared
from rewardhub.scheduler.messages import Begun, Channel, HandedBack, PoolTask, Row
from rewardhub.scheduler.zygote import Zygote

LOOK_S = 0.5
"""How often a silent worker is looked at."""


class GivenUp(Exception):
    """Nobody waits any more for what a worker is still at."""


@dataclass
class PoolWorker:
    """One process, the channel to it and the zygote that forked it."""

    pid: int
    channel: Channel
    zygote: Zygote
    cpu_s: float = 0.0
    begun: bool = False
    beginning: int = 0
    """The key of the long group that the process has at hand."""
    _receiving: asyncio.Future[Begun | HandedBack | Row] | None = None

    async def start(self, task: PoolTask, shared: Shared) -> bool:
        """Sends a task behind what it begins with; False where the process had ended before, of which it is innocent.

        Raises ``TimeoutError`` where the process does not read it, for instance because somebody stopped it.
        """
        self.begun = False
        code, self.cpu_s = process_state(self.pid)
        if code == "Z":
            return False
        if shared.key and shared.key != self.beginning:
            self.beginning = shared.key
            await self.channel.send_encoded(shared.message)
        await self.channel.send(task)
        return True

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped the process: its silence proves nothing."""
        return process_state(self.pid).code == "T"

    async def answer(self, limit_s: float, over: Callable[[], bool]) -> Row | None:
        """The next row, None where the rest is handed back.

        Raises ``TimeoutError`` once the worker had its time or was stopped, ``ConnectionError`` if it died, ``GivenUp``
        where it is at work for nobody since the task is ``over``.

        On a crowded machine a worker may wait for a core: it gets up to four times the wall clock
        while the task has not had ``limit_s`` of processor time.
        """
        for _ in range(4):
            receiving = self._receiving or asyncio.ensure_future(self.channel.receive())
            self._receiving = receiving
            if await self._heard(receiving, limit_s, over):
                self._receiving = None
                message = receiving.result()
                if isinstance(message, Begun):
                    self.begun = True
                    return await self.answer(limit_s, over)
                return message if isinstance(message, Row) else None
            state = process_state(self.pid)
            if state.code != "R" or state.cpu_s - self.cpu_s >= 0.8 * limit_s:
                break
        raise TimeoutError

    async def _heard(self, receiving: asyncio.Future[Any], limit_s: float, over: Callable[[], bool]) -> bool:
        """Waits at most ``limit_s``, and looks meanwhile whether that is in vain."""
        until = time.monotonic() + limit_s
        while not receiving.done() and (left := until - time.monotonic()) > 0:
            done, _ = await asyncio.wait((receiving,), timeout=min(left, LOOK_S))
            if not done and over():
                raise GivenUp
            if not done and self.stopped:
                raise TimeoutError
        return receiving.done()

    def close(self) -> None:
        """Ends the process for good."""
        if self._receiving:
            self._receiving.cancel()
        self.channel.close()
        self.zygote.kill(self.pid)
