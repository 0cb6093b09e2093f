"""Blocking gRPC calls, awaited. The blocking stack is the one that survives fork(), which trainers do."""

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

# A fork waits until no thread of ours is inside gRPC: gRPC gets ready for a fork only when nobody is.
_INSIDE = threading.Lock()
os.register_at_fork(before=_INSIDE.acquire, after_in_parent=_INSIDE.release, after_in_child=_INSIDE.release)


async def awaited(method: Any, request: Any, **options: Any) -> Any:
    """The reply of one call of ``method``; raises ``grpc.RpcError``. Cancelling cancels the call."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    with _INSIDE:
        call = method.future(request, **options)
    call.add_done_callback(lambda _: _tell(loop, done.set))
    try:
        await done.wait()
    except asyncio.CancelledError:
        with _INSIDE:
            call.cancel()
        raise
    return call.result()


class Bidi:
    """A bidirectional call: events are written from the loop, replies are read on a thread."""

    def __init__(self, method: Any, metadata: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._replies: asyncio.Queue[Any] = asyncio.Queue()
        with _INSIDE:
            self._call = method(iter(self._events.get, None), metadata=metadata)
        threading.Thread(target=self._read, name="rewardhub-client-stream", daemon=True).start()

    def write(self, event: Any) -> None:
        """Sends; after the end of the call it does nothing."""
        self._events.put(event)

    def done_writing(self) -> None:
        self._events.put(None)

    def cancel(self) -> None:
        with _INSIDE:
            self._call.cancel()
        self.done_writing()

    async def replies(self) -> AsyncIterator[Any]:
        """The replies to the end; raises ``grpc.RpcError``."""
        while (reply := await self._replies.get()) is not None:
            if isinstance(reply, grpc.RpcError):
                raise reply
            yield reply

    def _read(self) -> None:
        last: grpc.RpcError | None = None
        try:
            for reply in self._call:
                _tell(self._loop, self._replies.put_nowait, reply)
        except grpc.RpcError as error:
            last = error
        _tell(self._loop, self._replies.put_nowait, last)
        self.done_writing()  # ends the thread that waits for events


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the client was closed and its loop with it
        loop.call_soon_threadsafe(function, *arguments)
