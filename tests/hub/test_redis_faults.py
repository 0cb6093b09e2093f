"""A hub whose Redis is stopped, full, read-only, slow or back again: no score fails, none is wrong (R7)."""

import asyncio
import itertools
import math
import statistics
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import pytest
import redis as sync_redis

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.types import Call, Group, Response, Status
from tests.chaos.fault_proxy import FaultProxy, Faults

from .conftest import oracle


@pytest.fixture
def hub_at(registry, monkeypatch):
    @asynccontextmanager
    async def make(url):
        hub = make_hub(HubConfig(workers=1, redis=url, cache_mb=0), registry)
        await hub.start()
        try:
            yield hub
        finally:
            await hub.aclose()

    return make


async def scored(hub, start, count=20):
    """Scores groups one by one, each with two responses that nobody scored before; seconds of each."""
    seconds = []
    for n in range(start, start + count):
        group = Group(f"g{n}", f"p{n}", (Response("a"), Response("b")))
        began = time.perf_counter()
        (scores,) = await hub.score([group], Call(recipe="dear"))
        seconds.append(time.perf_counter() - began)
        assert scores.values == [oracle(group.prompt, "a"), oracle(group.prompt, "b")]
        assert set(scores.total.statuses) == {Status.OK}
    return sorted(seconds)


async def used_again(hub, dear):
    """Waits until a second look at one group is answered by Redis; at most 5 s."""
    until = time.monotonic() + 5
    turn = 0
    while time.monotonic() < until:
        turn += 1
        before = len(dear.computed)
        for _ in range(2):
            await hub.score([Group("again", f"again {turn}", (Response("x"),))], Call(recipe="dear"))
        if len(dear.computed) - before == 1:
            return True
        await asyncio.sleep(0.1)
    return False


@pytest.mark.parametrize("number", [math.inf, math.nan])
async def test_numbers_that_are_not_finite_stay_so(hub_at, redis_server, dear, monkeypatch, number):
    """Law 7: what a recipe makes of a detail that is not finite is the same from a scorer and from Redis, and never a
    number that it was not before."""
    score = dear.score_remote

    async def odd(group, indices, context):
        column = await score(group, indices, context)
        return replace(column, details=[{"faults": [number], "weight": number}] * len(column))

    monkeypatch.setattr(dear, "score_remote", odd)
    text = "name: r\nterms: {d: {scorer: dear}}\nvalue: \"d + detail(d, 'weight', 7)\""
    answers = []
    for _ in range(2):
        async with hub_at(redis_server.url) as hub:
            (scores,) = await hub.score([Group("g", "p", (Response("a"),))], Call(recipe_text=text))
            answers.append((scores.total.statuses, scores.values, repr(scores.parts["d"].details)))
    assert answers[0] == answers[1]


def stored(server):
    """How many scores and how many leases Redis holds."""
    with sync_redis.Redis.from_url(server.url) as admin:
        leases = len(admin.keys("rewardhub:score:lease:*"))
        return len(admin.keys("rewardhub:score:*")) - leases, leases


async def opens(hub, start):
    """Scores until the breaker is open, which takes less than a second."""
    began = time.perf_counter()
    while hub.scheduler.cache.redis.open:
        await scored(hub, start, 1)
        start += 1
    assert time.perf_counter() - began < 1.0


async def added_s(hub, plain, start, count=100):
    """The median of what a group costs more in ``hub`` than in ``plain``, one after the other."""
    return statistics.median(
        [(await scored(hub, start + n, 1))[0] - (await scored(plain, start + n, 1))[0] for n in range(count)]
    )


async def test_stopped_at_start(hub_at, redis_server, dear):
    """T27: a hub starts without its Redis, and uses it once it is there."""
    redis_server.stop()
    async with hub_at(redis_server.url) as hub:
        await scored(hub, 0)
        redis_server.start()
        assert await used_again(hub, dear)


async def test_stopped_under_load_and_returning(hub_at, redis_server, dear):
    """T27: Redis dies between and under groups; all are scored, the breaker opens, and it is used again later."""
    async with hub_at(redis_server.url) as hub, hub_at("") as plain:
        await scored(hub, 0)
        load = asyncio.gather(*(scored(hub, 1000 * k, 30) for k in range(1, 9)))
        await asyncio.sleep(0.05)
        redis_server.stop()
        await load
        await opens(hub, 20_000)
        assert await added_s(hub, plain, 30_000) < 0.001
        redis_server.start()
        assert await used_again(hub, dear)


@pytest.mark.parametrize("fault", ["full", "read-only", "wrong key type", "no password", "evicting"])
async def test_errors_of_the_server_are_misses(hub_at, redis_server, dear, fault):
    """T29: OOM, READONLY, WRONGTYPE and NOAUTH are misses that the hub counts; evictions are only misses."""
    async with hub_at(redis_server.url) as hub:
        await scored(hub, 0, 5)
        with sync_redis.Redis.from_url(redis_server.url) as admin:
            if fault == "full":
                admin.config_set("maxmemory", "1")
            elif fault == "read-only":
                admin.replicaof("127.0.0.1", "1")
            elif fault == "wrong key type":
                for key in admin.keys("rewardhub:score:*"):
                    admin.delete(key)
                    admin.lpush(key, "x")
            elif fault == "no password":
                admin.config_set("requirepass", "secret")
                admin.execute_command("AUTH", "secret")
                admin.client_kill_filter(_type="normal", skipme=True)
            else:
                admin.config_set("maxmemory-policy", "allkeys-lru")
                admin.config_set("maxmemory", "1")
            await scored(hub, 0, 20)
            await scored(hub, 100, 20)
            if fault == "no password":
                admin.config_set("requirepass", "")
            if fault == "read-only":
                admin.replicaof("NO", "ONE")
            admin.config_set("maxmemory", "0")
        if fault in {"full", "read-only", "no password"}:
            assert hub.scheduler.cache.redis.errors
        assert await used_again(hub, dear)


FAULTS = {
    "latency": {"latency_s": 0.5},
    "too slow": {"latency_s": 0.02},
    "stall": {"stall": True},
    "reset": {"reset_rate": 1.0},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_slow_and_half_open(hub_at, redis_server, dear, fault):
    """T28: 500 or 40 ms for an answer, none at all, or resets: the breaker opens, then a group costs nothing more."""
    async with (
        FaultProxy(redis_server.port) as proxy,
        hub_at(f"redis://127.0.0.1:{proxy.port}/0") as hub,
        hub_at("") as plain,
    ):
        await scored(hub, 0, 5)
        proxy.faults = Faults(**FAULTS[fault])
        await opens(hub, 1000)
        assert await added_s(hub, plain, 2000) < 0.001
        proxy.faults = Faults()
        proxy.drop()
        assert await used_again(hub, dear)


async def test_damaged_answers_are_misses(hub_at, redis_server, dear, monkeypatch):
    """Law 2: of answers that are cut, doubled, changed or exchanged on their way none is a score or a failure."""
    monkeypatch.setattr("rewardhub.cache.redis_store.PROBE_S", 0.02)
    async with (
        FaultProxy(redis_server.port) as proxy,
        hub_at(f"redis://127.0.0.1:{proxy.port}/0") as hub,
        hub_at(redis_server.url) as sound,
    ):
        await scored(sound, 0, 50)
        await sound.scheduler.cache.redis.drained()
        proxy.faults = Faults(damage_rate=0.3)
        for _ in range(4):
            await asyncio.gather(*(scored(hub, 10 * k, 10) for k in range(8)))
        assert hub.scheduler.cache.redis.errors
        proxy.faults = Faults()
        proxy.drop()
        assert await used_again(hub, dear)


@contextmanager
def disturbed(server, what):
    """A server that is disturbed again and again meanwhile, from a thread of its own."""
    over = threading.Event()

    def work():
        with sync_redis.Redis.from_url(server.url, socket_timeout=30) as admin:
            for turn in itertools.count():
                if over.wait(0.02):
                    return
                if what == "flushed":
                    admin.flushall()
                elif what == "paused":
                    admin.client_pause(100, all=bool(turn % 2))
                elif what == "killed":
                    admin.client_kill_filter(_type="normal", skipme=True)
                elif what == "busy":
                    admin.eval("local n = 0 for i = 1, 5000000 do n = n + i end return n", 0)
                elif what == "scripts refused":
                    admin.acl_setuser("default", enabled=True, nopass=True, commands=["-eval" if turn % 2 else "+eval"])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("what", ["flushed", "paused", "killed", "busy", "scripts refused"])
async def test_a_disturbed_server_costs_no_score(hub_at, redis_server, dear, what, monkeypatch):
    """R7: whatever happens to Redis under load, two hubs score all groups, each as it is."""
    monkeypatch.setattr("rewardhub.cache.redis_store.PROBE_S", 0.05)
    async with hub_at(redis_server.url) as hub, hub_at(redis_server.url) as other:
        with disturbed(redis_server, what):
            for start in range(3):
                loads = [scored(each, 10 * k + start, 10) for k in range(6) for each in (hub, other)]
                await asyncio.gather(*loads)
        with sync_redis.Redis.from_url(redis_server.url) as admin:
            admin.acl_setuser("default", enabled=True, nopass=True, commands=["+eval"])
            admin.client_unpause()
        assert await used_again(hub, dear)


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "allkeys-random", "volatile-ttl", "volatile-lfu"])
async def test_a_full_server_costs_no_score(hub_at, redis_server, dear, policy):
    """T29: whatever it throws away, leases before scores too, no score fails or is another's."""
    async with hub_at(redis_server.url) as hub, hub_at(redis_server.url) as other:
        await scored(hub, 0, 5)
        with sync_redis.Redis.from_url(redis_server.url) as admin:
            admin.config_set("maxmemory-policy", policy)
            admin.config_set("maxmemory", str(admin.info("memory")["used_memory"] + 20_000))
            await asyncio.gather(*(scored(each, 30 * k, 30) for k in range(4) for each in (hub, other)))
            admin.config_set("maxmemory", "0")
        assert await used_again(hub, dear)


@pytest.mark.parametrize("fault", [Faults(stall=True), Faults(latency_s=0.45), Faults(latency_s=0.2)])
async def test_a_group_waits_one_budget(hub_at, redis_server, dear, monkeypatch, fault):
    """T28: the calls of a look-up share one budget, here of 1 s, and leave time enough to compute."""
    monkeypatch.setattr("rewardhub.cache.redis_store.BUDGET_S", 1.0)
    async with FaultProxy(redis_server.port) as proxy, hub_at(f"redis://127.0.0.1:{proxy.port}/0") as hub:
        await scored(hub, 0, 5)
        proxy.faults = fault
        (seconds,) = await scored(hub, 1000, 1)
        assert seconds < 1.5
        proxy.faults = Faults(stall=True)
        (scores,) = await hub.score([Group("g", "late", (Response("a"),))], Call(recipe="dear", deadline_ms=800))
        assert scores.values == [oracle("late", "a")]
        assert dear.computed[-1] == "a"


async def test_an_answer_waits_for_no_write(hub_at, redis_server, dear, monkeypatch):
    """T28: when Redis stalls while a group is computed, its answer comes at once; it is stored when Redis goes on."""
    monkeypatch.setattr("rewardhub.cache.redis_store.BUDGET_S", 30.0)
    dear.gate = asyncio.Event()
    async with FaultProxy(redis_server.port) as proxy, hub_at(f"redis://127.0.0.1:{proxy.port}/0") as hub:
        scoring = asyncio.create_task(scored(hub, 0, 1))
        while not dear.computed:
            await asyncio.sleep(0.01)
        proxy.faults = Faults(stall=True)
        dear.gate.set()
        async with asyncio.timeout(10):
            await scoring
        assert stored(redis_server) == (0, 2)
        proxy.faults = Faults()
    assert stored(redis_server) == (2, 0)


async def test_the_gauge_says_whether_redis_answered(hub_at, redis_server):
    """0 until Redis was reached, 1 while it answers, 0 from its end until it answers again."""

    async def becomes(hub, wanted):
        async with asyncio.timeout(10):
            while f"rewardhub_redis_up {wanted}\n".encode() not in hub.metrics_text():
                await asyncio.sleep(0.02)

    redis_server.stop()
    async with hub_at(redis_server.url) as hub:
        for _ in range(5):
            assert b"rewardhub_redis_up 0.0\n" in hub.metrics_text()
            await asyncio.sleep(0.02)
        redis_server.start()
        await scored(hub, 0, 2)
        await becomes(hub, 1.0)
        redis_server.stop()
        await scored(hub, 10, 3)
        await becomes(hub, 0.0)
        await asyncio.sleep(1.2)  # by now it may be asked again, which says nothing of an answer
        assert b"rewardhub_redis_up 0.0\n" in hub.metrics_text()
    async with hub_at(redis_server.url) as hub:
        await scored(hub, 20, 1)
        await becomes(hub, 0.0)
