"""Who may fetch now: slots and a queue for them, neither of which one tenant can fill.

A tenant may hold as many slots as are free: half of them while it is alone, so that whoever comes next finds some at
once, and fewer as there are more tenants (Choudhury and Hahne 1998, dynamic thresholds). The queue is shared alike.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rewardhub.errors import Unavailable

_Wait = asyncio.Future[None]


class Turns:
    """``slots`` at once, of which a lone tenant gets half, and ``queue`` places to wait for one, likewise."""

    def __init__(self, slots: int, queue: int) -> None:
        self._free, self._places = slots, queue
        self._held: Counter[str] = Counter()
        self._waits: dict[str, deque[_Wait]] = {}

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Holds a slot meanwhile; raises as :meth:`take`."""
        await self.take(tenant)
        try:
            yield
        finally:
            self.give_back(tenant)

    async def take(self, tenant: str) -> None:
        """Waits for a slot; raises ``Unavailable`` where the tenant has too many that wait."""
        if tenant in self._waits or not self._may(tenant):
            await self._wait(tenant)
        else:
            self._hold(tenant)

    def give_back(self, tenant: str) -> None:
        self._free += 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        self._grant()

    def _may(self, tenant: str) -> bool:
        return self._held[tenant] < self._free

    def _hold(self, tenant: str) -> None:
        self._free -= 1
        self._held[tenant] += 1

    async def _wait(self, tenant: str) -> None:
        waits = self._waits.get(tenant, deque())
        if len(waits) >= self._places:
            raise Unavailable("too many fetches at once", retry_after_s=1.0)
        self._waits[tenant] = waits
        wait: _Wait = asyncio.get_running_loop().create_future()
        waits.append(wait)
        self._places -= 1
        try:
            await wait
        except asyncio.CancelledError:
            if not wait.cancelled():
                self.give_back(tenant)
            elif wait in self._waits.get(tenant, ()):
                self._leave(tenant, wait)
            raise

    def _leave(self, tenant: str, wait: _Wait) -> None:
        waits = self._waits[tenant]
        waits.remove(wait)
        self._places += 1
        if not waits:
            del self._waits[tenant]

    def _grant(self) -> None:
        """Gives what is free to those who wait, to who holds least first."""
        while (tenant := min(self._waits, key=self._held.__getitem__, default=None)) is not None and self._may(tenant):
            wait = self._waits[tenant][0]
            self._leave(tenant, wait)
            if not wait.done():
                self._hold(tenant)
                wait.set_result(None)
