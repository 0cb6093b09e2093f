"""Hubs in this process, without models, and with a judge that answers by a script over a socket."""

import asyncio
import importlib.util
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.local import LocalHub
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


@pytest.fixture(scope="package")
def hub():
    """A hub on a thread of its own; the judge and the embedder may stand in a recipe but are never asked."""
    registry = default_registry(())
    for name in ("judge", "text_embedding"):
        registry.add(Given(name))
    with LocalHub(lambda: make_hub(HubConfig(workers=1), registry)) as local:
        yield local


@pytest.fixture
def score(hub):
    """Scores groups in one call."""

    async def run(recipe, *groups, inline="", inputs=None):
        call = Call(recipe=recipe, recipe_text=inline, inputs=inputs or {})
        return await asyncio.to_thread(hub.score, groups, call)

    return run
