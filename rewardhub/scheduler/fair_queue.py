"""Weighted fair queueing: who waits for a lane is served in proportion to weight, whatever others send.

Start-time fair queueing (Goyal, Vin, Chen 1996): an item's start tag is the later of the queue's virtual
time and the finish tag of its flow's last item; its finish tag adds cost / weight; the least start tag is
served next. A flow is a priority class of one tenant. A lone item of a quiet flow is served at once
while a flood waits, and a flood is never starved.
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
WEIGHTS = {"online": 16.0, "bulk": 1.0}
SWEEP = 1_024


class FairQueue(Generic[T]):
    """Items by flow; ``cost`` is in the lane's own unit, seconds or tokens.

    Items that are ``gone``, which nobody waits for any more, are swept out before they outnumber the others, so that
    callers who give up while a lane is held up do not fill the memory.
    """

    def __init__(self, gone: Callable[[T], bool] = lambda _: False) -> None:
        self._gone = gone
        self._sweep_at = SWEEP
        self._heap: list[tuple[float, int, int, T]] = []
        self._finish: dict[tuple[str, str], float] = {}
        self._now = 0.0
        self._order = itertools.count()
        self._arrived = asyncio.Event()

    def put(self, item: T, *, priority: str, tenant: str, cost: float) -> None:
        if len(self._heap) >= self._sweep_at:
            self._sweep()
        flow = (priority, tenant)
        start = max(self._now, self._finish.get(flow, 0.0))
        self._finish[flow] = start + cost / WEIGHTS[priority]
        self._push(start, item)

    def put_back(self, item: T) -> None:
        """Serves an item again before all others; it has been paid for."""
        self._push(self._now, item, first=True)

    def pop(self) -> T | None:
        """The next item; None when nothing waits."""
        if not self._heap:
            return None
        start, _, _, item = heapq.heappop(self._heap)
        self._now = max(self._now, start)
        if not self._heap:
            # An idle queue owes nobody anything.
            self._finish.clear()
            self._now = 0.0
        return item

    async def get(self) -> T:
        """Waits for the next item."""
        while True:
            if self._heap:
                item = self.pop()
                assert item is not None
                return item
            self._arrived.clear()
            await self._arrived.wait()

    async def wait(self) -> None:
        """Waits until something is queued."""
        while not self._heap:
            self._arrived.clear()
            await self._arrived.wait()

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[T]:
        return (entry[3] for entry in self._heap)

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if not self._gone(entry[3])]
        heapq.heapify(self._heap)
        self._sweep_at = 2 * len(self._heap) + SWEEP

    def _push(self, start: float, item: T, *, first: bool = False) -> None:
        order = next(self._order)
        heapq.heappush(self._heap, (start, -1 if first else order, order, item))
        self._arrived.set()
