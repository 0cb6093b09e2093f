"""The REST door's HTTP, as clients and proxies speak it (RFC 9110 and 9112)."""

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import socket

import pytest

from rewardhub import logs
from rewardhub.server import http_protocol
from rewardhub.server.settings import ApiKey, Limits, ServerSettings

KEY = "sesame"
SETTINGS = ServerSettings(
    keys=(ApiKey(key_sha256=hashlib.sha256(KEY.encode()).hexdigest(), tenant="a"),), limits=Limits(body_bytes=2**17)
)
BODY = json.dumps({"recipe": "digest", "groups": [{"id": "g", "responses": ["a"]}]}).encode()
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"


def request(path="/v1/score", *headers, method="POST", body=BODY, key=KEY, version="1.1"):
    lines = [f"{method} {path} HTTP/{version}", "Host: h", *headers, *([f"x-api-key: {key}"] if key else [])]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


async def talk(running, *pieces, until=None):
    """What comes back until the connection is closed, or until it holds ``until``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            return await (reader.read() if until is None else reader.readuntil(until))
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("code", "head"),
    [
        (401, request("/v1/score", "Expect: 100-continue", key=None)),
        (404, request("/v1/nope", "Expect: 100-Continue")),
        (405, request("/v1/score", "Expect: 100-continue", method="DELETE")),
        (413, request("/v1/score", "Expect: 100-continue", "Content-Length: 99999999", body=None)),
        (415, request("/v1/score", "Expect: 100-continue", "Content-Encoding: gzip")),
        (200, request("/healthz", "Expect: 100-continue", method="GET")),
    ],
)
async def test_an_answer_before_the_awaited_body_ends_the_connection(service, code, head):
    """RFC 9110 10.1.1: whether the body follows or the next request is not known, so neither is read."""
    async with service(SETTINGS) as running:
        answer = await talk(running, head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", HEALTH)
    assert answer.startswith(b"HTTP/1.1 %d " % code)
    assert answer.count(b"HTTP/1.1 ") == answer.count(b"connection: close") == 1


async def test_a_body_that_was_asked_for_is_taken_to_its_end(service):
    """A caller that was told to go on, and goes on for too long, still gets to read why it is refused."""
    head = request("/v1/score", "Expect: 100-continue", "Transfer-Encoding: chunked", body=None)
    async with service(SETTINGS) as running:
        answer = await talk(running, head, *[b"10000\r\n%s\r\n" % (b" " * 2**16)] * 6, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 ")


async def test_what_follows_an_early_answer_is_not_waited_for_without_end(service, monkeypatch):
    """A caller without a key holds no connection by a body that trickles, or ends, after its refusal."""
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.4)
    head = request("/v1/score", "Content-Length: 3", body=None, key=None)
    async with service(SETTINGS) as running:
        for pieces in ([head, b"{"], [head, b"{", b"}", b" "]):
            assert (await talk(running, *pieces)).startswith(b"HTTP/1.1 401 ")
        again = await talk(running, head, b"{} ", HEALTH, until=b"}")
        assert b"401" in again


async def test_an_answer_that_nobody_reads_is_not_kept(service, monkeypatch):
    """A caller that takes nothing of its answer is left; one that is slow is waited for."""
    monkeypatch.setattr(http_protocol, "UNREAD_S", 0.3)
    groups = [{"id": str(n), "responses": ["a"] * 1_000} for n in range(20)]
    asked = request("/v1/score", "Connection: close", body=json.dumps({"recipe": "digest", "groups": groups}).encode())
    async with service(SETTINGS) as running:
        port = int(running.url.rsplit(":", 1)[1])
        narrow = socket.create_connection(("127.0.0.1", port))
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        _, quiet = await asyncio.open_connection(sock=narrow, limit=2**12)
        slow, asking = await asyncio.open_connection("127.0.0.1", port, limit=2**14)
        for writer in (quiet, asking):
            writer.write(asked)
        taken = 0
        while piece := await slow.read(2**18):
            taken += len(piece)
            await asyncio.sleep(0.001)
        async with asyncio.timeout(5):
            while running.doors._http.server_state.connections:
                await asyncio.sleep(0.05)
        assert taken > 5_000_000
        for writer in (quiet, asking):
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.mark.parametrize("encoding", ["identity", "Identity", "IDENTITY", ""])
async def test_no_encoding_by_any_spelling_of_its_name(service, encoding):
    """RFC 9110 8.4.1: content codings are compared without case; ``identity`` is none."""
    async with service(SETTINGS) as running, running.http() as http:
        headers = {"content-encoding": encoding, "x-api-key": KEY}
        assert (await http.post("/v1/score", content=BODY, headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/scorers", "/v1/ping"])
async def test_head_is_get_without_its_body(service, path):
    """RFC 9110 9.1: a server supports GET and HEAD; load balancers ask for health with either."""
    async with service() as running, running.http() as http:
        got, head = await http.get(path), await http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
        assert (await http.delete(path)).headers["allow"] == "GET, HEAD"


async def test_nobody_is_sent_to_where_the_host_header_says(service):
    """Another spelling of a path is answered with the right one, not with an address made of the caller's words."""
    async with service() as running, running.http(follow_redirects=False) as http:
        reply = await http.post("/v1/score/", content=BODY)
    assert reply.status_code == 404
    assert "'/v1/score'" in reply.json()["error"]["message"]


async def test_a_stream_for_a_client_that_knows_no_chunks(service):
    """RFC 9112 6.1: to HTTP/1.0 each line goes as it is ready, without a transfer coding; the end is the connection's."""
    groups = [{"id": name, "recipe": name, "responses": ["a"]} for name in ("digest", "hold")]
    body = json.dumps({"groups": groups}).encode()
    async with service(SETTINGS) as running:
        for asked in ((), ("Connection: keep-alive",)):
            running.hub.release.clear()
            reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
            writer.write(request("/v1/score/stream", *asked, body=body, version="1.0"))
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
                assert json.loads(await reader.readuntil(b"\n"))["id"] == "digest"
                running.hub.release.set()
                assert json.loads(await reader.read())["id"] == "hold"
            assert b"transfer-encoding" not in head and b"content-length" not in head
            assert head.count(b"connection: close") == 1
            writer.close()


async def test_an_answer_to_a_client_that_knows_no_chunks_states_its_length(service):
    """HTTP/1.0: the answer has its length, and the connection closes, whatever the client wishes."""
    async with service(SETTINGS) as running:
        for asked in ((), ("Connection: keep-alive",), ("Connection: close",)):
            head, _, body = (await talk(running, request("/v1/score", *asked, version="1.0"))).partition(b"\r\n\r\n")
            assert b"content-length: %d\r\n" % len(body) in head + b"\r\n" and b"connection: close" in head
            assert json.loads(body)["groups"][0]["id"] == "g"


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
@pytest.mark.parametrize("close", [False, True])
async def test_the_wish_for_another_protocol_is_ignored(service, protocol, close):
    """RFC 9110 7.8: the request is answered as it is, its body is no second one, whatever a proxy lets through."""
    wish = (f"Connection: {'close, ' if close else ''}Upgrade", f"Upgrade: {protocol}")
    hidden = request("/v1/scorers", method="GET", body=None)
    async with service(SETTINGS) as running:
        for body, code in ((BODY, 200), (hidden, 400)):
            head, _, rest = request("/v1/score", *wish, body=body).partition(b"\r\n\r\n")
            last = request("/healthz", "Connection: close", method="GET", body=None)
            answer = await talk(running, head + b"\r\n\r\n", rest, last)
            codes = re.findall(rb"HTTP/1.1 (\d+)", answer)
            assert codes == [b"%d" % code, b"200"][: 1 if close else 2]
            assert len(running.hub.calls) == 1


async def test_many_wishes_at_once_are_no_fault(service, caplog):
    """A flood of them in one packet is answered one by one."""
    flood = request("/healthz", "Connection: Upgrade", "Upgrade: h2c", method="GET", body=None) * 1_000
    async with service() as running:
        answer = await talk(running, flood, request("/healthz", "Connection: close", method="GET", body=None))
    assert answer.count(b"HTTP/1.1 200 ") == 1_001
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_what_the_server_itself_logs_is_a_line_of_json(service, capfd, monkeypatch):
    """Requests that cannot be parsed are told in the form of all other logs, and once, however many come."""
    found = {"handlers": [], "propagate": True, "level": logging.NOTSET, "disabled": False}
    for name in ("rewardhub", "asyncio", "grpc", "opentelemetry", "uvicorn", "uvicorn.error"):
        for attribute, value in found.items():
            monkeypatch.setattr(logging.getLogger(name), attribute, value)
    logs.configure()
    async with service() as running:
        for _ in range(3):
            assert (await talk(running, b"\x00\x1b[31m\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
            logs.logger.warning("of our own")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert len([line for line in lines if line["logger"] == "uvicorn.error"]) == 1
    assert len([line for line in lines if line["message"] == "of our own"]) == 3


@pytest.mark.parametrize("path", ["/v1/score", "/healthz", "/v1/nope"])
@pytest.mark.parametrize("hosts", [[], ["Host: a", "Host: a"], ["Host: a b"], ["Host: a/b"], ["Host: a@b"]])
async def test_a_request_names_one_host(service, path, hosts):
    """RFC 9112 3.2: none, two or one that is no host is refused, and the connection goes on."""
    asked = request(path, *hosts).replace(b"Host: h\r\n", b"", 1)
    async with service(SETTINGS) as running:
        answer = await talk(running, asked, HEALTH, until=b'"status"')
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"field":"host"' in answer.replace(b" ", b"")


@pytest.mark.parametrize("host", ["", "h", "h:", "127.0.0.1:80", "[::1]", "[::1]:8080", "a_b.example-1.com", "%C3%A9"])
async def test_hosts_of_every_form(service, host):
    """What RFC 3986 allows of a host and a port; an old client without one is served too."""
    async with service(SETTINGS) as running:
        asked = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        assert (await talk(running, asked)).startswith(b"HTTP/1.1 200 ")
        assert (await talk(running, b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert (await talk(running, b"GET /healthz HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n")).startswith(
            b"HTTP/1.1 400 "
        )


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score/stream"])
async def test_a_caller_that_closes_its_side_is_answered(service, path):
    """RFC 9112 9.6: it sent its request and waits for the answer, after which the connection ends."""
    body = json.dumps({"recipe": "slow", "groups": [{"id": "g", "responses": ["a"]}]}).encode()
    async with service(SETTINGS) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
        writer.write(request(path, body=body))
        writer.write_eof()
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
    interim, _, final = answer.partition(b"\r\n\r\n")
    assert interim == b"HTTP/1.1 102 Processing" and final.startswith(b"HTTP/1.1 200 ")
    assert b'"ok"' in final and b"connection: close" in final


async def test_a_trailer_is_no_header(service):
    """RFC 9110 6.5.1: a key, or a second host, that comes behind the body is none, even in one packet with the head."""
    body = b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY)
    head = request("/v1/score", "Transfer-Encoding: chunked", "Connection: close", body=None, key=None)
    known = request("/v1/score", "Transfer-Encoding: chunked", "Connection: close", body=None)
    async with service(SETTINGS) as running:
        answer = await talk(running, head + body + f"x-api-key: {KEY}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert (await talk(running, known + body + b"Host: other\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
