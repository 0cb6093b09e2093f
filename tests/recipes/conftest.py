"""Hubs in this process, without models, and with a judge that answers by a script over a socket."""

import importlib.util
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.recipe_check import Given
from rewardhub.registry import default_registry
from rewardhub.types import Call

if "scripted_judge" not in sys.modules:
    _file = Path(__file__).parents[1] / "judges" / "scripted_judge.py"
    _spec = importlib.util.spec_from_file_location("scripted_judge", _file)
    sys.modules["scripted_judge"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["scripted_judge"])


@pytest.fixture
def judging():
    """Gives ``async with judging(script) as (hub, server)``: the judge of the hub asks the server."""
    from scripted_judge import ScriptedJudge

    @asynccontextmanager
    async def run(script):
        async with ScriptedJudge(script) as server:
            endpoints = [{"url": server.url, "model": "judge"}]
            judge = {"endpoints": endpoints, "vision": True, "attempts": 2, "timeout_s": 10.0}
            hub = make_hub(HubConfig(workers=1, judges=(judge,)))
            await hub.start()
            try:
                yield hub, server
            finally:
                await hub.aclose()

    return run


@pytest.fixture
async def score():
    """Scores groups in one call; the scorers named ``absent`` may stand in a recipe but are never asked."""
    hubs = []

    async def run(recipe, *groups, inline="", inputs=None, absent=("judge", "text_embedding")):
        registry = default_registry(())
        for name in absent:
            registry.add(Given(name))
        hubs.append(make_hub(HubConfig(workers=1), registry))
        await hubs[-1].start()
        return await hubs[-1].score(groups, Call(recipe=recipe, recipe_text=inline, inputs=inputs or {}))

    yield run
    for hub in hubs:
        await hub.aclose()
