"""A hub under more load than it can serve: goodput, refusals, and who is served first.

The hub and its two verifier workers are processes of their own; this process only sends. Arrivals are
Poisson, never wait for answers, and are timed from when they were due. A response occupies a worker for
5 ms without using the processor, as a model on a device of its own does, so that what is measured is the
hub and not two cores shared by everything. Every value is checked against the nonce oracle.

    .venv/bin/python -P tests/bench/overload.py [SECONDS]
"""

import asyncio
import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc

ROOT = Path(__file__).parent
sys.path += [str(ROOT), str(ROOT.parent / "chaos")]
from chaos_verifiers import oracle
from hub_process import cores, hardware, hub, report

from rewardhub.types import Call, Group, Response
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import reward_service_pb2_grpc as stubs
from rewardhub.wire import proto

WORK_MS = 5
QUEUE = 128
DEADLINE_MS = 2_000
RECIPE = f"name: waiting\nterms: {{t: {{scorer: pooled_nonce, with: {{wait_ms: {WORK_MS}}}}}}}\nvalue: t"
OK = 1
HUB_CORE, CLIENT_CORE = cores()


@dataclass
class Outcome:
    """``good`` responses were scored, each checked; latencies in seconds from when they were due, which includes
    what this process was ``late_s`` in sending them.
    """

    good: int = 0
    wrong: int = 0
    served_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def goodput(self) -> float:
        return self.good / self.seconds


def at(seconds: list[float], share: float) -> float:
    """A quantile in milliseconds; 0 where there is nothing."""
    ordered = sorted(seconds) or [0.0]
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Sender:
    """One stream of single responses; ``seed`` makes its ids and arrivals."""

    def __init__(self, stub, seed: int, priority: str = "online", size: int = 1) -> None:
        call = Call(recipe_text=RECIPE, deadline_ms=DEADLINE_MS, details=False, priority=priority)
        self._first = pb.ScoreStreamRequest(options=proto.call_to_proto(call))
        self._call = stub.ScoreStream()
        self._rng = random.Random(seed)
        self._seed, self._size = seed, size
        self._due: dict[str, float] = {}
        self._prompts: dict[str, str] = {}
        self._order = 0
        self.outcome = Outcome()

    async def run(self, rate: float, seconds: float) -> Outcome:
        """Sends ``rate`` groups per second for ``seconds`` and reads every answer."""
        await self._call.write(self._first)
        reading = asyncio.create_task(self._read())
        started = due = time.perf_counter()
        while due < started + seconds:
            if (left := due - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            await self._send(due)
            self.outcome.late_s.append(time.perf_counter() - due)
            due += self._rng.expovariate(rate)
        await self._call.done_writing()
        await reading
        self.outcome.seconds = max(time.perf_counter() - started, seconds)
        return self.outcome

    async def keep(self, count: int, stop: asyncio.Event) -> Outcome:
        """Keeps ``count`` groups under way until ``stop``: a bulk job that fills whatever is free."""
        await self._call.write(self._first)
        reading = asyncio.create_task(self._read())
        started = time.perf_counter()
        while not stop.is_set():
            while len(self._due) < count:
                await self._send(time.perf_counter())
            await asyncio.sleep(0.002)
        self.outcome.seconds = time.perf_counter() - started
        await self._call.done_writing()
        await reading
        return self.outcome

    async def _send(self, due: float) -> None:
        self._order += 1
        name = f"{self._seed}-{self._order}"
        prompt = f"prompt {self._rng.random()}"
        texts = tuple(Response(f"{name}/{k}") for k in range(self._size))
        self._due[name], self._prompts[name] = due, prompt
        await self._call.write(pb.ScoreStreamRequest(group=proto.group_to_proto(Group(name, prompt, texts))))

    async def _read(self) -> None:
        async for reply in self._call:
            now = time.perf_counter()
            for scores in reply.groups:
                self._check(scores, now - self._due.pop(scores.id), self._prompts.pop(scores.id))

    def _check(self, scores, seconds: float, prompt: str) -> None:
        total = scores.total
        if any(status != OK for status in total.statuses):
            self.outcome.refused_s.append(seconds)
            return
        expected = [oracle(prompt, f"{scores.id}/{k}") for k in range(self._size)]
        self.outcome.wrong += list(total.values) != expected
        self.outcome.good += len(expected)
        self.outcome.served_s.append(seconds)


def idle_s(core: int) -> float:
    """Seconds that a core has been idle."""
    with open("/proc/stat", encoding="utf-8") as lines:
        fields = next(line.split() for line in lines if line.startswith(f"cpu{core} "))
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


async def overload(stub, seconds: float) -> None:
    """Goodput at twice and five times the peak rate, and how fast what is too much is refused."""
    peak = max([(await Sender(stub, 1).run(rate, seconds)).goodput for rate in (250, 350, 450, 600)])
    calm = await Sender(stub, 2).run(0.8 * peak, seconds)
    print(f"peak {peak:,.0f}/s; at 80 %: p50 {at(calm.served_s, 0.5):.1f} ms, p99 {at(calm.served_s, 0.99):.1f} ms")
    report("overload.p99_over_p50_at_80_percent", at(calm.served_s, 0.99) / at(calm.served_s, 0.5), "p50 of the run")
    for factor in (2, 5):
        idle = idle_s(HUB_CORE)
        found = await Sender(stub, 10 + factor).run(factor * peak, seconds)
        busy = 1 - (idle_s(HUB_CORE) - idle) / found.seconds
        assert not found.wrong
        refused = len(found.refused_s)
        print(
            f"{factor}x: {found.goodput:,.0f}/s, {refused} refused, their p50 {at(found.refused_s, 0.5):.2f} ms; "
            f"sent late by {at(found.late_s, 0.99):.2f} ms (p99); the hub's core is {busy:.0%} busy"
        )
        report(f"overload.goodput_at_{factor}x", found.goodput / peak, "peak")
        report(f"overload.refusal_ms_p99_at_{factor}x", at(found.refused_s, 0.99), "(milliseconds)")


async def fairness(stub, seconds: float) -> None:
    """Online p99 while bulk fills every worker, against online alone."""
    alone = await Sender(stub, 20).run(50, seconds)
    stop = asyncio.Event()
    flood = asyncio.create_task(Sender(stub, 21, "bulk", 16).keep(16, stop))
    await asyncio.sleep(0.5)
    crowded = await Sender(stub, 22).run(50, seconds)
    stop.set()
    bulk = await flood
    assert not alone.wrong + crowded.wrong + bulk.wrong
    print(
        f"online p99: alone {at(alone.served_s, 0.99):.1f} ms, beside bulk {at(crowded.served_s, 0.99):.1f} ms; ",
        end="",
    )
    print(f"bulk {bulk.goodput:,.0f}/s")
    report("overload.online_p99_under_bulk", at(crowded.served_s, 0.99) / at(alone.served_s, 0.99), "online alone")


async def measured(address: str, check, seconds: float) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = stubs.RewardServiceStub(channel)
        await Sender(stub, 0).run(100, 3.0)  # starts the workers
        await check(stub, seconds)


def main(seconds: float) -> None:
    print(f"{hardware()}; {WORK_MS} ms per response, two workers, a queue of {QUEUE}")
    os.sched_setaffinity(0, {CLIENT_CORE})
    plugin = str(ROOT.parent / "chaos" / "chaos_verifiers.py")
    for check, queue in ((overload, QUEUE), (fairness, 100_000)):
        os.environ |= {"REWARDHUB_POOL_QUEUE": str(queue), "REWARDHUB_WORKERS": "2"}
        with hub("--plugin", plugin, core=HUB_CORE) as address:
            asyncio.run(measured(address["grpc"], check, seconds))


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else 5.0)
