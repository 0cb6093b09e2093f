"""What is read and written beside the event loop, so that one caller's large request does not hold the others up."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LARGE_BYTES, LARGE_ROWS = 2**17, 1_024


async def apart(large: bool, work: Callable[[], T]) -> T:
    """What ``work`` returns or raises: on a thread where it is ``large``."""
    return await asyncio.to_thread(work) if large else work()
