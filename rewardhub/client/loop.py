"""An event loop on a thread of its own: connections outlive the caller's loops and serve all threads."""

import asyncio
import contextlib
import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol, TypeVar

from rewardhub.errors import Cancelled


class Closing(Protocol):
    """What has to be closed; a second time does nothing."""

    async def close(self) -> None: ...


class SourceFailed(Exception):
    """The caller's groups broke off with ``error``: whatever it is, it ends the caller's thread or task, never ours."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(repr(error))
        self.error = error


T = TypeVar("T")
C = TypeVar("C", bound=Closing)


class LoopThread:
    """Runs coroutines for any thread and any other event loop of one process, until :meth:`stop`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stopping = False
        self._process = os.getpid()
        self._last: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._thread = threading.Thread(target=self._main, name="rewardhub-client", daemon=True)
        try:
            self._thread.start()
        except BaseException:  # of a signal that came while it starts
            self.stop()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``; an interrupt of the calling thread cancels it. ``Cancelled`` once stopped."""
        future = self._submitted(work)
        try:
            return future.result()
        except CancelledError:
            raise _closed() from None
        except BaseException:
            future.cancel()
            raise
        finally:
            del future  # an error must not hold, through this frame, what the caller held

    def run_unless_stopped(self, work: Coroutine[Any, Any, object]) -> None:
        """For cleaning up, which a stopped loop has done already."""
        with contextlib.suppress(Cancelled):
            self.run(work)

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, for a caller on another loop; its cancellation cancels ``work``. ``Cancelled`` once
        stopped: a ``CancelledError`` that nobody asked for ends a task of a group without a word.
        """
        future = self._submitted(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stopping and not (task and task.cancelling()):
                raise _closed() from None
            raise

    async def acquire(self, work: Coroutine[Any, Any, C]) -> C:
        """As :meth:`call`; what ``work`` makes while its caller is cancelled is closed."""
        made: list[C] = []

        async def make() -> None:
            made.append(await work)

        async def close() -> None:
            for each in made:
                await each.close()
            if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
                work.close()

        try:
            await self.call(make())
        except asyncio.CancelledError:
            self._submit_unless_stopped(close())
            raise
        except Cancelled:
            work.close()  # where it was not begun
            raise
        return made[0]

    async def release(self, made: Closing) -> None:
        """Closes it; to the end, even if the caller is cancelled meanwhile."""
        try:
            await self.call(made.close())
        except asyncio.CancelledError:
            self._submit_unless_stopped(made.close())
            raise

    def stop(self, last: Callable[[], Coroutine[Any, Any, None]] | None = None) -> None:
        """Cancels what still runs, whose callers get ``Cancelled``, and does ``last``. Waits for it, but on the thread
        itself, where the garbage collector may call this.
        """
        self._stopping, self._last = True, last
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout=5)

    def _submitted(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if os.getpid() != self._process:  # a forked child, where no thread runs this loop
            work.close()
            raise Cancelled("this stream or open group is of the process that began it")
        try:
            if self._stopping:
                raise RuntimeError
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # or the loop is closed
            work.close()
            raise _closed() from None

    def _submit_unless_stopped(self, work: Coroutine[Any, Any, object]) -> None:
        with contextlib.suppress(Cancelled):
            self._submitted(work)

    def _main(self) -> None:
        self._loop.run_forever()
        self._end_tasks()
        if self._last:
            self._loop.run_until_complete(self._last())
            self._end_tasks()
        self._loop.close()

    def _end_tasks(self) -> None:
        """Cancels tasks until there is none: what is cancelled may have begun another."""
        self._loop.run_until_complete(asyncio.sleep(0))  # what was submitted a moment ago becomes a task
        while pending := asyncio.all_tasks(self._loop):
            for task in pending:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(pending))


def _closed() -> Cancelled:
    return Cancelled("this client is closed")
