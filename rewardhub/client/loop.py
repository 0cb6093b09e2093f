"""An event loop on a thread of its own: connections outlive the caller's loops and serve all threads."""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar


class Closing(Protocol):
    """What has to be closed; a second time does nothing."""

    async def close(self) -> None: ...


T = TypeVar("T")
C = TypeVar("C", bound=Closing)


class LoopThread:
    """Runs coroutines for any thread and any other event loop of one process, until :meth:`stop`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name="rewardhub-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``; an interrupt of the calling thread cancels it. ``RuntimeError`` once stopped."""
        future = self._submitted(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise
        finally:
            del future  # an error must not hold, through this frame, what the caller held

    def run_unless_stopped(self, work: Coroutine[Any, Any, object]) -> None:
        """For cleaning up, which a stopped loop has done already."""
        with contextlib.suppress(RuntimeError):
            self.run(work)

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, for a caller on another loop; its cancellation cancels ``work``."""
        return await asyncio.wrap_future(self._submitted(work))

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
        except RuntimeError:
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

    def stop(self) -> None:
        """Cancels what still runs; its callers get ``CancelledError``."""
        self._stopping = True
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def _submitted(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        try:
            if self._stopping:
                raise RuntimeError("this client is closed")
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise

    def _submit_unless_stopped(self, work: Coroutine[Any, Any, object]) -> None:
        with contextlib.suppress(RuntimeError):
            self._submitted(work)

    def _main(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(asyncio.sleep(0))  # what was submitted a moment ago becomes a task
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        if pending:
            self._loop.run_until_complete(asyncio.wait(pending))
        self._loop.close()
