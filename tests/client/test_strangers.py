"""Proxies before a hub, and servers that are none, answer with pages of their own: typed errors, alike over both doors."""

import socket
import struct
import threading
import time
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rewardhub.client import Client
from rewardhub.client.refusal import ConnectionLost
from rewardhub.errors import Forbidden, HubUnreachable, InternalError, InvalidInput, TooLarge, Unauthenticated
from rewardhub.types import Call, Group, Response

CALL = Call(recipe="math")
GROUP = Group("a", "p", (Response("r"),))
PAGE = b"<html>Bad Gateway</html>"
DATA, HEADERS, RST_STREAM, SETTINGS, END_STREAM, END_HEADERS = 0, 1, 3, 4, 1, 4
STATUSES = [
    (301, InvalidInput),
    (401, Unauthenticated),
    (403, Forbidden),
    (404, InvalidInput),
    (408, HubUnreachable),
    (413, TooLarge),
    (429, HubUnreachable),
    (500, ConnectionLost),
    (502, ConnectionLost),
    (503, HubUnreachable),
    (504, ConnectionLost),
]


@contextmanager
def answering(status: int, body: bytes, **headers: str):
    """A web server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def page(status: int, stream: int) -> bytes:
    """The frames of a page."""
    literal = b"".join(b"\0%c%s%c%s" % (len(n), n, len(v), v) for n, v in [(b"content-type", b"text/html")])
    head = b"\x08\x03%d" % status + literal
    return frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, END_STREAM, stream, PAGE)


def reset(code: int, stream: int) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack("!I", code))


@contextmanager
def speaking_http2(answer):
    """A server of HTTP/2 that sends the frames ``answer(stream)`` for each call."""

    def serve(peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as reader:
            peer.sendall(frame(SETTINGS, 0, 0, b""))
            reader.read(24)
            while len(head := reader.read(9)) == 9:
                size, kind = int.from_bytes(head[:3]), head[3]
                reader.read(size)
                if kind == SETTINGS and not head[4]:
                    peer.sendall(frame(SETTINGS, 1, 0, b""))
                elif kind == HEADERS:
                    peer.sendall(answer(int.from_bytes(head[5:])))

    def accept() -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(peer,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield f"grpc://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def refused(address: str, ask) -> Exception:
    with Client(address, retries=0) as client, pytest.raises(Exception) as caught:  # noqa: PT011
        ask(client)
    return caught.value


ASKED = [
    pytest.param(lambda c: c.score([GROUP], CALL), id="score"),
    pytest.param(lambda c: list(c.stream([GROUP], CALL)), id="stream"),
]


@pytest.mark.parametrize("ask", ASKED)
@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_a_page_has_the_same_class_over_both_doors(status, kind, ask):
    """The class says whether to try again, and whether the hub may have read the request; the message says where."""
    with answering(status, PAGE, server="nginx") as http, speaking_http2(lambda n: page(status, n)) as grpc:
        for address in (http, grpc):
            error = refused(address, ask)
            assert type(error) is kind
            assert address in error.message
            assert "hub" in error.message


@pytest.mark.parametrize("code", [1, 2, 7, 8], ids=["protocol error", "internal error", "refused", "cancel"])
def test_a_stream_that_a_proxy_resets_is_a_lost_connection(code):
    """Proxies end calls that idle, or whose hub went away, with any of these; each may be tried again."""
    with speaking_http2(lambda stream: reset(code, stream)) as address:
        for ask in (lambda c: c.score([GROUP], CALL), lambda c: list(c.stream([GROUP], CALL))):
            assert type(refused(address, ask)) is ConnectionLost


def test_a_page_before_the_body_has_come():
    """nginx resets the stream behind its page, and gRPC may lose the page: either way it may be tried again."""
    with speaking_http2(lambda stream: page(503, stream) + reset(0, stream)) as address:
        for _ in range(10):
            assert isinstance(refused(address, lambda c: list(c.stream([GROUP], CALL))), HubUnreachable)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (
            404,
            b'{"error": {"code": "not_found", "message": "no route", "field": "", "retryable": false}}',
            InvalidInput,
        ),
        (500, b'{"error": {"code": "new_code", "message": "m", "field": "", "retryable": false}}', InternalError),
        (503, b"Service Unavailable", HubUnreachable),
        (200, b"[]", InternalError),
        (200, b"{", InternalError),
        (302, b"", InvalidInput),
    ],
)
def test_replies_of_strangers_have_a_class(status, body, kind):
    """Never a raw parse error."""
    with answering(status, body) as address:
        assert type(refused(address, lambda c: c.score([GROUP], CALL))) is kind


@pytest.mark.parametrize("ask", ASKED)
def test_a_page_in_place_of_an_answer(ask):
    """A sign-in page that comes with 200 is no answer of a hub, and says so."""
    with answering(200, PAGE, content_type="text/html; charset=utf-8") as address:
        error = refused(address, ask)
    assert type(error) is InvalidInput
    assert "HTML" in error.message


def test_where_a_redirect_leads_is_told():
    """The client does not follow it: a key is for the hub that it was given for."""
    with answering(308, b"", location="https://hub.example/v1/score") as address:
        assert "https://hub.example/v1/score" in refused(address, lambda c: c.score([GROUP], CALL)).message


def asked_to_wait(header):
    with answering(503, PAGE, retry_after=header) as address:
        return refused(address, lambda c: c.score([GROUP], CALL)).retry_after_s


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("2.5", 2.5), (formatdate(0, usegmt=True), 0), ("soon", 0), ("-5", 0), ("nan", 0), ("\xb2", 0)],
)
def test_retry_after_in_seconds_or_as_a_date(header, seconds):
    """RFC 9110 10.2.3 knows both; what is neither, or is past, asks for no wait."""
    assert asked_to_wait(header) == seconds


def test_retry_after_a_date_to_come():
    """The time until then."""
    assert 3_000 <= asked_to_wait(formatdate(time.time() + 3_600, usegmt=True)) <= 3_600


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_name_that_nobody_knows_is_no_hub(scheme):
    """Nothing was sent, so that members of open groups may be sent again."""
    error = refused(f"{scheme}://no.such.host.invalid:80", lambda c: c.score([GROUP], CALL))
    assert type(error) is HubUnreachable
    assert "no.such.host.invalid" in error.message


def test_a_password_of_the_url_is_in_no_message():
    """HTTP knows a user before a proxy; what is told and logged does not."""
    with answering(401, PAGE) as address:
        error = refused(address.replace("//", "//me:secret@"), lambda c: c.score([GROUP], CALL))
    assert "secret" not in str(error)


def test_a_server_that_is_no_hub_is_named(doors):
    """A wrong path prefix is a caller's error that asks whether this is a hub."""
    with Client(doors.url("http") + "/nowhere") as client, pytest.raises(InvalidInput, match="address of a hub"):
        client.score([GROUP], CALL)
