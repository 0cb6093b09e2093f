"""Media by address: off unless an operator lists hosts, and whatever host, name or redirect says, nothing inside is reached."""

import asyncio
import gzip
import io
import socket
import time
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import ConfigError, DeadlineExceeded, InvalidInput, TooLarge, Unavailable
from rewardhub.media import fetch
from rewardhub.media.addresses import Policy, is_public, parse
from rewardhub.media.fetch import Fetcher
from rewardhub.media.remote import Remote
from rewardhub.media.store import MediaLimits, MediaStore
from rewardhub.registry import Registry, verifier
from rewardhub.types import Call, Group, Media, Response, Status

LOOPBACK = ("127.0.0.0/8", "::1/128")


def png(shade=1) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def answer(body=b"", status="200 OK", *headers) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Host:
    """A server of scripted answers; keeps the heads of the requests it got."""

    def __init__(self) -> None:
        self.pages, self.heads, self.port = {}, [], 0

    async def handle(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            page = self.pages[head.split()[1]]
            if callable(page):
                await page(writer)
            else:
                writer.write(page)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def url(self, path="/a.png", host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
async def host():
    host = Host()
    host.pages["/a.png"] = answer(png())
    server = await asyncio.start_server(host.handle, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    yield host
    server.close()


def fetcher(hosts=("*",), networks=LOOPBACK, max_bytes=100_000, within_s=5.0, **options):
    return Fetcher(Policy(hosts, networks), max_bytes=max_bytes, within_s=within_s, **options)


async def test_the_bytes_come_and_nothing_else_goes(host, monkeypatch):
    """T65: a plain GET, uncompressed, without cookies or credentials, whatever proxies the environment names."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    host.pages["/a.png?x=1&y=%20"] = answer(png(), "200 OK", "Set-Cookie: a=b")
    for _ in range(2):
        assert await fetcher().get(host.url("/a.png?x=1&y=%20#frag")) == png()
    assert host.heads[0].startswith("GET /a.png?x=1&y=%20 HTTP/1.1\r\n")
    names = {line.partition(":")[0].lower() for line in host.heads[1].splitlines()[1:] if line}
    assert names <= {"host", "accept", "accept-encoding"}
    assert f"host: 127.0.0.1:{host.port}" in host.heads[0]


INSIDE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "192.0.0.1", "192.0.0.192", "168.63.129.16", "198.18.0.1", "192.0.2.1", "192.88.99.1", "240.0.0.1", "::1", "::", "fe80::1", "fc00::1",
    "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::7f00:1", "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "3fff::1", "5f00::1", "100::1",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
async def test_addresses_that_are_not_public_are_never_connected_to(address):
    """T65: private, loopback, link-local, multicast, CGNAT, mapped, translated and reserved ones, as a host or behind a name."""
    look_up = lambda host, port, **_: [(0, 0, 0, "", (address, port))]
    for host in (f"[{address}]" if ":" in address else address, "innocent.example.org"):
        with pytest.raises(InvalidInput, match="public|told apart"):
            await fetcher(networks=(), look_up=look_up).get(f"http://{host}/")


@given(st.ip_addresses())
def test_what_is_public_is_global_unicast(ip):
    """Property: no address that the standard library calls anything but global is public."""
    if is_public(ip):
        assert ip.is_global
        assert not (ip.is_private or ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified)
        assert ip.version == 4 or not (ip.ipv4_mapped or ip.sixtofour or ip.teredo)


def test_public_addresses_are_public():
    import ipaddress

    assert all(is_public(ipaddress.ip_address(each)) for each in ("8.8.8.8", "1.1.1.1", "2606:4700::1111", "2a00::1"))


@pytest.mark.parametrize(
    "url",
    [
        "", "file:///etc/passwd", "ftp://example.org/a", "gopher://example.org", "data:image/png;base64,AA", "//example.org/a",
        "http://", "http:///a", "http://user@example.org/", "http://user:pw@example.org/", "http://good\\@127.0.0.1/",
        "http://example.org\\@127.0.0.1/", "http://good@127.0.0.1/", "http://example.org:0/", "http://example.org:99999/",
        "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://017700000001/", "http://0177.0.0.1/", "http://127.1/",
        "http://127.0.0.01/", "http://127.0.0.1.0x1/", "http://1.2.3.4.5/", "http://[::1", "http://[::ffff:1.2.3.999]/",
        "http://[v1.a]/", "http://exa mple.org/", "http://example.org/a b", "http://example.org/\r\nX: y", "http://ex%61mple.org/",
        "http://１２７.0.0.1/", "http://localhost\0/", "http://ⓔxample.org/", "http://example.org/é", "http://./",
        "http://" + "a" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_plain_url_is_refused(url):
    """T65: other schemes, users, backslashes, decimal, octal, hexadecimal and short addresses, controls, other letters."""
    with pytest.raises(InvalidInput):
        parse(url)


def test_a_url_is_read_once():
    """What is read is what is asked for: scheme, host, port, path with its query, no fragment."""
    target = parse("HTTPS://Example.ORG.:8443/a/../b?c=d#e")
    assert (target.scheme, target.host, target.port, target.path) == ("https", "example.org", 8443, "/a/../b?c=d")
    assert parse("http://[2606:4700::1111]?q").path == "/?q"
    assert parse("http://[2606:4700::1111]").host == "2606:4700::1111"


async def test_only_listed_hosts_and_ports():
    """Without ``*`` only the names and what lies below a ``*.`` name; ports 80 and 443 outside the operator's networks."""
    look_up = lambda host, port, **_: [(0, 0, 0, "", ("8.8.8.8", port))]
    listed = fetcher(("example.org", "*.example.net"), (), look_up=look_up)
    for host in ("example.com", "a.example.org", "example.net", "badexample.net", "example.org.evil.com", "127.0.0.1"):
        with pytest.raises(InvalidInput, match="fetches nothing from"):
            await listed.get(f"https://{host}/")
    for host in ("example.org", "a.example.net"):
        with pytest.raises(InvalidInput, match="port"):
            await listed.get(f"https://{host}:8443/")
    for hosts, networks in ((("http://x",), ()), (("a*",), ()), (("*",), ("127.0.0.1/8",))):
        with pytest.raises(ConfigError):
            Policy(hosts, networks)


async def test_a_name_is_looked_up_once_and_its_address_pinned(host):
    """T65: a name that answers with a public address and then with another (rebinding) is asked once per request."""
    asked = []

    def rebinding(name, port, **_):
        asked.append(name)
        return [(0, 0, 0, "", ("127.0.0.1" if len(asked) == 1 else "127.0.0.2", port))]

    pinned = fetcher(networks=("127.0.0.1/32",), look_up=rebinding)
    assert await pinned.get(host.url(host="a.test")) == png()
    assert asked == ["a.test"]
    assert f"host: a.test:{host.port}" in host.heads[0]
    with pytest.raises(InvalidInput):
        await pinned.get(host.url(host="a.test"))
    both = lambda name, port, **_: [(0, 0, 0, "", (each, port)) for each in ("127.0.0.1", "10.0.0.1")]
    with pytest.raises(InvalidInput):
        await fetcher(networks=("127.0.0.1/32",), look_up=both).get(host.url(host="a.test"))
    assert len(host.heads) == 1


async def test_redirects_are_checked_like_any_request(host):
    """T65: to the metadata address, to a file, to another host that is not listed: refused; at most three in all."""
    for n, place in enumerate(
        ["http://169.254.169.254/latest/", "file:///etc/passwd", "http://u@127.0.0.1/", "//0x7f.1/"]
    ):
        host.pages[f"/{n}"] = answer(b"", "302 Found", f"Location: {place}")
        with pytest.raises(InvalidInput):
            await fetcher().get(host.url(f"/{n}"))
    for n in range(10, 15):
        host.pages[f"/{n}"] = answer(b"", "307 Temporary Redirect", f"Location: /{n + 1}")
    host.pages["/13"] = answer(png())
    assert await fetcher().get(host.url("/10")) == png()
    host.pages["/13"] = answer(b"", "301 Moved", "Location: 14")
    with pytest.raises(InvalidInput, match="more than 3 times"):
        await fetcher().get(host.url("/10"))
    host.pages["/20"] = answer(b"", "302 Found", f"Location: {host.url(host='localhost')}")
    with pytest.raises(InvalidInput, match="localhost"):
        await fetcher(("127.0.0.1",)).get(host.url("/20"))


async def test_sizes_and_times_are_bounded(host):
    """T65: a declared size, an endless body, a body that trickles, a host that says nothing, endless headers."""

    async def endless(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await writer.drain()

    async def trickle(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def headers(writer):
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing():
            writer.write(b"X-A: " + b"b" * 1000 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)

    async def silent(writer):
        await asyncio.sleep(30)

    host.pages |= {"/endless": endless, "/trickle": trickle, "/headers": headers, "/silent": silent}
    host.pages["/declared"] = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    host.pages["/negative"] = b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"
    quick = fetcher(within_s=0.5)
    for path, kind in (
        ("/declared", TooLarge), ("/endless", TooLarge), ("/trickle", DeadlineExceeded), ("/silent", DeadlineExceeded),
        ("/headers", (Unavailable, DeadlineExceeded)), ("/negative", (Unavailable, TooLarge)),
    ):  # fmt: skip
        started = time.monotonic()
        with pytest.raises(kind):
            await quick.get(host.url(path))
        assert time.monotonic() - started < 5
    slow = lambda *_, **__: time.sleep(1.0) or []
    with pytest.raises(DeadlineExceeded):
        await fetcher(within_s=0.2, look_up=slow).get("http://slow.example.org/")


@pytest.mark.parametrize("header", ["Content-Encoding: Identity", "Content-Encoding:", "content-type: text/plain"])
async def test_an_image_is_known_by_its_bytes(host, header):
    """RFC 9110: no coding by any spelling of its name; the declared type decides nothing."""
    host.pages["/b.png"] = answer(png(), "200 OK", header)
    assert await fetcher().get(host.url("/b.png")) == png()


async def test_answers_that_are_no_image(host):
    """T65: an error, a compressed answer (a bomb), a page, a bomb of pixels: the caller's to know, nothing is stored."""
    bomb = gzip.compress(bytes(50_000_000))
    host.pages |= {
        "/404": answer(b"gone", "404 Not Found"), "/500": answer(b"", "500 Oops"), "/429": answer(b"", "429 Slow"),
        "/gzip": answer(bomb, "200 OK", "Content-Encoding: gzip"), "/bare": answer(bomb), "/html": answer(b"<html>"),
        "/empty": answer(b""), "/cut": answer(png()[:-20]), "/short": answer(png())[:-5],
    }  # fmt: skip
    store = MediaStore(MediaLimits(item_bytes=100_000))
    store.remote = Remote(fetcher(), store)
    kinds = {"/500": Unavailable, "/429": Unavailable, "/short": Unavailable}
    for path in ("/404", "/500", "/429", "/gzip", "/bare", "/html", "/empty", "/cut", "/short"):
        with pytest.raises(kinds.get(path, InvalidInput), match=r"responses\[0\]\.media\[1\]\.url") as caught:
            await store.fetch(Group("g", responses=(Response(media=(Media(), Media(url=host.url(path)))),)))
        assert caught.value.field == "responses[0].media[1].url"
    assert store.stats()["items"] == 0


async def test_too_many_at_once_are_refused(host, monkeypatch):
    """What waits for a turn is bounded, and refused with a time to come back."""
    monkeypatch.setattr(fetch, "WIDTH", 2)
    monkeypatch.setattr(fetch, "QUEUE", 8)
    host.pages["/silent"] = silent
    crowded = fetcher(within_s=0.3)
    answers = await asyncio.gather(*(crowded.get(host.url("/silent")) for _ in range(9)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in answers) == ["DeadlineExceeded"] * 5 + ["Unavailable"] * 4
    assert await crowded.get(host.url()) == png()


async def silent(writer):
    await asyncio.sleep(5)


async def test_slow_hosts_of_one_tenant_hold_up_no_other(host):
    """A tenant all of whose hosts are silent holds half of the turns and of the queue: others are served at once."""
    host.pages["/silent"] = silent
    shared = fetcher(within_s=4)
    flood = [asyncio.create_task(shared.get(host.url("/silent"), "slow")) for _ in range(600)]
    while len(host.heads) < fetch.WIDTH // 2:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(2):
        assert await asyncio.gather(*(shared.get(host.url(), f"t{n}") for n in range(40))) == [png()] * 40
    assert len([head for head in host.heads if "/silent" in head]) == fetch.WIDTH // 2
    refused = [each for each in flood if each.done()]
    assert len(refused) == 600 - fetch.WIDTH // 2 - fetch.QUEUE // 2
    assert {type(each.exception()) for each in refused} == {Unavailable}
    for each in flood:
        each.cancel()
    await asyncio.wait(flood)
    assert await asyncio.gather(*(shared.get(host.url(), "slow") for _ in range(40))) == [png()] * 40


async def test_slow_names_of_one_tenant_hold_up_no_other(host):
    """Nobody can call off a look-up: while one goes on beyond its fetch, it still counts as its tenant's."""

    def look_up(name, port, **_):
        if name == "slow.test":
            time.sleep(3)
        return [(0, 0, 0, "", ("127.0.0.1", port))]

    shared = fetcher(within_s=0.5, look_up=look_up)
    for _ in range(4):
        slow = (shared.get(host.url(host="slow.test"), "slow") for _ in range(40))
        answers = await asyncio.gather(*slow, return_exceptions=True)
        assert {type(each) for each in answers} == {DeadlineExceeded}
    assert await asyncio.gather(*(shared.get(host.url(host="a.test"), f"t{n}") for n in range(8))) == [png()] * 8


async def test_an_address_is_fetched_once(host):
    """Equal addresses of one tenant are one request and one stored media; another tenant's is its own."""
    store = MediaStore()
    store.remote = Remote(fetcher(), store)
    group = Group("g", media=(Media(url=host.url()),) * 2, responses=(Response("r", media=(Media(url=host.url()),)),))
    ready = [store.resolve(await store.fetch(group, "a"), "a") for _ in range(2)]
    assert len(host.heads) == 1
    assert {media.data for each in ready for media in (*each.media, *each.responses[0].media)} == {png()}
    assert ready[0].media[0] == Media(Media.from_bytes(png()).sha256, width=8, height=6)
    await store.fetch(group, "b")
    assert len(host.heads) == 2
    right = Media(url=host.url("/never"), sha256=ready[0].media[0].sha256)
    assert (await store.fetch(Group("g", media=(right,)), "a")).media[0].url == ""
    with pytest.raises(InvalidInput, match="other bytes"):
        await store.fetch(Group("g", media=(Media(url=host.url(), sha256="0" * 64),)), "a")


@asynccontextmanager
async def hub_of(**config):
    registry = Registry()

    @verifier("shade")
    def shade(response, reference, group) -> float:
        """The number of media."""
        return float(len(group.media))

    registry.add(shade)
    hub = make_hub(HubConfig(workers=1, **config), registry)
    await hub.start()
    try:
        yield hub
    finally:
        await hub.aclose()


async def test_off_by_default(host):
    """T65: without a list of hosts an address is invalid input that names the field, and nothing is connected to."""
    group = Group("g", media=(Media(url=host.url()),), responses=(Response("r"),))
    async with hub_of() as hub:
        ((score,),) = await hub.score([group], Call(recipe="shade"))
    assert (score.value, score.status, score.details["field"]) == (None, Status.INVALID_INPUT, "media[0].url")
    assert host.heads == []
    async with hub_of(media_fetch=("127.0.0.1",), media_fetch_networks=LOOPBACK) as hub:
        ((score,),) = await hub.score([group], Call(recipe="shade"))
        assert score.value == 1.0


async def test_the_deadline_of_the_call_holds(host):
    """A host that says nothing costs a call no more than its own deadline, and the score is a timeout."""

    async def silent(writer):
        await asyncio.sleep(30)

    host.pages["/silent"] = silent
    group = Group("g", media=(Media(url=host.url("/silent")),), responses=(Response("r"),))
    async with hub_of(media_fetch=("*",), media_fetch_networks=LOOPBACK) as hub:
        ((score,),) = await hub.score([group], Call(recipe="shade", deadline_ms=200))
    assert score.status is Status.TIMEOUT


async def test_tls_is_verified_against_the_name(tmp_path):
    """https to a host whose certificate nobody vouches for is not fetched."""
    import ssl
    import subprocess

    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=a.test", "-addext", "subjectAltName=DNS:a.test"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    host = Host()
    host.pages["/a.png"] = answer(png())
    server = await asyncio.start_server(host.handle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    look_up = lambda name, port, **_: [(0, 0, 0, "", ("127.0.0.1", port))]
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    assert await fetcher(look_up=look_up, ssl_context=trusting).get(f"https://a.test:{port}/a.png") == png()
    for name, ours in (("b.test", trusting), ("a.test", None)):
        with pytest.raises(Unavailable):
            await fetcher(look_up=look_up, ssl_context=ours).get(f"https://{name}:{port}/a.png")
    server.close()


def test_the_real_resolver_answers_as_expected():
    """``getaddrinfo`` gives what the pinning reads: the address first in the fifth field."""
    found = socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert [each[4][0] for each in found] == ["127.0.0.1"]


async def test_a_redirect_to_no_host_is_the_address_fault(host):
    """T65: what no URL library reads is ``invalid_input`` of its own media, not an error of the whole request."""
    host.pages["/a"] = answer(b"", "302 Found", "Location: http://[::1")
    with pytest.raises(InvalidInput):
        await fetcher().get(host.url("/a"))
