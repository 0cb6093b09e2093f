"""A hub in this process for blocking callers: the same two calls as the client's, no server."""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from rewardhub.errors import Cancelled
from rewardhub.hub import IN_FLIGHT, Hub
from rewardhub.types import Call, Group, GroupScores

AHEAD = 16
"""Groups of a stream that are read before the loop takes them: as many as it scores in one turn."""
_END = object()


class LocalHub:
    """Runs a hub on an event loop of its own thread; implements ``Rewards``. Use it in a ``with``."""

    def __init__(self, make: Callable[[], Hub]) -> None:
        self._make = make
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rewardhub", daemon=True)
        self._running: set[asyncio.Task[None]] = set()
        self.hub: Hub

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.hub = self._await(self._start())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._await(self._aclose())
        finally:
            self._stop()

    def score(self, groups: Sequence[Group], call: Call) -> list[GroupScores]:
        """Scores whole groups; the answers are in request order. Raises ``Cancelled`` when the hub is closed."""
        return self._await(self._scored(groups, call))  # type: ignore[no-any-return]

    def stream(self, groups: Iterable[Group], call: Call) -> Iterator[GroupScores]:
        """Scores groups as they come, read on a thread of their own; yields each as it is ready, in any order.

        At most ``IN_FLIGHT`` groups are read that were not yielded yet. An error of ``groups`` is raised when all
        that came before it is yielded, ``Cancelled`` when the hub is closed. Closing the iterator ends reading
        and scoring.
        """
        feed = _Feed(groups, self._loop)
        ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        pumping = asyncio.run_coroutine_threadsafe(self._pump(feed, call, ready), self._loop)
        try:
            while (item := ready.get()) is not _END:
                if isinstance(item, BaseException):
                    raise item
                feed.room.release()
                yield item
        finally:
            feed.stop()
            if not pumping.done():
                pumping.cancel()

    async def _scored(self, groups: Sequence[Group], call: Call) -> list[GroupScores]:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await self.hub.score(groups, call)
        except asyncio.CancelledError:
            raise Cancelled("the hub was closed") from None
        finally:
            self._running.discard(task)

    async def _pump(self, feed: "_Feed", call: Call, ready: "queue.SimpleQueue[Any]") -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            async for scores in self.hub.stream(feed, call):
                ready.put(scores)
            ready.put(feed.error or _END)
        except asyncio.CancelledError:
            ready.put(Cancelled("the hub was closed"))
        except BaseException as error:
            ready.put(error)
        finally:
            feed.stop()
            self._running.discard(task)

    async def _start(self) -> Hub:
        hub = self._make()
        try:
            await hub.start()
        except BaseException:
            await hub.aclose()
            raise
        return hub

    async def _aclose(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.hub.aclose()

    def _await(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Feed:
    """Groups of a blocking iterable, read on a thread of its own; the loop takes all that were read at a time.

    Threads that hand each other the interpreter for every group cost as much as scoring cheap ones once the
    kernel spreads them over cores. So the thread reads on while the loop is busy, and waits until all was taken.
    """

    def __init__(self, groups: Iterable[Group], loop: asyncio.AbstractEventLoop) -> None:
        self.error: BaseException | None = None
        """What the iterable raised, once all that came before is taken."""
        self.room = threading.Semaphore(IN_FLIGHT - 1)
        """To be released for each group that is answered."""
        self._ahead = threading.Semaphore(AHEAD - 1)
        self._groups = groups
        self._loop = loop
        self._read: deque[Group | None] = deque()
        self._arrived = asyncio.Event()
        self._awaited = False
        self._stopped = False

    async def __aiter__(self) -> AsyncIterator[Group]:
        threading.Thread(target=self._run, name="rewardhub-feed", daemon=True).start()
        while True:
            for _ in range(taken := len(self._read)):
                group = self._read.popleft()
                if group is None:
                    return
                yield group
            if taken:
                self._ahead.release(taken)
            self._arrived.clear()
            self._awaited = True
            if not self._read:  # what comes from now on finds that it is awaited
                await self._arrived.wait()

    def stop(self) -> None:
        """Ends the thread: at once, or when the iterable gives it the next group."""
        self._stopped = True
        self.room.release()
        self._ahead.release()

    def _run(self) -> None:
        try:
            for group in self._groups:
                self._put(group)
                self._ahead.acquire()
                self.room.acquire()
                if self._stopped:
                    return
        except BaseException as error:
            self.error = error
        self._put(None)

    def _put(self, group: Group | None) -> None:
        self._read.append(group)
        if self._awaited and not self._stopped:
            self._awaited = False
            self._loop.call_soon_threadsafe(self._arrived.set)
