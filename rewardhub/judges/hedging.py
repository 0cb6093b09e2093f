"""A second call for a slow one: whichever answers first is taken."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")
Work = Coroutine[Any, Any, Result]
OVERTAKEN = "overtaken"
"""What a call is cancelled with whose second was faster."""


async def hedged(call: Work[Result], another: Callable[[], Work[Result] | None], after_s: float) -> Result:
    """The result of ``call``, or of the call that ``another`` makes where ``call`` takes over ``after_s`` seconds.

    The first success is taken and the other call cancelled; only where all fail the failure of ``call`` is
    raised (hedged requests, Dean and Barroso 2013, "The tail at scale"). ``another`` may make none.
    """
    tasks = [asyncio.create_task(call)]
    try:
        await asyncio.wait(tasks, timeout=after_s)
        if not tasks[0].done() and (second := another()) is not None:
            tasks.append(asyncio.create_task(second))
        pending = set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            won = next((task for task in done if task.exception() is None), None)
            if won:
                if won is not tasks[0]:
                    tasks[0].cancel(OVERTAKEN)
                return won.result()
        return tasks[0].result()
    finally:
        for task in tasks:
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
