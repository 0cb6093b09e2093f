"""The scheduler's own cost: latency added to a lone request, fairness under bulk load, goodput when overloaded.

In process, with verifier workers; every value is checked against the nonce oracle.

    .venv/bin/python -P tests/bench/scheduler.py
"""

import asyncio
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent
sys.path += [str(ROOT), str(ROOT.parent / "chaos")]
from chaos_verifiers import oracle
from hub_process import hardware, report

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.hub import Hub
from rewardhub.registry import default_registry
from rewardhub.types import Call, Group, Response, Status

PLUGIN = ROOT.parent / "chaos" / "chaos_verifiers.py"
BUSY_MS = 5
RECIPE = f"name: busy\nterms: {{t: {{scorer: pooled_nonce, with: {{busy_ms: {BUSY_MS}}}}}}}\nvalue: t"


def group_of(n: int, size: int = 1) -> Group:
    return Group(f"g{n}", f"prompt {n}", tuple(Response(f"{n}/{k}") for k in range(size)))


def at(seconds: list[float], share: float) -> float:
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def lone(hub: Hub) -> None:
    """A request when nothing else runs, against the direct call of the same scorer."""
    bound = hub.book.registry.get("nonce").bind({})
    direct, scored = [], []
    for n in range(3000):
        group = group_of(n)
        started = time.perf_counter()
        value = bound.score(group, [0]).values[0]
        direct.append(time.perf_counter() - started)
        started = time.perf_counter()
        (scores,) = await hub.score([group], Call(recipe="nonce"))
        scored.append(time.perf_counter() - started)
        assert scores.values == [value] == [oracle(group.prompt, group.responses[0].text)]
    print(
        f"lone request: direct p50 {at(direct, 0.5):.3f} ms, hub p50 {at(scored, 0.5):.3f} p99 {at(scored, 0.99):.3f} ms"
    )
    report("scheduler.lone_added_ms_p50", at(scored, 0.5) - at(direct, 0.5), "direct call")
    report("scheduler.lone_added_ms_p99", at(scored, 0.99) - at(direct, 0.5), "direct call")


async def trickle(hub: Hub, count: int) -> list[float]:
    """Online requests, one every 20 ms."""
    seconds: list[float] = []

    async def one(n: int) -> None:
        group = group_of(1_000_000 + n)
        started = time.perf_counter()
        (scores,) = await hub.score([group], Call(recipe_text=RECIPE, priority="online"), tenant="online")
        seconds.append(time.perf_counter() - started)
        assert scores.values == [oracle(group.prompt, group.responses[0].text)]

    tasks = []
    for n in range(count):
        tasks.append(asyncio.create_task(one(n)))
        await asyncio.sleep(0.02)
    await asyncio.gather(*tasks)
    return seconds


async def fairness(hub: Hub) -> None:
    """Online p99 while bulk fills every worker, against online alone."""
    alone = await trickle(hub, 200)
    stop = asyncio.Event()
    done = 0

    async def flood(k: int) -> None:
        nonlocal done
        n = 0
        while not stop.is_set():
            call = Call(recipe_text=RECIPE, priority="bulk")
            (scores,) = await hub.score([group_of(k * 1_000_000 + n, 16)], call, tenant="bulk")
            done += scores.total.statuses.count(Status.OK)
            n += 1

    floods = [asyncio.create_task(flood(k)) for k in range(2, 18)]
    await asyncio.sleep(0.5)
    before, started = done, time.perf_counter()
    crowded = await trickle(hub, 200)
    rate = (done - before) / (time.perf_counter() - started)
    stop.set()
    await asyncio.gather(*floods)
    print(
        f"online p99: alone {at(alone, 0.99):.1f} ms, under bulk {at(crowded, 0.99):.1f} ms; bulk {rate:,.0f}/s meanwhile"
    )
    report("scheduler.online_p99_under_bulk", at(crowded, 0.99) / at(alone, 0.99), "online alone")


async def offered(hub: Hub, rate: float, seconds: float, seed: int) -> tuple[float, list[float], int]:
    """Goodput, latencies of refusals and refusals, at an open-loop rate of single responses."""
    rng = random.Random(seed)
    refusals: list[float] = []
    good = 0

    async def one(n: int) -> None:
        nonlocal good
        group = group_of(n)
        started = time.perf_counter()
        (scores,) = await hub.score([group], Call(recipe_text=RECIPE, deadline_ms=2000))
        if scores[0].status is Status.UNAVAILABLE:
            refusals.append(time.perf_counter() - started)
        elif scores[0].status is Status.OK:
            good += 1
            assert scores.values == [oracle(group.prompt, group.responses[0].text)]

    tasks = set()
    started = due = time.perf_counter()
    n = seed * 10_000_000
    while due < started + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(n))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += rng.expovariate(rate)
        n += 1
    await asyncio.gather(*tasks)
    return good / (time.perf_counter() - started), refusals, n


async def overload(hub: Hub) -> None:
    """Goodput at twice and five times the peak rate, and how fast what is too much is refused."""
    peak = max([(await offered(hub, rate, 3, 1))[0] for rate in (300, 400, 500)])
    for factor in (2, 5):
        good, refusals, _ = await offered(hub, factor * peak, 4, factor)
        print(
            f"{factor}x: goodput {good:,.0f}/s of {peak:,.0f}/s; {len(refusals)} refused, p99 {at(refusals or [0], 0.99):.2f} ms"
        )
        report(f"scheduler.goodput_at_{factor}x", good / peak, "peak")


async def main() -> None:
    print(f"{hardware()}; verifier work of {BUSY_MS} ms per response")
    hub = make_hub(HubConfig(pool_queue=128), default_registry([PLUGIN]))
    await hub.start()
    await lone(hub)
    await hub.aclose()
    for check, queue in ((fairness, 100_000), (overload, 128)):
        config = HubConfig(pool_queue=queue, plugins=(PLUGIN,))
        hub = make_hub(config)
        await hub.start()
        await hub.score([group_of(n) for n in range(50)], Call(recipe_text=RECIPE))
        await check(hub)
        await hub.aclose()


if __name__ == "__main__":
    asyncio.run(main())
