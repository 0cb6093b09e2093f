"""A hub that ends answers whoever still waits, at once."""

import asyncio

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import Unavailable
from rewardhub.types import Call, Column, Group, Response, Status

PLUGIN = """
import time
from rewardhub.registry import verifier

def slow(response, reference):
    time.sleep(1.0)
    return 1.0

slow_pool = verifier("slow_pool", lane="pool", time_limit_s=10.0)(slow)
slow_sandbox = verifier("slow_sandbox", lane="sandbox", time_limit_s=10.0)(slow)
"""


@pytest.mark.parametrize("lane", ["pool", "sandbox"])
async def test_nobody_waits_for_a_lane_that_ended(tmp_path, lane):
    """T21: what a worker has in hand and what waits is unavailable once the hub is closed, and so is what comes later;
    no caller waits for its deadline."""
    plugin = tmp_path / "slow.py"
    plugin.write_text(PLUGIN)
    hub = make_hub(HubConfig(workers=1, sandbox_slots=1, plugins=(plugin,)))
    await hub.start()
    call = Call(recipe=f"slow_{lane}", deadline_ms=120_000)
    groups = [Group(f"g{n}", "p", tuple(Response(f"{n} {k}") for k in range(3))) for n in range(4)]
    asked = [asyncio.create_task(hub.score([group], call)) for group in groups]
    await asyncio.sleep(0.3)
    await hub.aclose()
    answers = await asyncio.wait_for(asyncio.gather(*asked), 20)
    statuses = [status for (scores,) in answers for status in scores.total.statuses]
    assert set(statuses) <= {Status.UNAVAILABLE, Status.OK} and statuses[-1] is Status.UNAVAILABLE
    with pytest.raises(Unavailable):
        await hub.score(groups, call)


async def test_a_drain_waits_for_open_groups(hub, dear):
    """T20, R8: an open group whose members are being scored is answered within the drain, and not cancelled after it."""
    dear.delay_s = 0.5
    opened = hub.open(Group("g", "p", (Response("a"), Response("b"))), Call(recipe="dear"))
    await hub.drain(20)
    await hub.aclose()
    scores = [score async for each in opened for score in each]
    assert [score.status for score in scores] == [Status.OK] * 2


async def test_a_drain_ends_with_its_grace(hub, dear):
    """T20: an open group that takes longer is cancelled with the hub."""
    dear.delay_s = 30
    opened = hub.open(Group("g", "p", (Response("a"),)), Call(recipe="dear"))
    async with asyncio.timeout(10):
        await hub.drain(0.3)
        await hub.aclose()
        scores = [score async for each in opened for score in each]
    assert [score.status for score in scores] == [Status.CANCELLED]


@pytest.mark.parametrize("size", [1, 3])
async def test_a_remote_scorer_answers_each_row(hub, dear, monkeypatch, size):
    """Law 2: a scorer that gives more or fewer scores than it was asked for gives none."""

    async def other(self, group, indices, context):
        return Column([0.5] * size, [Status.OK] * size, self.fingerprint)

    monkeypatch.setattr(type(dear), "score_remote", other)
    for cache in ("use", "bypass"):
        (scores,) = await hub.score([Group("g", "p", (Response("a"), Response("b")))], Call(recipe="dear", cache=cache))
        assert (scores.values, scores.total.statuses) == ([None] * 2, [Status.INTERNAL_ERROR] * 2)
        assert "one score each" in scores.total.details[0]["reason"]
