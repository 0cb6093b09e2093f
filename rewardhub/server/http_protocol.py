"""Uvicorn's HTTP protocol with limits on the time and size of what is no body: the parser itself has none, and a caller
needs no key to send it. Upgrades are ignored, as RFC 9110 has it for a server that speaks no other protocol. A caller
that closes its own side once its request is sent, and waits, is answered.
"""

import asyncio
import math
import socket
import sys

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 20.0
HEAD_BYTES = 2**17
UNREAD_S = 300.0
GONE_S = 0.1
"""How often a caller that closed its side is looked after: whether it is gone."""
_PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class HeadLimited(HttpToolsProtocol):
    """Closes a connection whose next request head does not come whole within :data:`HEAD_S` seconds, counted from
    the answer where that came before the end of the body.

    Between two requests uvicorn's own keep-alive limit holds. Closes one, too, whose head or trailers, or what
    stands between two pieces of a body, have more than :data:`HEAD_BYTES`; and one whose caller takes nothing of
    its answer for :data:`UNREAD_S` seconds.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _told = False
    _in_body = False
    _unread = b""

    def data_received(self, data: bytes) -> None:
        self._told, self._unread = False, data
        while (piece := self._unread) and not self.transport.is_closing():
            super().data_received(piece)
            if self._unread is piece:
                self._unread = b""
        if not self._told:
            self._count(len(data))  # the parser keeps it, for a name, a value or a URL to come to its end

    def _should_upgrade(self) -> bool:
        """Keeps uvicorn from answering a head of which :meth:`handle_websocket_upgrade` makes another."""
        return bool(self.parser.get_method() != b"CONNECT")

    def handle_websocket_upgrade(self) -> None:
        """Reads the request again as one without the wish: the parser took its body for the other protocol's."""
        upgrade = sys.exc_info()[1]
        assert isinstance(upgrade, HttpParserUpgrade)
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        self._unread = b"\r\n".join([*lines, b"", self._unread[upgrade.args[0] :]])
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # a trailer is no header: who reads those has read them, or would find it among them
            super().on_header(name, value)
        self._told = True
        self._count(len(name) + len(value) + 4)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._told, self._head_bytes = True, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)  # which resumes writing

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the caller is to be answered all the same.

        One that only closed its side looks like one that is gone, whose work is given up, until it is sent something:
        an interim answer, to which the machine of one that is gone replies with a reset.
        """
        cycle = self.cycle
        if cycle is None or cycle.response_started or cycle.more_body or self.pipeline:
            return False
        if self.scheme == "https" or cycle.scope["http_version"] == "1.0":  # no half of TLS closes, 1.0 has no interim
            return False
        cycle.keep_alive = False
        self.transport.write(_PROCESSING)
        self._watch_half_closed()
        return True

    def _watch_half_closed(self) -> None:
        if self.transport.is_closing():
            return
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        else:
            asyncio.get_running_loop().call_later(GONE_S, self._watch_half_closed)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading(math.inf)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()

    def _watch_reading(self, before: float) -> None:
        size = self.transport.get_write_buffer_size()
        if size >= before:
            self.transport.abort()
        else:
            self._unread_timer = asyncio.get_running_loop().call_later(UNREAD_S, self._watch_reading, size)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._in_body = False
        self._start_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_head()
        self._in_body = True
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        if self.cycle.response_complete and self.cycle.more_body:
            self._start_head()  # nobody reads the rest, and uvicorn waits for it and for what follows without end
        super().on_response_complete()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            if self._head_timer is not None:  # later an answer may be under way
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _start_head(self) -> None:
        self._end_head()
        self._head_timer = asyncio.get_running_loop().call_later(HEAD_S, self.transport.close)

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
