"""The Redis tier against a real server: its failures are misses, never errors."""

import asyncio
import time

import pytest
import redis as sync_redis

from rewardhub.cache.memory import MemoryStore
from rewardhub.cache.redis_store import FAILURES, RedisStore, decode, encode
from rewardhub.cache.store import Cache
from rewardhub.types import Score, Status

SCORE = Score(0.25, confidence=0.5, steps=(0.1, None), details={"reason": "ok", "n": 2**60}, cached=True)


@pytest.fixture
async def store(redis_server):
    store = RedisStore(redis_server.url, ttl_s=60)
    yield store
    await store.aclose()


def test_rows_survive_encoding():
    """A score comes back as it was, with its details."""
    assert decode(encode(SCORE)) == SCORE


@pytest.mark.parametrize(
    "value",
    [b"", b"x", encode(SCORE)[:-1], encode(SCORE)[:-1] + b"?", b"rh9" + encode(SCORE)[3:], b"\x80\x04K\x01."],
)
def test_what_is_not_intact_is_a_miss(value):
    """T32: truncated, corrupted, of a future schema, or a pickle: recomputed, never unpickled."""
    assert decode(value) is None


async def test_scores_are_shared(store, redis_server):
    """What one hub stored another finds, with a time to live."""
    await store.put({"a": SCORE})
    assert await store.get(["a", "b"]) == {"a": SCORE}
    other = RedisStore(redis_server.url, ttl_s=60)
    assert await other.get(["a"]) == {"a": SCORE}
    await other.aclose()
    with sync_redis.Redis.from_url(redis_server.url) as admin:
        assert 0 < admin.ttl("rewardhub:score:a") <= 60


async def test_dead_server_opens_the_breaker(redis_server):
    """T27: after a few failures nothing is asked any more; when the server is back, it is used again."""
    store = RedisStore(redis_server.url, ttl_s=60)
    await store.put({"a": SCORE})
    redis_server.stop()
    for _ in range(FAILURES):
        assert await store.get(["a"]) == {}
    started = time.perf_counter()
    for _ in range(100):
        assert await store.get(["a"]) == {}
    assert time.perf_counter() - started < 0.05
    assert not store.open
    redis_server.start()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        await store.put({"b": SCORE})
        if await store.get(["b"]):
            break
        await asyncio.sleep(0.1)
    assert await store.get(["b"]) == {"b": SCORE}
    await store.aclose()


async def test_paused_server_costs_at_most_the_budget(redis_server):
    """T28: a server that answers nothing costs 50 ms a call until the breaker opens."""
    store = RedisStore(redis_server.url, ttl_s=60)
    await store.get(["a"])
    redis_server.pause()
    try:
        started = time.perf_counter()
        assert await store.get(["a"]) == {}
        assert time.perf_counter() - started < 1.0
    finally:
        redis_server.resume()
    await store.aclose()


async def test_read_only_and_full_servers_are_misses(redis_server):
    """T29: errors of the server are counted, not raised."""
    store = RedisStore(redis_server.url, ttl_s=60)
    admin = sync_redis.Redis.from_url(redis_server.url)
    admin.config_set("maxmemory", "1")
    await store.put({"a": SCORE})
    assert await store.get(["a"]) == {}
    admin.config_set("maxmemory", "0")
    admin.replicaof("127.0.0.1", "1")
    await store.put({"a": SCORE})
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
        return [Score(float(position)) for position in positions]

    first = await cache.lookup(["k0", "k1"], "use", compute)
    other = Cache(MemoryStore(1 << 20), store)
    second = await other.lookup(["k0", "k1"], "use", compute)
    assert [score.value for score in first] == [score.value for score in second] == [0.0, 1.0]
    assert len(calls) == 1
    assert all(score.cached for score in second)
    redis_server.stop()
    third = await Cache(MemoryStore(1 << 20), store).lookup(["k0", "k1"], "use", compute)
    assert [score.value for score in third] == [0.0, 1.0]
    assert {score.status for score in third} == {Status.OK}
    await store.aclose()


def test_memory_is_bounded():
    """The least recently used rows leave when the capacity is reached."""
    memory = MemoryStore(4000)
    for n in range(100):
        memory.put({str(n): Score(float(n))})
    assert memory.bytes <= 4000
    assert memory.get(["0"]) == {}
    assert memory.get(["99"])["99"].value == 99.0
    assert memory.evictions == 90


def hubs(url, count):
    stores = [RedisStore(url, ttl_s=60) for _ in range(count)]
    return stores, [Cache(MemoryStore(1 << 20), store) for store in stores]


async def test_hubs_share_one_computation(redis_server):
    """T30: ten hubs ask for the same keys at once; each key is computed once in all."""
    stores, caches = hubs(redis_server.url, 10)
    computed = []

    async def compute(positions):
        computed.extend(positions)
        await asyncio.sleep(0.2)
        return [Score(float(position)) for position in positions]

    for store in stores:
        await store.get(["warm"])
    answers = await asyncio.gather(*(cache.lookup(["k0", "k1"], "use", compute, 5.0) for cache in caches))
    assert sorted(computed) == [0, 1]
    assert all([score.value for score in answer] == [0.0, 1.0] for answer in answers)
    for store in stores:
        await store.aclose()


async def test_a_dead_holder_delays_only_for_a_lease(redis_server):
    """A hub that claimed a key and died is waited for as long as its lease, then the key is computed."""
    stores, (cache,) = hubs(redis_server.url, 1)
    await stores[0].set_absent(["k"], "dead", 300)

    async def compute(positions):
        return [Score(1.0) for _ in positions]

    started = time.perf_counter()
    (score,) = await cache.lookup(["k"], "use", compute, 0.5)
    assert score.value == 1.0
    assert time.perf_counter() - started < 2.0
    await stores[0].aclose()


async def test_leases_are_fenced(redis_server):
    """A holder that lost its lease does not end its successor's; a live holder's lease is renewed."""
    from rewardhub.cache.lease import Leases

    stores, _ = hubs(redis_server.url, 2)
    first, second = (Leases(store, lease_ms=200) for store in stores)
    with sync_redis.Redis.from_url(redis_server.url) as admin:
        async with first.hold(["k"]) as granted:
            assert granted == {"k"}
            await asyncio.sleep(0.5)
            async with second.hold(["k"]) as refused:
                assert refused == set()
            assert admin.exists("rewardhub:score:lease:k")
            admin.set("rewardhub:score:lease:k", "another")
        assert admin.get("rewardhub:score:lease:k") == b"another"
    for store in stores:
        await store.aclose()


async def test_failures_are_not_waited_for_again(redis_server):
    """A holder whose computation fails stores nothing; the waiter computes for itself."""
    stores, caches = hubs(redis_server.url, 2)
    calls = []

    async def failing(positions):
        calls.append("failing")
        await asyncio.sleep(0.1)
        return [Score(None, Status.UNAVAILABLE) for _ in positions]

    async def working(positions):
        calls.append("working")
        return [Score(1.0) for _ in positions]

    first = asyncio.create_task(caches[0].lookup(["k"], "use", failing, 5.0))
    await asyncio.sleep(0.03)
    (second,) = await caches[1].lookup(["k"], "use", working, 0.4)
    assert (await first)[0].status is Status.UNAVAILABLE
    assert second.value == 1.0
    assert calls == ["failing", "working"]
    for store in stores:
        await store.aclose()


async def test_requests_of_one_turn_share_one_command(redis_server):
    """A thousand look-ups at once are one MGET, each gets its own answers, and a thousand writes one pipeline."""
    store = RedisStore(redis_server.url, ttl_s=60)
    await asyncio.gather(*(store.put({f"k{n}": Score(float(n))}) for n in range(1000)))
    with sync_redis.Redis.from_url(redis_server.url) as admin:
        before = (
            admin.info("commandstats")["cmdstat_mget"]["calls"] if "cmdstat_mget" in admin.info("commandstats") else 0
        )
        answers = await asyncio.gather(*(store.get([f"k{n}", f"none{n}"]) for n in range(1000)))
        assert admin.info("commandstats")["cmdstat_mget"]["calls"] - before == 1
    assert [found[f"k{n}"].value for n, found in enumerate(answers)] == [float(n) for n in range(1000)]
    await store.aclose()
