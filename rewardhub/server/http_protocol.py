"""Uvicorn's HTTP protocol with limits on the time and size of what is no body: the parser itself has none, and a caller
needs no key to send it. Upgrades are ignored, as RFC 9110 has it for a server that speaks no other protocol. A caller
that closes its own side once its request is sent, and waits, is answered.
"""

import asyncio
import math
import re
import socket
import sys
from collections.abc import Callable
from typing import Any

from httptools import HttpParserUpgrade, HttpRequestParser
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from rewardhub.errors import InvalidInput, RewardHubError
from rewardhub.server.body import FULL, GONE
from rewardhub.server.replies import encode, error_body

HEAD_S = 20.0
HEAD_BYTES = 2**17
UNREAD_S = 300.0
GONE_S = 0.1
"""How often a caller that closed its side is looked after: whether it is gone."""
_PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


def _answer(line: str, error: RewardHubError) -> bytes:
    body = encode(error_body(error))
    headers = ("content-type: application/json", f"content-length: {len(body)}", "connection: close")
    return "\r\n".join([f"HTTP/1.1 {line}", *headers, "", ""]).encode() + body


_UNREADABLE = _answer("400 Bad Request", InvalidInput("this is no request of HTTP/1.1 (RFC 9112)"))
_TOO_LARGE = _answer(
    "431 Request Header Fields Too Large",
    InvalidInput(f"a head, or what is between pieces of a body, has over {HEAD_BYTES} bytes"),
)


class HeadLimited(HttpToolsProtocol):
    """Closes a connection whose next request head does not come whole within :data:`HEAD_S` seconds, counted from
    the answer where that came before the end of the body.

    Between two requests uvicorn's own keep-alive limit holds. Closes one, too, whose head or trailers, or what
    stands between two pieces of a body, have more than :data:`HEAD_BYTES`, or which cannot be parsed, once what came
    before is answered; and one whose caller takes nothing of its answer for :data:`UNREAD_S` seconds.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _told = False
    _in_head = False
    _in_body = False
    _refused = False
    _running: RequestResponseCycle | None = None
    _lost = False
    _when_gone: Callable[[], object] | None = None
    _unread = b""

    def data_received(self, data: bytes) -> None:
        self._told, self._unread = False, data
        while (piece := self._unread) and not self._refused and not self.transport.is_closing():
            super().data_received(piece)
            if self._unread is piece:
                self._unread = b""
        if not self._told and not self._refused:
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
        if self._refused:
            raise ValueError  # ends the parser, which has more of the packet

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._told, self._head_bytes = True, 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)  # which resumes writing
        self._lost = True
        if self._when_gone is not None:
            self._when_gone()

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
        self._in_head, self._in_body = True, False
        if self.cycle is None or self.cycle.response_complete:  # while others wait for their turn, nothing is read
            self._start_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_head()
        self._in_head = False
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # RFC 9110 10.1.1: such a client knows no interim answer
        if not self.url.startswith((b"/", b"*")):
            self._take_host()
        super().on_headers_complete()
        self._in_body = True

    def _take_host(self) -> None:
        """RFC 9112 3.2.2: the host of a whole URL counts, whatever the one Host header says."""
        found = _ABSOLUTE.match(self.url)
        if found is None:
            raise ValueError
        places = [index for index, (name, _) in enumerate(self.headers) if name == b"host"]
        if len(places) == 1:
            self.headers[places[0]] = (b"host", found[1])

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        # Of a body whose rest nobody reads, or a head that began meanwhile, uvicorn awaits the end without end.
        if self.cycle.response_complete and (self._in_head or self.cycle.more_body):
            self._start_head()
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        full = app is not self.app  # uvicorn's own answer, in none of our words
        if full:
            cycle.keep_alive = False
        extensions: dict[str, Any] = {GONE: self._tell_when_gone, FULL: full}
        cycle.scope["extensions"] = extensions
        super()._start_asgi_task(
            cycle, _without_chunks(cycle, self.app) if cycle.scope["http_version"] == "1.0" else self.app
        )

    def _tell_when_gone(self, leave: Callable[[], object] | None) -> bool:
        """Has ``leave`` called when the caller of the running request goes away; False where it is gone already."""
        self._when_gone = leave
        if leave is not None:
            self.flow.resume_reading()  # else its end would not be seen
        return not self._lost

    def send_400_response(self, msg: str) -> None:
        self._refuse(_UNREADABLE)

    def _refuse(self, answer: bytes) -> None:
        """Reads no more. The answer is sent where no request before waits for its own, which it would be taken for."""
        if self._refused:
            return
        self._refused = True
        self._end_head()
        last: RequestResponseCycle | None = self.cycle
        if self._in_body and self.pipeline:
            self.pipeline.popleft()
            last = self.pipeline[0][0] if self.pipeline else self._running
        broken = self._in_body and last is self.cycle
        if last is not None and not broken and not last.response_complete:
            last.keep_alive = False
            return
        if not (broken and self.cycle.response_started):
            self.transport.write(answer)
        self.transport.close()

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES:
            self._refuse(_TOO_LARGE)

    def _start_head(self) -> None:
        self._end_head()
        self._head_timer = asyncio.get_running_loop().call_later(HEAD_S, self.transport.close)

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _without_chunks(cycle: RequestResponseCycle, app: Any) -> Any:
    """To HTTP/1.0, which knows no chunks, an answer of unknown length ends with the connection."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        unknown = False

        async def framed(message: Message) -> None:
            nonlocal unknown
            if message["type"] == "http.response.start":
                unknown = all(name.lower() != b"content-length" for name, _ in message["headers"])
                cycle.chunked_encoding = False if unknown else None
            elif unknown:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, framed)

    return answer
