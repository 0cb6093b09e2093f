"""Hubs as processes that share one Redis: single flight between them, and what a dead or late partner costs."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from rewardhub.client import AsyncClient
from rewardhub.types import Call, Group, Response

sys.path.append(str(Path(__file__).parents[1] / "chaos"))
from fault_proxy import FaultProxy, Faults

DEAR = """
import os, time
from rewardhub.registry import verifier

@verifier("dear", lane="sandbox")
def dear(response, reference, *, log: str, seconds: float) -> float:
    with open(log, "a") as lines:
        lines.write(f"{os.getpid()} {response.text}\\n")
    time.sleep(seconds)
    return len(response.text) / 100
"""


@pytest.fixture
def dear(tmp_path):
    """The arguments of a hub with a dear scorer, the call that asks it, and the log of what was executed."""
    plugin, log = tmp_path / "dear.py", tmp_path / "log"
    plugin.write_text(DEAR)
    log.touch()

    def call(seconds, deadline_ms=20_000):
        text = f"name: d\nterms: {{t: {{scorer: dear, with: {{log: {log}, seconds: {seconds}}}}}}}\nvalue: t"
        return Call(recipe_text=text, deadline_ms=deadline_ms)

    return ("--plugin", str(plugin)), call, log


def one(text):
    return Group("g", "p", (Response(text),))


@pytest.mark.slow
async def test_a_killed_leader_costs_its_followers_a_lease(serve, redis_server, dear):
    """T30: two hubs asked at once execute once; where the one that computes is killed, the other computes itself."""
    arguments, call, log = dear
    arguments += ("--redis", redis_server.url)
    with serve(*arguments, code=None) as first, serve(*arguments) as second:
        async with (
            AsyncClient(f"grpc://{first.grpc}", on_failure="none", retries=0) as leader,
            AsyncClient(f"grpc://{second.grpc}", on_failure="none", retries=0) as follower,
        ):

            async def both(text, seconds):
                leading = asyncio.create_task(leader.score([one(text)], call(seconds)))
                while text not in log.read_text():
                    await asyncio.sleep(0.01)
                return leading, asyncio.create_task(follower.score([one(text)], call(seconds)))

            leading, following = await both("shared", 0.5)
            assert [(await each)[0].values for each in (leading, following)] == [[0.06], [0.06]]
            assert log.read_text().split() == [str(first.pid), "shared"]
            leading, following = await both("orphaned", 1.5)
            await asyncio.sleep(0.2)
            os.kill(first.pid, signal.SIGKILL)
            started = time.monotonic()
            (scores,) = await following
            assert scores.values == [0.08]
            assert time.monotonic() - started < 10
            assert log.read_text().split()[2:] == [str(first.pid), "orphaned", str(second.pid), "orphaned"]
            leading.cancel()


async def test_redis_that_is_late_and_comes_and_goes(serve, redis_server, dear):
    """T28: 50 ms late, then away and back five times: every score is right, none takes as long as its deadline."""
    arguments, call, _ = dear
    async with FaultProxy(redis_server.port) as proxy:
        with serve(*arguments, "--redis", f"redis://127.0.0.1:{proxy.port}/0") as hub:
            async with AsyncClient(f"grpc://{hub.grpc}", retries=0) as client:
                for turn in range(10):
                    proxy.faults = Faults(latency_s=0.05) if turn % 2 == 0 else Faults(refuse=True)
                    if turn % 2:
                        proxy.drop()
                    texts = [f"{turn} {'x' * n}" for n in range(8)]
                    answers = await asyncio.gather(*(client.score([one(text)], call(0, 5_000)) for text in texts))
                    assert [scores.values for (scores,) in answers] == [[len(text) / 100] for text in texts]
