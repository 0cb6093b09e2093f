"""Weighted fair queueing: who waits for a lane is served in proportion to weight, whatever others send.

Start-time fair queueing (Goyal, Vin, Chen 1996): an item's start tag is the later of the queue's virtual
time and the finish tag of its flow's last item; its finish tag adds cost / weight; the least start tag is
served next. A flow is a priority class of one tenant. A lone item of a quiet flow is served at once
while a flood waits, and a flood is never starved. Tags are given as an item gets to the front of its flow, so
that one which is given up costs its flow nothing. What comes back, whole or in parts, has been paid for: it stands
in a flow of its own beside that which it came from, so that it passes its kind and nobody else's turn.
"""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
WEIGHTS = {"online": 16.0, "bulk": 1.0}
SWEEP = 1_024

Flow = tuple[str, str, bool]
"""Priority class and tenant, and whether it is of items that came back."""


class FairQueue(Generic[T]):
    """Items by flow; ``cost`` is in the lane's own unit, seconds or tokens.

    Items that are ``over`` will not be run by who takes them, and are not charged. Those that are ``gone``, which
    nobody waits for any more, are swept out before they outnumber the others, so that callers who give up while a lane
    is held up do not fill the memory.
    """

    def __init__(self, gone: Callable[[T], bool] = lambda _: False, over: Callable[[T], bool] | None = None) -> None:
        self._gone = gone
        self._over = over or gone
        self._sweep_at = SWEEP
        self._size = 0
        self._flows: dict[Flow, deque[tuple[T, float]]] = {}
        self._heap: list[tuple[float, int, Flow]] = []  # start tags of the items at the front of each flow
        self._finish: dict[Flow, float] = {}
        self._now = 0.0
        self._order = itertools.count()
        self._arrived = asyncio.Event()

    def put(self, item: T, *, priority: str, tenant: str, cost: float) -> None:
        self._put((priority, tenant, False), item, cost)

    def put_back(self, item: T, *, priority: str, tenant: str, cost: float) -> None:
        """What was taken, or a part of it, is served again: before what its flow holds."""
        self._put((priority, tenant, True), item, cost)

    def _put(self, flow: Flow, item: T, cost: float) -> None:
        if self._size >= self._sweep_at:
            self._sweep()
        if flow not in self._flows:
            self._flows[flow] = deque()
            self._push(flow, max(self._now, self._finish.get(flow, 0.0)))
        self._flows[flow].append((item, cost))
        self._size += 1
        self._arrived.set()

    @property
    def first(self) -> T | None:
        """What :meth:`pop` takes next; None when nothing waits."""
        return self._flows[self._heap[0][2]][0][0] if self._size else None

    def pop(self) -> T | None:
        """The next item; None when nothing waits."""
        if not self._size:
            return None
        self._size -= 1
        item = self._taken()
        if not self._size:
            # An idle queue owes nobody anything.
            self._finish.clear()
            self._now = 0.0
        return item

    async def get(self) -> T:
        """Waits for the next item."""
        await self.wait()
        item = self.pop()
        assert item is not None
        return item

    async def wait(self) -> None:
        """Waits until something is queued."""
        while not self._size:
            self._arrived.clear()
            await self._arrived.wait()

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T]:
        for waiting in self._flows.values():
            yield from (item for item, _ in waiting)

    def _taken(self) -> T:
        """Takes the item of the least start tag."""
        start, _, flow = heapq.heappop(self._heap)
        self._now = max(self._now, start)
        waiting = self._flows[flow]
        item, cost = waiting.popleft()
        self._finish[flow] = start + (0.0 if self._over(item) else cost / WEIGHTS[flow[0]])
        if waiting:
            self._push(flow, self._finish[flow])
        else:
            del self._flows[flow]
        return item

    def _sweep(self) -> None:
        kept = {
            flow: deque(each for each in waiting if not self._gone(each[0])) for flow, waiting in self._flows.items()
        }
        self._flows = {flow: waiting for flow, waiting in kept.items() if waiting}
        self._heap = [entry for entry in self._heap if entry[2] in self._flows]
        heapq.heapify(self._heap)
        self._size = sum(map(len, self._flows.values()))
        self._sweep_at = 2 * self._size + SWEEP

    def _push(self, flow: Flow, start: float) -> None:
        heapq.heappush(self._heap, (start, next(self._order), flow))
