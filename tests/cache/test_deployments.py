"""Redis as it is met: behind TLS, a password, a proxy or a name, far away, moved elsewhere, or no Redis at all."""

import asyncio
import itertools
import logging
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
import redis as sync_redis

from rewardhub.cache.connections import Connections, packed
from rewardhub.cache.memory import MemoryStore
from rewardhub.cache.redis_store import RedisStore
from rewardhub.cache.store import Cache
from rewardhub.types import Column, Status
from tests.chaos.fault_proxy import FaultProxy, Faults
from tests.conftest import free_port

ROW = (0.25, Status.OK, 0.5, (0.1, None), {"reason": "ok"})
KEYS = itertools.count()
PASSWORD = "s@c ret"
QUOTED = "s%40c%20ret"


def key():
    return b"%032d" % next(KEYS)


async def shares(store, patience_s=10.0):
    """Whether scores are stored and found, and keys claimed, before long."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        mine = key()
        store.put([(mine, ROW)])
        await store.drained()
        if await store.get([mine, key()]) == [ROW, None] and await store.claim([key()], "token", 100, 5.0) == [True]:
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.fixture
async def store_at():
    stores = []

    def make(url):
        stores.append(RedisStore(url, ttl_s=60))
        return stores[-1]

    yield make
    for store in stores:
        await store.aclose()


@pytest.fixture
async def store_at_one_who_says(store_at):
    """A store at a server that answers whatever it is sent with what ``say`` gives, and goes where that is nothing."""
    stores, servers, serving = [], [], []

    async def make(say, user=""):
        async def serve(reader, writer):
            serving.append(asyncio.current_task())
            try:
                while await reader.read(65_536) and (words := say()):
                    writer.write(words)
            except ConnectionError:
                return
            finally:
                writer.close()

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        stores.append(store_at(f"redis://{user}127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}/0"))
        return stores[-1]

    yield make
    for store in stores:
        await store.aclose()
    for server in servers:
        server.close()
    await asyncio.gather(*serving)


@pytest.fixture
def redis_with(redis_server):
    """Starts the server anew with options of its own; gives what its password's place in a URL needs."""

    def make(*options):
        redis_server.stop()
        while "--cluster-enabled" in options and redis_server.port > 55_535:  # its bus is 10,000 ports above
            redis_server.port = free_port()
        redis_server.start(*options)
        return redis_server.port

    return make


@pytest.fixture
def authority(tmp_path):
    """Makes certificates of an authority of its own: the options of a server, and the query of a URL."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    new = ["-newkey", "rsa:2048", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=ca")

    def certify(name, alternatives):
        (tmp_path / "ext").write_text(f"subjectAltName={alternatives}")
        openssl("req", *new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext"]
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signed)

    certify("here", "DNS:localhost,IP:127.0.0.1")
    certify("elsewhere", "DNS:elsewhere")
    certify("hub", "DNS:hub")
    return tmp_path


def tls(folder, name, clients, port):
    files = {"cert": f"{name}.crt", "key": f"{name}.key", "ca-cert": "ca.crt"}
    options = [word for kind, file in files.items() for word in (f"--tls-{kind}-file", str(folder / file))]
    return ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", clients, *options]


@pytest.mark.parametrize(
    ("options", "user", "query"),
    [
        ((), "", "3"),
        (("--requirepass", PASSWORD), f":{QUOTED}@", "4"),
        (("--rename-command", "HELLO", "", "--requirepass", PASSWORD), f":{QUOTED}@", "0"),
        (("--rename-command", "HELLO", "", "--rename-command", "CLIENT", ""), "", "0"),
        ((), "", "0?decode_responses=True&health_check_interval=1&client_name=hub"),
    ],
    ids=["database", "password", "no RESP3", "no CLIENT", "options"],
)
async def test_servers_that_are_set_up_otherwise_are_used(redis_with, store_at, options, user, query):
    """Another database, a password, a server that speaks RESP2 alone, options of the URL that change replies."""
    port = redis_with(*options)
    assert await shares(store_at(f"redis://{user}127.0.0.1:{port}/{query}"))


async def test_a_user_of_few_rights_is_enough(redis_server, store_at):
    """A user that may touch nothing but our keys, with the seven commands that we send."""
    with sync_redis.Redis.from_url(redis_server.url) as admin:
        rules = "~rewardhub:score:* -@all +mget +set +eval +get +del +pexpire +select"
        admin.execute_command("ACL", "SETUSER", "hub", "on", ">pw", *rules.split())
    assert await shares(store_at(f"redis://hub:pw@127.0.0.1:{redis_server.port}/1"))


async def test_a_unix_socket(redis_with, store_at, tmp_path):
    redis_with("--unixsocket", str(tmp_path / "socket"))
    assert await shares(store_at(f"unix://{tmp_path}/socket?db=2"))


async def test_certificates(redis_with, redis_server, store_at, authority, caplog):
    """An authority and a client's certificate of one's own; a server of another name is not talked to, and the log says so."""
    port = redis_server.port
    ours = f"ssl_ca_certs={authority}/ca.crt"
    redis_with(*tls(authority, "here", "yes", port))
    mine = f"&ssl_certfile={authority}/hub.crt&ssl_keyfile={authority}/hub.key"
    assert await shares(store_at(f"rediss://localhost:{port}/1?{ours}{mine}"))
    redis_with(*tls(authority, "elsewhere", "no", port))
    assert not await shares(store_at(f"rediss://127.0.0.1:{port}/0?{ours}"), 2.0)
    assert "not valid for '127.0.0.1'" in caplog.text


@pytest.mark.parametrize(
    ("options", "user", "told"),
    [
        (("--requirepass", PASSWORD), ":wrong-secret@", "WRONGPASS"),
        (("--rename-command", "AUTH", "gone"), ":wrong-secret@", "unknown command 'AUTH'"),
        (("--rename-command", "EVAL", ""), "", "unknown command 'EVAL'"),
        (("--cluster-enabled", "yes"), "", "a cluster"),
    ],
)
async def test_the_log_says_why_redis_is_not_used(redis_with, store_at, tmp_path, caplog, options, user, told):
    """Once, and without the password: what a server says of a command that it does not know quotes its arguments."""
    port = redis_with("--dir", str(tmp_path), *options)
    caplog.set_level(logging.INFO)
    assert not await shares(store_at(f"redis://{user}127.0.0.1:{port}/0"), 0.5)
    assert caplog.text.count(told) == 1
    assert "wrong-secret" not in caplog.text


async def test_a_cluster_is_named_in_one_line(redis_with, store_at, tmp_path, caplog, monkeypatch):
    """Each key may be moved elsewhere, with words of its own: the log names the cluster once, not a line for each key."""
    monkeypatch.setattr("rewardhub.cache.redis_store.FAILURES", 1000)
    port = redis_with("--dir", str(tmp_path), "--cluster-enabled", "yes")
    with sync_redis.Redis("127.0.0.1", port) as admin:
        half = {"CLUSTER ADDSLOTSRANGE": (0, 8191), "CONFIG SET": ("cluster-require-full-coverage", "no")}
        for command, arguments in half.items():
            admin.execute_command(*command.split(), *arguments)
        until = time.monotonic() + 10
        while admin.execute_command("CLUSTER INFO")["cluster_state"] != "ok" and time.monotonic() < until:
            await asyncio.sleep(0.05)
    store = store_at(f"redis://127.0.0.1:{port}/0")
    for _ in range(100):
        await store.get([key(), key()])
        await store.get([key()])
    assert store.errors
    (line,) = [record.message for record in caplog.records]
    assert "cluster" in line


async def test_a_server_of_many_words_does_not_fill_the_log(store_at_one_who_says, caplog, monkeypatch):
    """An error with another text each time is told a few times a minute, and not kept for ever."""
    monkeypatch.setattr("rewardhub.cache.redis_store.FAILURES", 1000)
    count = itertools.count()
    store = await store_at_one_who_says(lambda: b"-ERR number %d\r\n" % next(count))
    for _ in range(50):
        await store.get([key()])
    assert 1 <= len(caplog.records) <= 10


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux tells of the timers of sockets")
async def test_an_idle_connection_is_kept_alive(redis_server, store_at):
    """Between two runs nobody asks for hours, and what lies between would forget the connection."""
    assert await shares(store_at(redis_server.url))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    timers = [row[5] for row in rows if row[2] == f"0100007F:{redis_server.port:04X}" and row[3] == "01"]
    assert timers
    assert all(timer.startswith("02:") for timer in timers)


@pytest.mark.parametrize("words", [b"$5\r\nab", b"+PONG\r\n"])
async def test_what_comes_unasked_ends_a_connection(words):
    """Law 2: a part of a reply that nobody asked for is no part of the answer to the next call."""
    writers, asked = [], []

    async def serve(reader, writer):
        writers.append(writer)
        while asking := await reader.read(65_536):
            asked.append(asking)
            writer.write(b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    connections = Connections(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    for count in (1, 2):
        assert await connections.ask([packed("SET", b"k", b"x")], 5.0) == [b"OK"]
        assert len(asked) == len(writers) == count
        writers[-1].write(words)
        await asyncio.sleep(0.05)
    await connections.aclose()
    await asyncio.sleep(0.05)
    server.close()


async def test_a_reply_without_end_is_left(store_at_one_who_says, monkeypatch):
    """Of a value that somebody wrote by hand, however large, no more is read than replies may have."""
    monkeypatch.setattr("rewardhub.cache.redis_store.BUDGET_S", 20.0)
    monkeypatch.setattr("rewardhub.cache.link.MOST_BYTES", 1 << 20)
    store = await store_at_one_who_says(lambda: b"*1\r\n$500000000\r\n" + bytes(4 << 20))
    started = time.monotonic()
    assert await store.get([key()]) == [None]
    assert time.monotonic() - started < 5
    assert store.errors == 1


async def test_a_stopped_server_keeps_no_socket(redis_server):
    """What a server does not take is thrown away with its connection: neither sockets nor bytes add up."""
    connections = Connections(redis_server.url)
    await connections.ask([packed("SET", key(), b"x")], 5.0)
    redis_server.pause()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(TimeoutError):
            await connections.ask([packed("SET", key(), bytes(32 << 20))], 0.1)
        await asyncio.sleep(0.01)
    assert len(os.listdir("/proc/self/fd")) <= before
    redis_server.resume()
    await connections.aclose()


NOT_REDIS = {
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "ok": b"+OK\r\n",
    "number": b":1\r\n",
    "too few": b"*1\r\n$-1\r\n",
    "too many": b"*3\r\n$-1\r\n$-1\r\n$-1\r\n",
    "a part more": b"*2\r\n$-1\r\n$-1\r\n$5\r\nab",
    "numbers": b"*2\r\n:1\r\n:1\r\n",
    "lists": b"*2\r\n*1\r\n:1\r\n*1\r\n:1\r\n",
    "errors": b"*2\r\n-ERR x\r\n-ERR y\r\n",
    "a map": b"%1\r\n+proto\r\n:3\r\n",
    "no text": b"-\xff\xfe\r\n",
    "cut": b"*2\r\n$1000\r\nabc",
    "nothing": b"",
}


@pytest.mark.parametrize("password", ["", ":pw@"])
@pytest.mark.parametrize("kind", NOT_REDIS)
async def test_what_is_no_redis_is_a_miss(store_at_one_who_says, kind, password):
    """Whatever comes for an answer raises nothing, keeps nobody waiting and is no row."""
    store = await store_at_one_who_says(lambda: NOT_REDIS[kind], password)

    async def compute(positions):
        return Column([1.0] * len(positions), [Status.OK] * len(positions), "v1")

    async with asyncio.timeout(5):
        for _ in range(4):
            assert await store.get([key(), key()]) == [None, None]
            column = await Cache(MemoryStore(0), store).lookup([key(), key()], "use", compute, "v1")
            assert column.values == [1.0, 1.0]
        await store.drained()
    assert store.errors >= 3


async def test_a_score_is_worth_nothing_under_another_key(redis_server, store_at):
    """Law 2: answers of a proxy that gives one call's to another, or values that were renamed, are misses."""
    store = store_at(redis_server.url)
    mine, other = key(), key()
    store.put([(mine, ROW), (other, (0.75, *ROW[1:]))])
    await store.drained()
    with sync_redis.Redis.from_url(redis_server.url) as admin:
        admin.rename(b"rewardhub:score:" + other, b"rewardhub:score:" + mine)
    assert await store.get([mine]) == [None]
    assert await store.claim([mine], "token", 100, 5.0) == [True]


@pytest.mark.parametrize(("latency_s", "jitter_s"), [(0.008, 0.0), pytest.param(0.007, 0.003, marks=pytest.mark.slow)])
async def test_a_server_far_away_is_used(redis_server, store_at, latency_s, jitter_s):
    """A server 14 to 20 ms away answers in time, though a connection to it takes longer than any call may."""
    async with FaultProxy(redis_server.port) as proxy:
        store = store_at(f"redis://127.0.0.1:{proxy.port}/1")
        proxy.faults = Faults(latency_s=latency_s, jitter_s=jitter_s)
        assert await shares(store)


async def test_a_master_that_is_one_no_longer_is_left(redis_server, redis_servers, store_at):
    """After a failover the name leads to another server, but the old one, read-only now, keeps its connections."""
    (new,) = redis_servers(1)
    async with FaultProxy(redis_server.port) as proxy:
        store = store_at(f"redis://127.0.0.1:{proxy.port}/0")
        assert await shares(store)
        with sync_redis.Redis.from_url(redis_server.url) as admin:
            admin.replicaof("127.0.0.1", new.port)
        proxy.upstream = new.port
        assert await shares(store, 5.0)


async def test_a_name_that_is_looked_up_for_long_takes_one_thread(store_at, monkeypatch):
    """While the name of the server is not answered, one thread waits for it, not one more with each call."""
    looking = []
    resolve = socket.getaddrinfo

    def slow(host, *arguments, **options):
        if host != "redis.test":
            return resolve(host, *arguments, **options)
        looking.append(host)
        time.sleep(4)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    store = store_at("redis://redis.test:6379/0")
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert await store.get([key()]) == [None]
        await asyncio.sleep(0.02)
    assert len(looking) == 1
