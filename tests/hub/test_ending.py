"""A hub that ends answers whoever still waits, at once."""

import asyncio

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import Unavailable
from rewardhub.types import Call, Group, Response, Status

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
