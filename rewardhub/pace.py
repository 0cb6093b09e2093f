"""Long loops on the event loop: others have a turn every few milliseconds."""

import asyncio
import time

TURN_S = 0.005


class Pace:
    """For one loop; its steps cost a look at the clock each."""

    def __init__(self) -> None:
        self._until = time.monotonic() + TURN_S

    @property
    def due(self) -> bool:
        """Whether it is others' turn: time for :meth:`rest`."""
        return time.monotonic() >= self._until

    async def rest(self) -> None:
        """Lets others have their turn."""
        await asyncio.sleep(0)
        self._until = time.monotonic() + TURN_S
