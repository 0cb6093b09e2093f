"""The Redis tier against a real server: its failures are misses, never errors."""

import asyncio
import time
import zlib

import pytest
import redis as sync_redis

from rewardhub.cache.flight import VersionChanged
from rewardhub.cache.memory import MemoryStore
from rewardhub.cache.redis_store import FAILURES, RedisStore
from rewardhub.cache.row import MARK, column_of, decode, encode, rows_of
from rewardhub.cache.store import Cache
from rewardhub.types import Column, Status

ROW = (0.25, Status.OK, 0.5, (0.1, None), {"reason": "ok", "n": 2**90})
KEYS = [b"a", b"b", b"c"]
GOOD = encode(b"b", ROW)


def row(value):
    return (value, Status.OK, None, (), None)


def column(*values, status=Status.OK, version="v1"):
    return Column(list(values), [status] * len(values), version)


@pytest.fixture
async def store(redis_server):
    store = RedisStore(redis_server.url, ttl_s=60)
    yield store
    await store.aclose()


async def stored(store, rows):
    store.put(rows)
    await store.drained()


def test_rows_survive_encoding():
    """A score comes back as it was, with its details."""
    assert decode(KEYS, [encode(b"a", ROW), None, encode(b"c", row(1.0))]) == [ROW, None, row(1.0)]


def test_columns_survive_as_rows():
    """A column is the same after a way through rows, whichever of its lists are there."""
    full = Column([0.5, None], [Status.OK, Status.NO_ANSWER], "v", [{"a": 1}, None], [0.1, None], [(0.1, None), ()])
    for each in (full, Column([1.0], [Status.OK], "v"), Column([], [], "v")):
        assert column_of(rows_of(each), "v", [False] * len(each)) == each


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        GOOD[:-1],
        GOOD[:-1] + b"?",
        GOOD + b" ",
        GOOD * 2,
        b"rh9" + GOOD[3:],
        encode(b"a", ROW),
        b"\x80\x04K\x01.",
    ],
)
def test_what_is_not_intact_is_a_miss(value):
    """T32: truncated, corrupted, doubled, of a future schema, another key's, or a pickle: recomputed, never unpickled."""
    rows = decode(KEYS, [encode(b"a", row(1.0)), value, encode(b"c", row(2.0))])
    assert rows == [row(1.0), None, row(2.0)]


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'["x","ok",null,[],null]',
        b'[1.0,"timeout",null,[],null]',
        b"1],[2",
        b"\xff",
        b'[1.0,"ok",null,[],{"a":' + b"[" * 5000 + b"]" * 5000 + b"}]",
    ],
    ids=lambda body: body[:20],
)
def test_what_is_intact_and_no_verdict_is_a_miss(body):
    """T32: a body under a right checksum that holds no verdict costs nobody else's row."""
    value = MARK + zlib.crc32(b"b" + body).to_bytes(4, "big") + body
    rows = decode(KEYS, [encode(b"a", row(1.0)), value, encode(b"c", row(2.0))])
    assert rows == [row(1.0), None, row(2.0)]


async def test_scores_are_shared(store, redis_server):
    """What one hub stored another finds, with a time to live."""
    await stored(store, [(b"a", ROW)])
    assert await store.get([b"a", b"b"]) == [ROW, None]
    other = RedisStore(redis_server.url, ttl_s=60)
    assert await other.get([b"a"]) == [ROW]
    await other.aclose()
    with sync_redis.Redis.from_url(redis_server.url) as admin:
        assert 0 < admin.ttl("rewardhub:score:a") <= 60


async def test_details_that_are_no_json_cost_no_score(store):
    """A judge's reply may end in half a surrogate pair: that row is computed again, its neighbour is kept."""
    cache = Cache(MemoryStore(0), store)

    async def compute(positions):
        details = [{"reason": "cut \ud83d"}, {"reason": "whole"}]
        return Column([0.5, 1.0], [Status.OK] * 2, "v1", details=details)

    scored = await cache.lookup([b"cut", b"whole"], "use", compute, "v1")
    assert scored.values == [0.5, 1.0]
    await store.drained()
    assert await store.get([b"cut", b"whole"]) == [None, (1.0, Status.OK, None, (), {"reason": "whole"})]


async def test_large_rows_stay_in_memory(store):
    """Details of a megabyte keep no small row waiting, and are known to their own hub."""
    cache = Cache(MemoryStore(1 << 24), store)

    async def compute(positions):
        return Column([0.5, 1.0], [Status.OK] * 2, "v1", details=[{"reply": "x" * 1_000_000}, {"reply": "x" * 100_000}])

    first = await cache.lookup([b"large", b"small"], "use", compute, "v1")
    await store.drained()
    assert (await cache.lookup([b"large", b"small"], "use", compute, "v1")).details == first.details
    known = await store.get([b"large", b"small"])
    assert known == [None, (1.0, Status.OK, None, (), first.details[1])]
    assert store.errors == 0


async def test_dead_server_opens_the_breaker(redis_server):
    """T27: after a few failures nothing is asked any more; when the server is back, it is used again."""
    store = RedisStore(redis_server.url, ttl_s=60)
    await stored(store, [(b"a", ROW)])
    redis_server.stop()
    for _ in range(FAILURES):
        assert await store.get([b"a"]) == [None]
    started = time.perf_counter()
    for _ in range(100):
        assert await store.get([b"a"]) == [None]
    assert time.perf_counter() - started < 0.05
    assert not store.open
    redis_server.start()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        await stored(store, [(b"b", ROW)])
        if await store.get([b"b"]) != [None]:
            break
        await asyncio.sleep(0.1)
    assert await store.get([b"b"]) == [ROW]
    await store.aclose()


async def test_paused_server_costs_at_most_the_budget(redis_server, monkeypatch):
    """T28: a server that answers nothing costs a look-up its rows' and its claim's part of one budget, here of 1 s."""
    monkeypatch.setattr("rewardhub.cache.redis_store.BUDGET_S", 1.0)
    store = RedisStore(redis_server.url, ttl_s=60)
    await store.get([b"a"])
    redis_server.pause()
    try:
        started = time.perf_counter()
        assert await store.get([b"a"]) == [None]
        assert await store.claim([b"a"], "token", 1000, 30.0) is None
        assert time.perf_counter() - started < 1.5
    finally:
        redis_server.resume()
    await store.aclose()


async def test_read_only_and_full_servers_are_misses(redis_server):
    """T29: errors of the server are counted, not raised."""
    store = RedisStore(redis_server.url, ttl_s=60)
    admin = sync_redis.Redis.from_url(redis_server.url)
    admin.config_set("maxmemory", "1")
    await stored(store, [(b"a", ROW)])
    assert await store.get([b"a"]) == [None]
    admin.config_set("maxmemory", "0")
    admin.replicaof("127.0.0.1", "1")
    await stored(store, [(b"a", ROW)])
    admin.replicaof("NO", "ONE")
    admin.close()
    assert store.errors >= 1
    await store.aclose()


async def test_cache_survives_without_redis(redis_server):
    """The tiers answer in order, and a dead second tier changes no answer."""
    store = RedisStore(redis_server.url, ttl_s=60)
    cache = Cache(MemoryStore(1 << 20), store)
    calls = []

    async def compute(positions):
        calls.append(positions)
        return column(*map(float, positions))

    first = await cache.lookup([b"k0", b"k1"], "use", compute, "v1")
    await store.drained()
    other = Cache(MemoryStore(1 << 20), store)
    second = await other.lookup([b"k0", b"k1"], "use", compute, "v1")
    assert first.values == second.values == [0.0, 1.0]
    assert len(calls) == 1
    assert second.cached == [True, True]
    assert first.cached is None
    redis_server.stop()
    third = await Cache(MemoryStore(1 << 20), store).lookup([b"k0", b"k1"], "use", compute, "v1")
    assert third.values == [0.0, 1.0]
    assert set(third.statuses) == {Status.OK}
    await store.aclose()


async def test_requests_of_one_turn_share_one_command(redis_server, monkeypatch):
    """A thousand look-ups at once are one MGET, each gets its own answers, and a thousand writes few pipelines."""
    monkeypatch.setattr("rewardhub.cache.redis_store.BUDGET_S", 5.0)
    store = RedisStore(redis_server.url, ttl_s=60)
    for n in range(1000):
        store.put([(b"k%d" % n, row(float(n)))])
    await store.drained()
    with sync_redis.Redis.from_url(redis_server.url) as admin:
        before = (
            admin.info("commandstats")["cmdstat_mget"]["calls"] if "cmdstat_mget" in admin.info("commandstats") else 0
        )
        answers = await asyncio.gather(*(store.get([b"k%d" % n, b"none%d" % n]) for n in range(1000)))
        assert admin.info("commandstats")["cmdstat_mget"]["calls"] - before == 1
    assert answers == [[row(float(n)), None] for n in range(1000)]
    await store.aclose()


async def test_versions_do_not_mix():
    """T23: rows known of one version and computed by another are never one column, nor cached under its keys."""
    cache = Cache(MemoryStore(1 << 20))

    async def old(positions):
        return column(*map(float, positions))

    async def new(positions):
        return column(*map(float, positions), version="v2")

    await cache.lookup([b"k0"], "use", old, "v1")
    with pytest.raises(VersionChanged):
        await cache.lookup([b"k0", b"k1"], "use", new, "v1")
    alone = await cache.lookup([b"k2", b"k3"], "use", new, "v1")
    assert (alone.fingerprint, alone.values) == ("v2", [0.0, 1.0])
    assert cache.memory.get([b"k1", b"k2", b"k3"]) == [None, None, None]
