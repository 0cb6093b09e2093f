"""Uvicorn's HTTP protocol with a time limit on request heads, so that idle callers cannot hold all connections."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 20.0


class HeadLimited(HttpToolsProtocol):
    """Closes a connection whose next request head does not come whole within :data:`HEAD_S` seconds.

    Between two requests uvicorn's own keep-alive limit holds.
    """

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._start_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def _start_head(self) -> None:
        self._end_head()
        self._head_timer = asyncio.get_running_loop().call_later(HEAD_S, self.transport.close)

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
