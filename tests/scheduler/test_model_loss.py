"""A real, tiny reward model whose worker is killed, stopped, hangs or finds no memory: when it is found, who goes on."""

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.registry import Registry
from rewardhub.types import Blame, Call, Group, Response, Status

VERIFIERS = Path(__file__).with_name("pool_verifiers.py")
CALL = Call(recipe="tiny", cache="bypass")
FOUND_S = 5.5
"""R6 asks for 5 s; the rest is what this test takes to see it on a busy machine."""

FAULTS = """
import os, sys, time
if "rewardhub.scheduler.model_worker" in sys.orig_argv:
    import torch
    embed = torch.nn.Embedding.forward
    def forward(self, ids):
        if os.path.exists("{folder}/hang"):
            os.unlink("{folder}/hang")
            time.sleep(1000)
        if os.path.exists("{folder}/spin"):
            os.unlink("{folder}/spin")
            while True:
                torch.ones(8).sum()
        until = time.monotonic() + 2.0
        while os.path.exists("{folder}/slow") and time.monotonic() < until:
            pass
        if os.path.exists("{folder}/full"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return embed(self, ids)
    torch.nn.Embedding.forward = forward
"""


@pytest.fixture
async def hub(tiny_card, tmp_path, monkeypatch):
    """A hub whose model is loaded, and a verifier beside it; the files ``hang``, ``spin``, ``slow`` and ``full`` in
    ``tmp_path`` are felt by the model's worker."""
    async with faulty_hub(tiny_card, tmp_path, monkeypatch) as hub:
        yield hub


@asynccontextmanager
async def faulty_hub(card, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(FAULTS.format(folder=tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    registry = Registry()
    registry.load_file(VERIFIERS)
    hub = make_hub(HubConfig(workers=1, cards=(card,), plugins=(VERIFIERS,)), registry)
    await hub.start()
    await hub.scheduler.models[0].settled()
    try:
        yield hub
    finally:
        await hub.aclose()


def groups_of(count, words=3):
    return [Group(f"g{n}", f"p{n}", tuple(Response(f"{n} {k} red " * words) for k in range(4))) for n in range(count)]


def ask(hub, groups):
    return [asyncio.create_task(hub.score([group], CALL)) for group in groups]


async def all_ok(tasks):
    for (scores,) in await asyncio.gather(*tasks):
        assert set(scores.total.statuses) == {Status.OK}, scores.total.details


async def until(condition):
    """Seconds until it holds."""
    started = time.monotonic()
    while not condition():
        await asyncio.sleep(0.02)
    return time.monotonic() - started


async def other_verifiers_score(hub):
    (scores,) = await hub.score([Group("v", "p", (Response("four"),))], Call(recipe="obedient"))
    assert scores.values == [0.04]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_killed_worker(hub):
    """T17: not ready within 2 s of the kill, ready again within the time of a load and 5 s; other verifiers score
    meanwhile, and no group of the model is without its scores."""
    lane = hub.scheduler.models[0]
    lane.sleep()
    await until(lambda: not lane.pid)
    lane.loaded.clear()
    lane.wake()
    load_s = await until(lambda: not hub.ready())
    tasks = ask(hub, groups_of(40, words=60))
    await until(lambda: lane.queued)
    os.kill(lane.pid, signal.SIGKILL)
    assert await until(hub.ready) < 2.0
    started = time.monotonic()
    await other_verifiers_score(hub)
    assert hub.ready() == ["tiny is not loaded"]
    await until(lambda: not hub.ready())
    assert time.monotonic() - started < 2 * load_s + 5.0
    await all_ok(tasks)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_idle_workers_killed_one_after_another(hub, monkeypatch):
    """Losses that lie far apart are no row of failures: each time the model is back as after the first."""
    monkeypatch.setattr("rewardhub.scheduler.model_lane.BACKOFF_S", (0.0, 0.0, 600.0))
    monkeypatch.setattr("rewardhub.scheduler.model_lane.STEADY_S", 0.0)
    lane = hub.scheduler.models[0]
    for _ in range(2):
        os.kill(lane.pid, signal.SIGKILL)
        await until(hub.ready)
        await until(lambda: not hub.ready())
    await all_ok(ask(hub, groups_of(1)))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["stopped", "stopped at work", "hung", "hung at work", "spins", "spins at work"])
async def test_a_worker_that_stops_or_hangs(hub, tmp_path, fault):
    """T18, R6: found within 5 s, be it stopped, hung in a forward or busy for ever, idle or with a batch in hand; in
    its place another does the work."""
    lane = hub.scheduler.models[0]
    await all_ok(ask(hub, groups_of(1)))
    lost = lane.pid
    felt = tmp_path / {"h": "hang", "s": "spin"}[fault[0]]
    if not fault.startswith("stopped"):
        felt.touch()
    tasks = ask(hub, groups_of(40, words=100)) if fault.endswith("at work") else []
    if not fault.startswith("stopped"):
        await until(lambda: not felt.exists())
    else:
        await asyncio.sleep(0.2)
        os.kill(lost, signal.SIGSTOP)
    assert not any(task.done() for task in tasks[-1:])
    assert await until(lambda: lane.pid != lost) < FOUND_S
    await all_ok(tasks or ask(hub, groups_of(1)))


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_batch_may_take_long(hub, tmp_path):
    """R6: a batch of which each part takes two seconds where it took milliseconds is left alone: it gets on."""
    lane = hub.scheduler.models[0]
    pid, started = lane.pid, time.monotonic()
    (tmp_path / "slow").touch()
    await all_ok(ask(hub, groups_of(8, words=150)))
    assert time.monotonic() - started > 2 * FOUND_S
    assert lane.pid == pid


ENSEMBLE = 'name = "tiny"\nkind = "ensemble"\n[ensemble]\nmembers = ["{model}"]\n'


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_idle_ensemble_has_a_heartbeat(tiny_card, tmp_path, monkeypatch):
    """T18, R6: what scores with the rows of others is found within 5 s of scoring no more, too."""
    card = tmp_path / "tiny.toml"
    card.write_text(ENSEMBLE.format(model=tiny_card))
    async with faulty_hub(card, tmp_path, monkeypatch) as hub:
        lane = hub.scheduler.models[0]
        lost = lane.pid
        (tmp_path / "hang").touch()
        await until(lambda: not (tmp_path / "hang").exists())
        assert await until(lambda: lane.pid != lost) < FOUND_S


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_device_that_is_full(hub, tmp_path):
    """T19, law 1: what finds no memory on a fresh worker, as beside a trainer, is unavailable, never a number, and
    not remembered: once there is memory again the same worker scores it."""
    lane = hub.scheduler.models[0]
    (tmp_path / "full").touch()
    pid, call = lane.pid, Call(recipe="tiny")
    (scores,) = await hub.score(groups_of(1), call)
    assert scores.values == [None] * 4
    assert {(score.status, score.blame, score.retryable) for score in scores} == {
        (Status.UNAVAILABLE, Blame.SYSTEM, True)
    }
    assert "memory" in scores[0].details["reason"]
    assert scores[0].details["retry_after_s"] > 0
    await asyncio.sleep(2)  # a heartbeat or two without memory
    (tmp_path / "full").unlink()
    (scores,) = await hub.score(groups_of(1), call)
    assert set(scores.total.statuses) == {Status.OK}
    assert not scores[0].cached
    assert lane.pid == pid
