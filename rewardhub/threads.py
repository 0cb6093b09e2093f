"""Threads for work that blocks and that nobody can call off. The process does not wait for them when it ends."""

import asyncio
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

_Work = tuple[Callable[[], Any], asyncio.AbstractEventLoop, asyncio.Future[Any]]


class Threads:
    """At most ``size`` threads, started when they are needed. :attr:`close` ends them after their work."""

    def __init__(self, size: int, name: str) -> None:
        self._size, self._name = size, name
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0
        self.close = weakref.finalize(self, self._queue.put, None)

    def run(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """What ``work`` returns or raises; work that is cancelled before its turn never runs."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._queue.put((work, loop, done))
        if not self._idle.acquire(blocking=False) and self._started < self._size:
            self._started += 1
            name = f"{self._name}-{self._started}"
            threading.Thread(target=_serve, args=(self._queue, self._idle), name=name, daemon=True).start()
        return done


def _serve(queue: "SimpleQueue[_Work | None]", idle: threading.Semaphore) -> None:
    while (item := queue.get()) is not None:
        work, loop, done = item
        result, error = None, None
        try:
            result = None if done.cancelled() else work()
        except BaseException as raised:
            error = raised
        idle.release()
        with suppress(RuntimeError):  # a loop that is closed has nobody who waits
            loop.call_soon_threadsafe(_tell, done, result, error)
        del item, work, loop, done, result, error
    queue.put(None)  # for the next thread


def _tell(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    elif isinstance(error, StopIteration) or not isinstance(error, Exception):  # no future holds it, or it ends a loop
        done.set_exception(RuntimeError(f"the work raised {error!r}"))
    else:
        done.set_exception(error)
