"""The scripted judge server, and judges that ask it."""

import importlib.util
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from rewardhub.judges import JudgePool, JudgeSettings, judge_scorers

_spec = importlib.util.spec_from_file_location("scripted_judge", Path(__file__).with_name("scripted_judge.py"))
scripted_judge = importlib.util.module_from_spec(_spec)
sys.modules["scripted_judge"] = scripted_judge
_spec.loader.exec_module(scripted_judge)


@pytest.fixture
async def judges():
    """Starts servers with these scripts and gives one judge over all of them: (scorer, servers)."""
    async with AsyncExitStack() as stack:
        pool = JudgePool()
        await pool.start()
        stack.push_async_callback(pool.aclose)

        async def make(*scripts, **settings):
            servers = [await stack.enter_async_context(scripted_judge.ScriptedJudge(script)) for script in scripts]
            endpoints = [{"url": server.url, "model": "asked-for"} for server in servers]
            chosen = JudgeSettings.model_validate({"endpoints": endpoints} | settings)
            return judge_scorers([chosen], pool)[0], servers

        yield make
