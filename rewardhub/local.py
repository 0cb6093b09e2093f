"""A hub in this process for blocking callers: the same two calls as the client's, no server."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from rewardhub.hub import Hub
from rewardhub.types import Call, Group, GroupScores

_END = object()


class LocalHub:
    """Runs a hub on an event loop of its own thread; implements ``Rewards``. Use it in a ``with``."""

    def __init__(self, make: Callable[[], Hub]) -> None:
        self._make = make
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rewardhub", daemon=True)
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
            self._await(self.hub.aclose())
        finally:
            self._stop()

    def score(self, groups: Sequence[Group], call: Call) -> list[GroupScores]:
        """Scores whole groups; the answers are in request order."""
        return self._await(self.hub.score(groups, call))  # type: ignore[no-any-return]

    def stream(self, groups: Iterable[Group], call: Call) -> Iterator[GroupScores]:
        """Scores groups as they come, read on a thread of their own; yields each as it is ready."""
        ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        asyncio.run_coroutine_threadsafe(self._pump(groups, call, ready), self._loop)
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item

    async def _pump(self, groups: Iterable[Group], call: Call, ready: "queue.SimpleQueue[Any]") -> None:
        try:
            async for scores in self.hub.stream(_from_thread(groups), call):
                ready.put(scores)
        except BaseException as error:
            ready.put(error)
        finally:
            ready.put(_END)

    async def _start(self) -> Hub:
        hub = self._make()
        await hub.start()
        return hub

    def _await(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _from_thread(groups: Iterable[Group]) -> AsyncIterator[Group]:
    """Reads a blocking iterable without blocking the loop."""
    iterator = iter(groups)
    while (group := await asyncio.to_thread(next, iterator, _END)) is not _END:
        yield group  # type: ignore[misc]
