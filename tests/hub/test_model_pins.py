"""A run keeps the version of a model that it began with, whatever lies on the disk when a worker loads it again."""

import asyncio
import os
import shutil
import signal

import pytest
from safetensors.torch import load_file, save_file

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.types import Call, Group, Response, Status


@pytest.fixture
def card(tiny_card, tmp_path):
    """A card and a checkpoint of its own."""
    shutil.copytree(tiny_card.parent / "checkpoint", tmp_path / "checkpoint")
    return shutil.copy(tiny_card, tmp_path / "tiny.toml")


async def scored(hub, text="red", **call):
    (scores,) = await hub.score([Group("g", "p", (Response(text),))], Call(recipe="tiny", run="r", **call))
    return scores[0]


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def change(checkpoint):
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("score.weight"))
    save_file(tensors | {name: tensors[name] * 3}, checkpoint / "new", metadata={"format": "pt"})
    os.replace(checkpoint / "new", file)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["asleep", "killed"])
async def test_weights_that_changed_under_a_run(card, tmp_path, lost):
    """A worker that slept or died loads other weights: the run that waits for it gets no score of theirs."""
    hub = make_hub(HubConfig(workers=1, cards=(card,)))
    await hub.start()
    (lane,) = hub.scheduler.models
    first = await scored(hub)
    change(tmp_path / "checkpoint")
    pid = lane.pid
    if lost == "asleep":
        lane.sleep()
        await until(lambda: not lane.pid)
        asked = asyncio.create_task(scored(hub, "blue"))
    else:
        os.kill(pid, signal.SIGSTOP)  # so that it has work in hand when it dies
        asked = asyncio.create_task(scored(hub, "blue"))
        await until(lambda: lane.queued)
        os.kill(pid, signal.SIGKILL)
    refused = await asked
    assert (refused.value, refused.status) == (None, Status.INVALID_INPUT)
    assert refused.details["code"] == "pin_mismatch"
    assert first.fingerprint in refused.details["reason"]
    assert lane.fingerprint in refused.details["reason"]
    assert lane.fingerprint != first.fingerprint
    assert (await scored(hub, "green")).details["code"] == "pin_mismatch"
    other = Call(recipe="tiny", run="other")
    (scores,) = await hub.score([Group("g", "p", (Response("blue"),))], other)
    assert scores[0].status is Status.OK
    accepted = await scored(hub, "green", repin=True)
    assert (accepted.status, accepted.fingerprint) == (Status.OK, lane.fingerprint)
    assert (await scored(hub, "pink")).status is Status.OK
    await hub.aclose()


@pytest.mark.slow
async def test_a_run_that_began_before_its_model(card, tmp_path):
    """A run that asks while a model cannot be loaded pins the version that is loaded then, and no other after it."""
    (tmp_path / "checkpoint").rename(tmp_path / "later")
    hub = make_hub(HubConfig(workers=1, cards=(card,)))
    await hub.start()
    (lane,) = hub.scheduler.models
    assert (await scored(hub)).status is Status.UNAVAILABLE
    (tmp_path / "later").rename(tmp_path / "checkpoint")
    await until(lane.loaded.is_set)
    assert (await scored(hub)).status is Status.OK
    change(tmp_path / "checkpoint")
    lane.sleep()
    await until(lambda: not lane.pid)
    lane.loaded.clear()
    lane.wake()
    await until(lane.loaded.is_set)
    assert (await scored(hub)).details["code"] == "pin_mismatch"
    await hub.aclose()
