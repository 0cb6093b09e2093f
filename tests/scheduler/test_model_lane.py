"""The model worker with a real, tiny vision-language reward model: killed, stopped, unloadable."""

import asyncio
import os
import signal
import time

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.registry import Registry
from rewardhub.types import Call, Group, Response, Status

CARD = 'name = "tiny"\nkind = "scalar"\npath = "{path}"\nsystem = ""\n'
COLOURS = ("red", "green", "blue", "black")
CALL = Call(recipe="tiny", cache="bypass")


@pytest.fixture(scope="module")
def card_file(tmp_path_factory):
    """A tiny reward model with random weights, and its card."""
    import torch

    from rewardhub.models.backbone import load_headless
    from rewardhub.models.checkpoint import save_classifier
    from rewardhub.models.head import new_head
    from rewardhub.models.tiny import build_tiny

    folder = tmp_path_factory.mktemp("model")
    base = build_tiny(folder / "base", seed=1)
    backbone = load_headless(base)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)
    tensors = new_head(backbone.hidden_size, "none", 5).named_tensors()
    save_classifier(backbone.base, tensors, base, folder / "checkpoint")
    path = folder / "tiny.toml"
    path.write_text(CARD.format(path="checkpoint"))
    return path


@pytest.fixture
async def hub(card_file):
    hub = make_hub(HubConfig(workers=1, cards=(card_file,)), Registry())
    await hub.start()
    yield hub
    await hub.aclose()


def groups_of(count):
    from itertools import islice

    from rewardhub.models.colours import answer, colour_items

    return [
        Group(f"g{n}", item.question, tuple(Response(answer(colour)) for colour in COLOURS), media=(item.media,))
        for n, item in enumerate(islice(colour_items(0), count))
    ]


def expected(card_file, groups):
    """Scores of the model in this process, group by group."""
    from rewardhub.models import load
    from rewardhub.models.card import load_card

    model = load(load_card(card_file))
    return [model.score([group])[0].values for group in groups], model.fingerprint


async def test_scores_are_the_models(hub, card_file):
    """T11: the worker gives the scores and the fingerprint of the model in process, whatever batch they rode in."""
    groups = groups_of(12)
    values, fingerprint = expected(card_file, groups)
    answers = await asyncio.gather(*(hub.score([group], CALL) for group in groups))
    for (scores,), own in zip(answers, values, strict=True):
        assert scores.values == pytest.approx(own, abs=1e-5)
        assert scores[0].fingerprint == fingerprint
    spread = [max(own) - min(own) for own in values]
    assert min(spread) > 1e-3


async def test_kill_minus_nine_under_load(hub):
    """T17: 200 concurrent groups, the worker is killed; all are answered, and it is back within load + 5 s."""
    lane = hub.scheduler.models[0]
    groups = groups_of(200)
    started = time.monotonic()
    tasks = [asyncio.create_task(hub.score([group], CALL)) for group in groups]
    while not lane.pid or time.monotonic() - started < 0.05:
        await asyncio.sleep(0.01)
    killed = lane.pid
    os.kill(killed, signal.SIGKILL)
    answers = await asyncio.gather(*tasks)
    assert all(status is Status.OK for (scores,) in answers for status in scores.total.statuses)
    assert lane.pid not in {0, killed}
    assert not hub.ready()


async def test_a_stopped_worker_is_found(hub):
    """T18: SIGSTOP is found by its silence, and the work is done by another process."""
    lane = hub.scheduler.models[0]
    stopped = lane.pid
    os.kill(stopped, signal.SIGSTOP)
    started = time.monotonic()
    (scores,) = await hub.score(groups_of(1), CALL)
    assert scores[0].status is Status.OK
    assert lane.pid != stopped
    assert time.monotonic() - started < 60


async def test_a_model_that_cannot_be_loaded_is_not_ready(tmp_path):
    """T22: bad weights leave the hub up; its scores are unavailable with a reason and a time to come back."""
    path = tmp_path / "bad.toml"
    path.write_text(CARD.format(path="nowhere"))
    hub = make_hub(HubConfig(workers=1, cards=(path,)), Registry())
    await hub.start()
    try:
        assert hub.ready() == ["tiny is not loaded"]
        (scores,) = await hub.score(groups_of(1), Call(recipe="tiny", deadline_ms=5000))
        assert scores[0].status is Status.UNAVAILABLE
        assert scores[0].value is None
        assert "nowhere" in scores[0].details["reason"]
        assert scores[0].details["retry_after_s"] > 0
    finally:
        await hub.aclose()


async def test_a_broken_image_costs_only_its_group(hub):
    """A group whose image cannot be decoded is invalid input; its batch neighbours are scored."""
    from dataclasses import replace

    from rewardhub.types import Media

    good, other = groups_of(2)
    bad = replace(other, media=(Media.from_bytes(other.media[0].data[:-40]),))
    answers = await asyncio.gather(*(hub.score([group], CALL) for group in (good, bad, good)))
    assert [scores[0].status for (scores,) in answers] == [Status.OK, Status.INVALID_INPUT, Status.OK]
