"""One computation for many who ask: in one hub and between hubs, with leaders that fail, go away or are slow."""

import asyncio

import pytest
import redis as sync_redis

from rewardhub.cache.lease import Lease
from rewardhub.cache.memory import MemoryStore
from rewardhub.cache.redis_store import RedisStore
from rewardhub.cache.store import Cache
from rewardhub.errors import Unavailable
from rewardhub.types import Column, Status


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """Nothing here is about how long Redis takes."""
    monkeypatch.setattr("rewardhub.cache.redis_store.BUDGET_S", 5.0)


@pytest.fixture
async def hubs(redis_server):
    """Makes caches over one Redis, each with a store of its own."""
    stores = []

    def make(count):
        made = [RedisStore(redis_server.url, ttl_s=60) for _ in range(count)]
        stores.extend(made)
        return [Cache(MemoryStore(1 << 20), store) for store in made]

    yield make
    for store in stores:
        await store.aclose()


class Work:
    """What computes rows: counts its runs, each of which ends when its turn comes, all with one value."""

    def __init__(self, *, status=Status.OK, version="v1"):
        self.runs = 0
        self.going = 0
        self.most = 0
        self.gate = asyncio.Event()
        self._status, self._version = status, version

    async def __call__(self, positions):
        self.runs += 1
        self.going += 1
        self.most = max(self.most, self.going)
        try:
            await self.gate.wait()
        finally:
            self.going -= 1
        value = 1.0 if self._status.is_verdict else None
        return Column([value] * len(positions), [self._status] * len(positions), self._version)


def ask(cache, work, patience_s=30.0, keys=(b"k",), mode="use"):
    return asyncio.create_task(cache.lookup(list(keys), mode, work, "v1", patience_s))


async def turns(count=20):
    """Lets everyone go on as far as it goes without the clock or the network."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    """Waits for something that comes soon; at most 20 s."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_leader_that_went_away_is_followed_by_one(hubs):
    """T30: the leader of 100 is cancelled: one of the others computes for all, and what it computes is cached."""
    cache, lost, work = Cache(MemoryStore(1 << 20)), Work(), Work()
    leader = ask(cache, lost)
    await turns()
    followers = [ask(cache, work) for _ in range(99)]
    await turns()
    leader.cancel()
    await turns()
    work.gate.set()
    answers = await asyncio.gather(*followers)
    assert (lost.runs, work.runs) == (1, 1)
    assert all(answer.values == [1.0] for answer in answers)
    assert (await ask(cache, work)).cached == [True]
    assert work.runs == 1


@pytest.mark.parametrize("status", [Status.TIMEOUT, Status.CANCELLED])
async def test_a_leader_without_time_is_followed_by_one(status):
    """T30: a leader whose own deadline passed says nothing of the input: one of 50 others computes for all."""
    cache, late, work = Cache(MemoryStore(1 << 20)), Work(status=status), Work()
    leader = ask(cache, late)
    await turns()
    followers = [ask(cache, work) for _ in range(50)]
    await turns()
    late.gate.set()
    assert (await leader).statuses == [status]
    work.gate.set()
    assert all(answer.values == [1.0] for answer in await asyncio.gather(*followers))
    assert (late.runs, work.runs) == (1, 1)


async def test_a_leader_that_failed_is_followed_by_one():
    """T30: where the leader failed one of its followers computes for all; none gets the leader's failure."""
    cache, failing, work = Cache(MemoryStore(1 << 20)), Work(status=Status.UNAVAILABLE), Work()
    leader = ask(cache, failing)
    await turns()
    followers = [ask(cache, work) for _ in range(9)]
    await turns()
    assert work.runs == 0
    failing.gate.set()
    assert (await leader).statuses == [Status.UNAVAILABLE]
    await turns()
    assert work.runs == 1
    work.gate.set()
    assert all(answer.values == [1.0] for answer in await asyncio.gather(*followers))
    assert work.runs == 1
    assert (await ask(cache, work)).cached == [True]


async def test_a_leader_that_raised_is_followed_by_one():
    """What a scorer raises is a failure of the rows that it was asked for, and of no others."""
    cache, work = Cache(MemoryStore(1 << 20)), Work()
    began = asyncio.Event()

    async def broken(positions):
        began.set()
        await asyncio.sleep(0)
        raise Unavailable("no room", retry_after_s=2.0)

    work.gate.set()
    assert (await ask(cache, work, keys=(b"known",))).values == [1.0]
    work.gate.clear()
    leader = ask(cache, broken, keys=(b"known", b"k"))
    await began.wait()
    followers = [ask(cache, work) for _ in range(9)]
    answer = await leader
    assert (answer.values, answer.statuses) == ([1.0, None], [Status.OK, Status.UNAVAILABLE])
    assert answer.row(1).details["retry_after_s"] == 2.0
    await turns()
    work.gate.set()
    assert all(answer.values == [1.0] for answer in await asyncio.gather(*followers))
    assert work.runs == 2


@pytest.mark.parametrize("status", [Status.UNAVAILABLE, Status.INTERNAL_ERROR, Status.JUDGE_UNPARSEABLE])
async def test_what_fails_whoever_computes_it_is_tried_twice(status):
    """T30: 50 followers of an input on which all fail wait for the leader and for one of them, not in a queue."""
    cache, poison = Cache(MemoryStore(1 << 20)), Work(status=status)
    twins = [ask(cache, poison) for _ in range(50)]
    for runs in (1, 2):
        await turns()
        assert (poison.runs, poison.going) == (runs, 1)
        poison.gate.set()
        await asyncio.sleep(0)
        poison.gate.clear()
    poison.gate.set()
    answers = await asyncio.gather(*twins)
    assert all(answer.statuses == [status] and answer.cached is None for answer in answers)
    assert poison.runs == 2
    assert (cache.hits, cache.misses) == (0, 50)


@pytest.mark.parametrize("status", [Status.REFERENCE_UNPARSEABLE, Status.INVALID_INPUT])
async def test_a_failure_of_the_input_is_shared(status):
    """T30: what is wrong with an input is told to all who wait for it, and is found again by who asks later."""
    cache, failing = Cache(MemoryStore(1 << 20)), Work(status=status)
    twins = [ask(cache, failing) for _ in range(10)]
    await turns()
    failing.gate.set()
    assert all(answer.statuses == [status] for answer in await asyncio.gather(*twins))
    assert failing.runs == 1
    await ask(cache, failing)
    assert failing.runs == 2


async def test_a_queue_of_leaders_that_went_away_keeps_no_deadline_waiting():
    """T30: of leaders each of which is cancelled, the next takes over; who has waited its time computes for itself."""
    cache, hung, work, loop = Cache(MemoryStore(1 << 20)), Work(), Work(), asyncio.get_running_loop()
    started = loop.time()
    leaders = [ask(cache, hung) for _ in range(20)]
    await turns()
    last = ask(cache, work, 0.5)
    work.gate.set()
    for leader in leaders:
        await asyncio.sleep(0.05)
        leader.cancel()
    assert (await last).values == [1.0]
    assert loop.time() - started < 3.0
    assert hung.runs > 2


async def test_a_slow_leader_is_overtaken_by_one():
    """T30: who has waited its patience computes itself, once for all who wait, and nobody waits for the leader."""
    cache, slow, work = Cache(MemoryStore(1 << 20)), Work(), Work()
    work.gate.set()
    leader = ask(cache, slow)
    await turns()
    followers = [ask(cache, work, patience) for patience in (0.1, 30.0, 30.0, 30.0)]
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*followers)
    assert all(answer.values == [1.0] for answer in answers)
    assert (slow.runs, work.runs) == (1, 1)
    assert not leader.done()
    slow.gate.set()
    assert (await leader).values == [1.0]


async def test_nothing_is_kept_of_what_is_over():
    """A leader that ended while who waits for it was at work elsewhere leaves nothing behind in memory."""
    cache, one, other = Cache(MemoryStore(1 << 20)), Work(), Work()
    first = ask(cache, one, keys=(b"a",))
    await turns()
    second = ask(cache, other, keys=(b"a", b"b"))
    await turns()
    one.gate.set()
    await first
    other.gate.set()
    assert (await second).values == [1.0, 1.0]
    assert not cache._flights
    assert not cache._wanted


async def test_nobody_waits_past_its_deadline():
    """T30: of five twins none of whose computations ends, each has begun its own before its deadline."""
    cache, hung, loop = Cache(MemoryStore(1 << 20)), Work(), asyncio.get_running_loop()
    started, patience_s = loop.time(), 1.0
    twins = [ask(cache, hung, patience_s) for _ in range(5)]
    await until(lambda: hung.runs == 5)
    assert loop.time() - started < 2 * patience_s
    for twin in twins:
        twin.cancel()


async def test_followers_of_another_version_compute_for_themselves():
    """T23: who waits for a computation that turns out to be of another version gets none of its rows."""
    cache, exchanged, same = Cache(MemoryStore(1 << 20)), Work(version="v2"), Work()
    first = ask(cache, exchanged)
    await turns()
    others = [ask(cache, same) for _ in range(5)]
    await turns()
    exchanged.gate.set()
    assert (await first).fingerprint == "v2"
    await turns()
    assert same.most == 5
    same.gate.set()
    assert all(each.fingerprint == "v1" for each in await asyncio.gather(*others))


async def test_hubs_share_one_computation(hubs):
    """T30: ten hubs ask for the same keys at once; each key is computed once in all."""
    computed = []

    async def compute(positions):
        computed.extend(positions)
        await asyncio.sleep(0.2)
        return Column([float(position) for position in positions], [Status.OK] * len(positions), "v1")

    tasks = [ask(cache, compute, keys=(b"k0", b"k1")) for cache in hubs(10)]
    answers = await asyncio.gather(*tasks)
    assert sorted(computed) == [0, 1]
    assert all(answer.values == [0.0, 1.0] for answer in answers)
    assert sum(answer.cached is None for answer in answers) == 1


async def test_hubs_share_one_computation_longer_than_a_lease(hubs, monkeypatch):
    """T30: a holder that lives renews its lease, and the others wait for what it computes."""
    monkeypatch.setitem(Lease.__init__.__kwdefaults__, "lease_ms", 600)
    work = Work()
    asked = [ask(cache, work) for cache in hubs(3) for _ in range(5)]
    await asyncio.sleep(2.0)
    assert work.runs == 1
    work.gate.set()
    assert all(answer.values == [1.0] for answer in await asyncio.gather(*asked))
    assert work.runs == 1


async def test_what_is_computed_anew_comes_from_no_cache(hubs):
    """A refresh takes no row that a twin in flight finds in Redis; refreshes at once share one computation."""
    first, second = hubs(2)
    old, new = Work(), Work()
    old.gate.set()
    await ask(first, old)
    await first.redis.drained()
    asked = [ask(second, new, mode=mode, keys=(b"k", b"k")) for mode in ("use", "refresh", "refresh")]
    await until(lambda: new.runs)
    new.gate.set()
    found, *refreshed = await asyncio.gather(*asked)
    assert (old.runs, new.runs, found.cached) == (1, 1, [True, True])
    assert [each.cached for each in refreshed] == [[False, True], [True, True]]


async def test_a_failure_of_another_hub_is_not_waited_out(hubs):
    """T30: where the hub that held a key failed, one of the four that wait computes it, at once."""
    first, *others = hubs(5)
    failing, work = Work(status=Status.UNAVAILABLE), Work()
    holder = ask(first, failing)
    await until(lambda: failing.runs)
    waiting = [ask(cache, work) for cache in others]
    await asyncio.sleep(0.1)
    assert work.runs == 0
    failing.gate.set()
    work.gate.set()
    assert (await holder).statuses == [Status.UNAVAILABLE]
    assert all(answer.values == [1.0] for answer in await asyncio.gather(*waiting))
    assert work.runs == 1


async def test_a_dead_holder_delays_only_for_a_lease(hubs):
    """A hub that claimed a key and died is waited for as long as its lease or one's patience, then no longer."""
    (cache,) = hubs(1)
    work = Work()
    work.gate.set()
    for key, lease_ms, patience_s in ((b"lease", 300, 30.0), (b"patience", 60_000, 0.3)):
        assert await cache.redis.claim([key], "dead", lease_ms, 5.0) == [True]
        async with asyncio.timeout(10):
            assert (await ask(cache, work, patience_s, [key])).values == [1.0]


async def test_leases_are_fenced(hubs, redis_server):
    """A holder that lost its lease does not end its successor's; a live holder's lease is renewed."""
    first, second = (cache.redis for cache in hubs(2))
    with sync_redis.Redis.from_url(redis_server.url) as admin:
        with Lease(first, 30.0, 1e9, lease_ms=500) as lease:
            assert await lease.claim([b"k"]) == ({}, [b"k"])
            await asyncio.sleep(1.2)
            with Lease(second, 30.0, 1e9, lease_ms=500) as refused:
                assert await refused.claim([b"k"]) == ({}, [])
            await second.drained()
            assert admin.exists("rewardhub:score:lease:k")
            admin.set("rewardhub:score:lease:k", "another")
        await first.drained()
        assert admin.get("rewardhub:score:lease:k") == b"another"


async def test_a_lease_ends_after_its_score_is_stored(hubs):
    """Whoever finds a key free finds its score too: the answer does not wait for either, and both are drained."""
    first, second = hubs(2)
    work = Work()
    work.gate.set()
    assert (await ask(first, work)).values == [1.0]
    await first.redis.aclose()
    ((value, *_),) = await second.redis.claim([b"k"], "other", 1000, 5.0)
    assert value == 1.0
    assert await second.redis.claim([b"free"], "other", 1000, 5.0) == [True]


async def test_two_hubs_that_failed_at_each_others_keys_wait_for_neither(hubs, redis_server):
    """T30: of two hubs each fails at what the other wants too; what has failed is free for the other at once."""
    first, second = hubs(2)
    failing, work, loop = Work(status=Status.UNAVAILABLE), Work(), asyncio.get_running_loop()
    work.gate.set()

    async def failing_first(positions):
        return await (failing if positions == [0] else work)(positions)

    assert await first.redis.claim([b"b"], "third", 60_000, 5.0) == [True]
    asked = [ask(first, failing_first, keys=(b"a", b"b"))]
    await until(lambda: failing.runs == 1)
    asked.append(ask(second, failing_first, keys=(b"b", b"a")))
    await asyncio.sleep(0.2)
    with sync_redis.Redis.from_url(redis_server.url) as admin:
        admin.delete("rewardhub:score:lease:b")
    await until(lambda: failing.runs == 2)
    started = loop.time()
    failing.gate.set()
    for answer in await asyncio.gather(*asked):
        assert answer.statuses == [Status.UNAVAILABLE, Status.OK]
    assert loop.time() - started < 1.5
