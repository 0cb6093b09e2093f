"""Random faults, seeded: whatever dies on the way, no score is wrong, lost, doubled or a silent number."""

import asyncio
import gc
import os
import random
import signal
import time
from pathlib import Path

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.registry import default_registry
from rewardhub.scorer import ScorerInfo
from rewardhub.types import Call, Column, Group, Response, Status

from .chaos_verifiers import oracle
from .fault_proxy import FaultProxy, Faults

PLUGIN = Path(__file__).parent / "chaos_verifiers.py"
MIXED = """
name: mixed
terms:
  a: {scorer: nonce}
  b: {scorer: pooled_nonce, when: "a > 0.9"}
value: "a + 0 * if_skipped(b, 0)"
"""


class DearNonce:
    """A remote scorer with the oracle's value: its results go through both cache tiers."""

    info = ScorerInfo(name="dear_nonce", family="reward_model", lane="model", cost="dear")
    params = {}
    fingerprint = "dear-nonce-1"

    def bind(self, params):
        return self

    async def score_remote(self, group, indices, context):
        await asyncio.sleep(0.001)
        values = [oracle(group.prompt, group.responses[index].text) for index in indices]
        return Column(values, [Status.OK] * len(values), self.fingerprint)


CALLS = [
    Call(recipe="dear_nonce"),
    Call(recipe="nonce"),
    Call(recipe_text=MIXED),
    Call(recipe="pooled_nonce", deadline_ms=4_000),
    Call(recipe="nonce", priority="bulk"),
]
WEIGHTS = [8, 8, 6, 1, 4]
REPEATS = 300
LEAST_KILLS = 5
LEAST_REDIS_ERRORS = 3


def group_of(seed, n):
    """The n-th group; one in two comes again later, so that caches answer."""
    n = n % REPEATS if n % 2 else n
    rng = random.Random(f"{seed}/{n}")
    size = rng.choice([1, 4, 8, 64])
    texts = [f"{n}/{k}/{rng.random()}" for k in range(size)]
    if rng.random() < 0.001:
        texts[0] = f"hang {n}"
    return Group(f"g{n}", f"p{rng.random()}", tuple(map(Response, texts)))


class Faulty:
    """Kills workers, breaks Redis, until stopped."""

    def __init__(self, hub, proxy, seed):
        self._hub, self._proxy, self._random = hub, proxy, random.Random(seed)
        self.kills = 0

    async def run(self):
        while True:
            await asyncio.sleep(self._random.uniform(0.01, 0.1))
            pick = self._random.random()
            pids = list(self._hub.scheduler.pool.pids)
            if pick < 0.5 and pids:
                self._signal(self._random.choice(pids), signal.SIGKILL)
            elif pick < 0.55 and pids:
                self._signal(self._random.choice(pids), signal.SIGSTOP)
            else:
                faults = [
                    Faults(),
                    Faults(stall=True),
                    Faults(reset_rate=0.2),
                    Faults(latency_s=0.2),
                    Faults(refuse=True),
                ]
                self._proxy.faults = self._random.choice(faults)

    def _signal(self, pid, which):
        try:
            os.kill(pid, which)
            self.kills += 1
        except ProcessLookupError:
            pass


class Tally:
    def __init__(self):
        self.responses = self.values = self.wrong = 0
        self.statuses = {}

    def add(self, group, scores):
        self.responses += len(group.responses)
        assert scores.id == group.id
        assert len(scores) == len(group.responses)
        for response, score in zip(group.responses, scores, strict=True):
            self.statuses[score.status] = self.statuses.get(score.status, 0) + 1
            if score.status is Status.OK:
                self.values += 1
                self.wrong += score.value != oracle(group.prompt, response.text)
            elif score.status is Status.OVER_LIMIT:
                self.wrong += not response.text.startswith("hang")
            else:
                self.wrong += score.value is not None


async def bombard(redis_url_port, count, seed):
    rng = random.Random(seed)
    tally = Tally()
    async with FaultProxy(redis_url_port, seed=seed) as proxy:
        config = HubConfig(workers=2, redis=f"redis://127.0.0.1:{proxy.port}/0", plugins=(PLUGIN,), cache_mb=4)
        registry = default_registry([PLUGIN])
        registry.add(DearNonce())
        hub = make_hub(config, registry)
        await hub.start()
        faulty = Faulty(hub, proxy, seed)
        breaking = asyncio.create_task(faulty.run())
        slots = asyncio.Semaphore(64)

        async def one(n):
            async with slots:
                group, call = group_of(seed, n), rng.choices(CALLS, WEIGHTS)[0]
                task = asyncio.create_task(hub.score([group], call))
                if rng.random() < 0.02:
                    await asyncio.sleep(rng.uniform(0, 0.01))
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    return
                tally.add(group, (await task)[0])

        def rough_enough():
            """A fast machine goes on until enough went wrong for the run to mean something."""
            return faulty.kills > LEAST_KILLS and hub.scheduler.cache.redis.errors > LEAST_REDIS_ERRORS

        n = 0
        while tally.responses < count or not (rough_enough() or tally.responses > 20 * count):
            await asyncio.gather(*(one(n + k) for k in range(256)))
            n += 256
        breaking.cancel()
        tally.hits, tally.redis_errors = hub.scheduler.cache.hits, hub.scheduler.cache.redis.errors
        await hub.aclose()
    return tally, faulty


def usage():
    gc.collect()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    memory = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return len(os.listdir("/proc/self/fd")), len(children), memory


@pytest.mark.parametrize(
    "count", [pytest.param(30_000, id="fast"), pytest.param(1_000_000, id="million", marks=pytest.mark.slow)]
)
@pytest.mark.timeout(1800)
async def test_no_wrong_score_under_random_faults(redis_server, count):
    """R1, R2: workers killed and stopped, Redis stalled, reset and refused, calls cancelled: 0 wrong."""
    await bombard(redis_server.port, 5_000, seed=1)
    fds, children, memory = usage()
    started = time.monotonic()
    tally, faulty = await bombard(redis_server.port, count, seed=7)
    after = usage()
    print(
        f"{tally.responses} responses in {time.monotonic() - started:.0f} s, {faulty.kills} kills, "
        f"{tally.hits} hits, {tally.redis_errors} redis errors, {tally.statuses}"
    )
    assert tally.wrong == 0
    assert tally.responses >= count
    assert tally.values > 0.95 * tally.responses
    assert faulty.kills > LEAST_KILLS
    assert tally.hits > 100
    assert tally.redis_errors > LEAST_REDIS_ERRORS
    assert after[0] <= fds + 8
    assert after[1] <= children
    assert after[2] - memory < 32e6 + 10 * (count / 1e5) * 1e6
