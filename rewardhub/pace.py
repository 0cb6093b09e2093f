"""What takes long does not hold the event loop up: loops let others have a turn, other work is done on a thread."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
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


async def apart(large: bool, work: Callable[[], T]) -> T:
    """What ``work`` returns or raises: on a thread where it is ``large``."""
    return await asyncio.to_thread(work) if large else work()
