"""Joins the small requests of one turn of the event loop into one large one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Send = Callable[[Sequence[Any]], Awaitable[list[Any] | None]]
MAX_ITEMS = 4_096


class Coalescer:
    """Calls ``send`` with the items of everyone who asked since the last turn; None means no answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: list[tuple[Sequence[Any], asyncio.Future[list[Any] | None]]] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def __call__(self, items: Sequence[Any]) -> list[Any] | None:
        """The answers to ``items``, in their order."""
        if not items:
            return []
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any] | None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((items, future))
        return await future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        batch: list[tuple[Sequence[Any], asyncio.Future[list[Any] | None]]] = []
        size = 0
        for entry in waiting:
            if batch and size + len(entry[0]) > MAX_ITEMS:
                self._start(batch)
                batch, size = [], 0
            batch.append(entry)
            size += len(entry[0])
        self._start(batch)

    def _start(self, batch: list[tuple[Sequence[Any], asyncio.Future[list[Any] | None]]]) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(batch))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _answer(self, batch: list[tuple[Sequence[Any], asyncio.Future[list[Any] | None]]]) -> None:
        answers: list[Any] | None = None
        try:
            answers = await self._send([item for items, _ in batch for item in items])
        finally:
            start = 0
            for items, future in batch:
                if not future.done():
                    future.set_result(None if answers is None else answers[start : start + len(items)])
                start += len(items)
