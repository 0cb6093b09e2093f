"""Loops that last as long as what they belong to: whatever one turn raises, there is a next one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

PAUSE_S = 0.5
"""From a turn that raised to the next one."""
_log = logging.getLogger("rewardhub")


async def lasting(what: str, turn: Callable[[], Awaitable[object]]) -> None:
    """Takes turn after turn until it is cancelled; what one raises, as a fault of ours, is logged."""
    while True:
        try:
            await turn()
        except Exception:
            _log.exception("%s begins anew after a fault", what)
            await asyncio.sleep(PAUSE_S)
