"""Where requests end (RFC 9112): what a proxy could read otherwise is refused, and every answer is in its turn."""

import asyncio
import json
import re

import pytest

from rewardhub.server import http_protocol
from rewardhub.server.settings import Limits, ServerSettings

BODY = json.dumps({"recipe": "digest", "groups": [{"id": "g", "responses": ["a"]}]}).encode()
SIZE = len(BODY)
SLOW = BODY.replace(b"digest", b"slow")
LENGTH = f"Content-Length: {SIZE}"
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE, BODY)
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def head(*lines, target="/v1/score", version="1.1"):
    return "\r\n".join([f"POST {target} HTTP/{version}", "Host: localhost", *lines, "", ""]).encode("latin-1")


def score(body=BODY):
    return head(f"Content-Length: {len(body)}") + body


async def talk(running, *pieces, wait_s=0.05):
    """The codes that come back until the connection is closed, and all that does; waits for the last of few seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(wait_s)
        async with asyncio.timeout(5):
            answer = await reader.read()
    finally:
        writer.close()
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+)", answer)], answer


UNREADABLE = {
    "two lengths": head(LENGTH, "Content-Length: 3") + BODY,
    "one length twice": head(LENGTH, LENGTH) + BODY,
    "a list of lengths": head(f"{LENGTH}, {SIZE}") + BODY,
    "a negative length": head("Content-Length: -1") + BODY,
    "a length with a sign": head(f"Content-Length: +{SIZE}") + BODY,
    "a length in hex": head(f"Content-Length: {SIZE:#x}") + BODY,
    "a length with an underscore": head("Content-Length: 6_4") + BODY,
    "an empty length": head("Content-Length:") + BODY,
    "a length beyond 64 bits": head(f"Content-Length: {2**70}") + BODY,
    "length and chunks": head(LENGTH, CHUNKED) + CHUNKS,
    "chunks and length": head(CHUNKED, LENGTH) + CHUNKS,
    "chunks twice": head(CHUNKED, CHUNKED) + CHUNKS,
    "xchunked": head("Transfer-Encoding: xchunked") + CHUNKS,
    "chunks that are not last": head("Transfer-Encoding: chunked, gzip") + CHUNKS,
    "an empty coding beside a length": head("Transfer-Encoding:", LENGTH) + BODY,
    "a coding behind a control character": head("Transfer-Encoding: \x0bchunked") + CHUNKS,
    "a space before the colon": head(f"Content-Length : {SIZE}") + BODY,
    "a folded line": head(LENGTH, "X-A: b", " c") + BODY,
    "a folded coding": head("Transfer-Encoding:", " chunked") + CHUNKS,
    "a bare LF": head("X-A: b\nX-B: c", LENGTH) + BODY,
    "a bare LF at the end": head(LENGTH)[:-2] + b"\n" + BODY,
    "a bare CR": head("X-A: b\rTransfer-Encoding: chunked", LENGTH) + BODY,
    "a NUL": head("X-A: b\0", LENGTH) + BODY,
    "a line without a colon": head("garbage", LENGTH) + BODY,
    "a chunk of a negative size": head(CHUNKED) + b"-" + CHUNKS,
    "a chunk with a sign": head(CHUNKED) + b"+" + CHUNKS,
    "a chunk with 0x": head(CHUNKED) + b"0x" + CHUNKS,
    "a chunk beyond 64 bits": head(CHUNKED) + b"f" * 17 + b"\r\n" + CHUNKS,
    "a chunk that is shorter than its bytes": head(CHUNKED) + CHUNKS.replace(b"%x" % SIZE, b"%x" % (SIZE - 1), 1),
    "a chunk's size that ends in LF": head(CHUNKED) + CHUNKS.replace(b"\r\n", b"\n", 1),
    "an extension that ends in LF": head(CHUNKED) + CHUNKS.replace(b"\r\n", b";\nxx\r\n", 1),
    "another kind of URL": head(LENGTH, target="ftp://localhost/v1/score") + BODY,
    "a method that is none": HEALTH.replace(b"GET", b"get"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("shape", UNREADABLE)
async def test_what_could_be_read_in_two_ways_is_refused(service, shape):
    """With 400 in the form of all errors; nothing of it is scored, nor what follows it on the connection."""
    async with service() as running:
        codes, answer = await talk(running, UNREADABLE[shape] + HEALTH)
        assert (codes, running.hub.calls) == ([400], [])
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_input"


@pytest.mark.parametrize(
    ("code", "sent"),
    [
        (501, head("Transfer-Encoding: gzip, chunked") + CHUNKS),
        (501, head("Transfer-Encoding: gzip", CHUNKED) + CHUNKS),
        (501, head("Transfer-Encoding: identity, chunked") + CHUNKS),
        (501, head("Transfer-Encoding: , chunked") + CHUNKS),
        (400, head(CHUNKED, version="1.0") + CHUNKS),
        (400, head("Connection: keep-alive", CHUNKED, version="1.0") + CHUNKS),
        (505, HEALTH.replace(b"1.1", b"2.0")),
        (505, b"GET /healthz\r\n\r\n"),
    ],
)
async def test_codings_and_versions_that_the_hub_does_not_speak(service, code, sent):
    """RFC 9112 6.1 and 2.3: a coding is not left out in silence, and the connection ends."""
    async with service() as running:
        codes, _ = await talk(running, sent + HEALTH)
        assert (codes, running.hub.calls) == ([code], [])


@pytest.mark.parametrize(
    "sent",
    [
        head(CHUNKED) + CHUNKS,
        head("tRANSFER-eNCODING:\tCHUNKED ") + CHUNKS,
        head(CHUNKED) + CHUNKS.replace(b"\r\n", b';a="b"\r\n', 1),
        head(CHUNKED) + b"000" + CHUNKS,
        head(f"Content-Length:   0{SIZE}  ") + BODY,
        b"\r\n\r\n" + score(),
        head(*(f"X-{n}: v" for n in range(100)), LENGTH) + BODY,
        head("X-A: " + "v" * 2**16, LENGTH) + BODY,
    ],
)
async def test_what_can_be_read_in_one_way_only_is_read(service, sent):
    """And the next request of the connection after it."""
    async with service() as running:
        codes, _ = await talk(running, sent + HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (codes, len(running.hub.calls)) == ([200, 200], 1)


@pytest.mark.parametrize(
    "garbage", [b"garbage\r\n\r\n", b"G" * 200_000, b"GET / HTTP/1.1\r\nX: " + b"v" * 200_000 + b"\r\n\r\n"]
)
async def test_what_came_before_garbage_is_answered(service, garbage):
    """Law 2: a request that is carried out has its own answer, not that of what follows it; then the connection ends."""
    async with service() as running:
        for pieces in ([score(SLOW) + score() + garbage], [score(SLOW) + score(), garbage]):
            codes, answer = await talk(running, *pieces)
            assert (codes, answer.count(b"connection: close")) == ([200, 200], 1)
        assert len(running.hub.calls) == 4


async def test_what_came_before_a_broken_body_is_answered(service):
    """The request whose body it is waits for its turn, has no answer, and is not carried out."""
    async with service() as running:
        codes, _ = await talk(running, score(SLOW) + head(CHUNKED) + b"zz\r\n" + HEALTH)
        assert (codes, len(running.hub.calls)) == ([200], 1)
        codes, _ = await talk(running, score(SLOW) + score() + head(CHUNKED) + b"zz\r\n" + HEALTH)
        assert (codes, len(running.hub.calls)) == ([200, 200], 3)


async def test_a_head_over_its_limit_is_not_carried_out(service):
    """Even where the whole request came in the packet that was too much."""
    async with service() as running:
        codes, answer = await talk(running, head("X-A: " + "v" * 200_000, LENGTH) + BODY + HEALTH)
        assert (codes, running.hub.calls) == ([431], [])
    assert b"has over 131072 bytes" in answer


async def test_a_head_behind_slow_work_has_its_time(service, monkeypatch):
    """A caller that sends requests ahead is not blamed for the time that the hub takes."""
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.2)
    last = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with service() as running:
        assert (await talk(running, score(SLOW) + score() + last[:20], last[20:], wait_s=0.4))[0] == [200, 200, 200]
        assert (await talk(running, score(SLOW) + score() + last[:20]))[0] == [200, 200]


@pytest.mark.parametrize(
    ("target", "host", "code"),
    [
        ("http://localhost/v1/score", "Host: elsewhere", 200),
        ("HTTPS://127.0.0.1:8080/v1/score?a=b", "Host: elsewhere", 200),
        ("http://elsewhere/v1/score", "Host: localhost", 403),
        ("http://user@localhost/v1/score", "Host: localhost", 400),
        ("http://localhost/v1/score", "X-Host: localhost", 400),
    ],
)
async def test_the_host_of_a_whole_url_counts(service, target, host, code):
    """RFC 9112 3.2.2: whatever the Host header says, of which there is one all the same."""
    sent = head(LENGTH, "Connection: close", target=target).replace(b"Host: localhost", host.encode()) + BODY
    async with service() as running:
        assert (await talk(running, sent))[0] == [code]


async def test_an_old_client_is_sent_no_interim_answer(service):
    """RFC 9110 10.1.1: it would take 100 for the answer."""
    async with service() as running:
        assert (await talk(running, head("Expect: 100-continue", LENGTH, version="1.0") + BODY))[0] == [200]


@pytest.mark.parametrize("encodings", [["gzip"], ["identity", "gzip"], ["x-unknown"]])
async def test_an_encoded_body_is_not_read(service, encodings):
    """RFC 9110 15.5.16: 415 says what would be read; nothing is decompressed, however it is spelt."""
    lines = [f"Content-Encoding: {each}" for each in encodings]
    async with service() as running:
        codes, answer = await talk(running, head(*lines, LENGTH, "Connection: close") + BODY)
        assert (codes, running.hub.calls) == ([415], [])
    assert b"accept-encoding: identity" in answer


async def test_a_body_of_the_limit_is_read_and_a_byte_more_is_not(service):
    """Declared or in chunks."""
    whole = BODY + b" " * (2**17 - SIZE)
    async with service(ServerSettings(limits=Limits(body_bytes=2**17))) as running:
        for body, code in ((whole, 200), (whole + b" ", 413)):
            declared = head(f"Content-Length: {len(body)}", "Connection: close") + body
            chunks = head(CHUNKED, "Connection: close") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            assert [(await talk(running, each))[0] for each in (declared, chunks)] == [[code], [code]]
