"""Random calls, cancellations, deadlines, kills and reloads, seeded: in the end nothing is counted that is not there."""

import asyncio
import gc
import os
import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import ConfigError, RewardHubError
from rewardhub.registry import Registry
from rewardhub.reload import Reload
from rewardhub.types import Call, Group, Response, Status

from .chaos_verifiers import oracle

PLUGIN = Path(__file__).parent / "chaos_verifiers.py"
BOTH = "name: both\nterms: {{a: {{scorer: {pooled}}}, b: {{scorer: tiny}}}}\nvalue: a + 0 * b"
POOLED = "pooled_nonce"
GROUP_WIDE = "name: wide\nterms: {a: {scorer: nonce}}\nvalue: a - g_mean(a)"
CALLS = (
    {"recipe": "tiny"}, {"recipe": "tiny", "cache": "bypass"}, {"recipe": POOLED},
    {"recipe_text": BOTH.format(pooled=POOLED)}, {"recipe": "nonce"}, {"recipe_text": GROUP_WIDE},
)  # fmt: skip
FAILED = {Status.TIMEOUT, Status.UNAVAILABLE, Status.CANCELLED, Status.INCOMPLETE_GROUP}


class Chaos:
    """``answers`` counts what was asked and what came back of it."""

    def __init__(self, hub, config, card, seed):
        self.hub, self.config, self.card, self.random = hub, config, card, random.Random(seed)
        self.asked = self.answered = self.given_up = self.kills = self.reloads = 0

    def call(self):
        deadline = self.random.choice([1, 30, 300, 120_000, 120_000, 120_000])
        priority = self.random.choice(["online", "bulk"])
        return Call(**self.random.choice(CALLS), deadline_ms=deadline, priority=priority)

    def group(self, n, expected=0):
        texts = [f"{n} {k} red" for k in range(self.random.choice([1, 4, 12]))]
        reference = {"answer": "y" * 50_000} if self.random.random() < 0.2 else {}
        return Group(f"g{n}", f"p{n}", tuple(map(Response, texts)), reference, expected=expected)

    def check(self, group, call, scores):
        self.answered += 1
        assert (scores.id, len(scores)) == (group.id, len(group.responses))
        for response, score in zip(group.responses, scores, strict=True):
            if score.status is not Status.OK:
                twice = score.status is Status.INTERNAL_ERROR and "lost 2 workers" in str(score)
                assert score.status in FAILED or twice, score
                assert score.value is None
            elif call.recipe in {"nonce", POOLED}:
                assert score.value == oracle(group.prompt, response.text)

    async def whole(self, n):
        group, call, tenant = self.group(n), self.call(), self.random.choice("abc")
        self.asked += 1
        task = asyncio.create_task(self.hub.score([group], call, tenant=tenant))
        if self.random.random() < 0.25:
            await asyncio.sleep(self.random.uniform(0, 0.1))
            task.cancel()
        try:
            (scores,) = await task
        except asyncio.CancelledError:
            self.given_up += 1
        else:
            self.check(group, call, scores)

    async def opened(self, n):
        group, call = self.group(n), self.call()
        handle = self.hub.open(Group(group.id, group.prompt), call)
        self.asked += 1
        ends = self.random.choice([handle.close, handle.close, handle.cancel])
        with suppress(RewardHubError):  # its deadline passed
            for response in group.responses:
                handle.add([response])
                await asyncio.sleep(self.random.uniform(0, 0.02))
            ends()
        rows = 0
        async for scores in handle:
            rows += len(scores)
        assert rows == len(handle.group.responses)
        self.answered += 1

    async def member(self, n):
        group = self.group(n, expected=30)
        self.asked += 1
        task = asyncio.create_task(self.hub.score([group], Call(recipe="nonce", deadline_ms=200)))
        if self.random.random() < 0.5:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self.answered += 1

    async def kill(self):
        """A worker of the pool every now and then, a model's twice."""
        while True:
            await asyncio.sleep(self.random.uniform(0.05, 0.3))
            lane = self.hub.scheduler.models[0]
            pids = list(self.hub.scheduler.pool.pids)
            if self.kills == 7 and lane.pid:
                pids = [lane.pid]
            if pids:
                with suppress(ProcessLookupError):
                    os.kill(
                        self.random.choice(pids), self.random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP])
                    )
                self.kills += 1

    async def reload(self):
        await asyncio.sleep(1.0)
        self.card.write_text(self.card.read_text() + "token_budget = 700\n")
        with suppress(ConfigError):  # the worker was killed while it loaded: it is tried again
            await self.hub.reload()
        await self.hub.reload()
        self.reloads += 1


def counted(hub):
    """All that is counted while work is in hand."""
    scheduler = hub.scheduler
    lanes = [*scheduler.models, *(each for each in scheduler.leaving if hasattr(each, "_waiting"))]
    pools = [scheduler.pool, *(each for each in scheduler.leaving if hasattr(each, "_beginnings"))]
    return {
        "calls": hub._running, "responses": hub._responses, "open": len(hub._opened),
        "members": hub._opened.responses, "users": hub.book.users, "programs": scheduler.programs.count,
        "lanes": sum(lane.queued for lane in lanes), "pool": sum(pool.queued for pool in pools),
        "beginnings": sum(len(pool._beginnings) for pool in pools),
        "leaving": len(scheduler.leaving),
    }  # fmt: skip


def held():
    """Descriptors, children and threads of this process, but for those of the loop's own executor."""
    gc.collect()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    threads = [each.name for each in threading.enumerate() if not each.name.startswith("asyncio")]
    return len(os.listdir("/proc/self/fd")), len(children), sorted(threads)


async def bombard(hub, config, card, seed):
    """Ends once all that was asked is answered and nothing is counted any more."""
    await hub.start()
    chaos = Chaos(hub, config, card, seed)
    killing, reloading = asyncio.create_task(chaos.kill()), asyncio.create_task(chaos.reload())
    works = [chaos.whole, chaos.whole, chaos.whole, chaos.opened, chaos.member]
    count = 0
    while count < 240 or (chaos.kills <= 10 and count < 10_000):  # the faster the machine, the more
        await asyncio.gather(*(chaos.random.choice(works)(n) for n in range(count, count + 40)))
        count += 40
    killing.cancel()
    await reloading
    started = time.monotonic()
    while any(counted(hub).values()) and time.monotonic() - started < 60:
        await asyncio.sleep(0.1)
    assert not {name: count for name, count in counted(hub).items() if count}
    waiting = [line for line in hub.metrics_text().decode().splitlines() if line.startswith("rewardhub_queued_")]
    assert waiting
    assert all(line.endswith(" 0.0") for line in waiting)
    assert chaos.asked == chaos.answered + chaos.given_up == count
    assert chaos.kills > 10
    assert chaos.reloads == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
async def test_nothing_is_left(tiny_card, tmp_path, seed, monkeypatch):
    """R1, T04, T16, T17, T21, T23: every caller is answered once; no count, task, thread, descriptor or child stays."""
    monkeypatch.setattr("rewardhub.open_groups.LINGER_S", 0.5)
    card = tmp_path / "tiny.toml"
    card.write_text(tiny_card.read_text().replace("checkpoint", str(tiny_card.parent / "checkpoint")))
    before, tasks = held(), asyncio.all_tasks()
    config = HubConfig(workers=2, cards=(card,), plugins=(PLUGIN,))
    registry = Registry()
    registry.load_file(PLUGIN)
    hub = make_hub(config, registry)
    hub.reloader = Reload(hub, config, lambda: config)
    try:
        await bombard(hub, config, card, seed)
    finally:
        await hub.aclose()
    await asyncio.sleep(0.5)
    assert asyncio.all_tasks() == tasks
    after = held()
    assert after[1:] == before[1:]
    assert after[0] <= before[0] + 2  # what modules open that were imported meanwhile
