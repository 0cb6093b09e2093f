"""The model worker with a real, tiny vision-language reward model: killed, stopped, unloadable."""

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import ConfigError
from rewardhub.registry import Registry
from rewardhub.types import Call, Group, Response, Status

CARD = 'name = "tiny"\nkind = "scalar"\npath = "{path}"\nsystem = ""\n'
VERIFIERS = Path(__file__).with_name("pool_verifiers.py")
COLOURS = ("red", "green", "blue", "black")
CALL = Call(recipe="tiny", cache="bypass")
pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def served(card):
    hub = make_hub(HubConfig(workers=1, cards=(card,)), Registry())
    await hub.start()
    try:
        yield hub
    finally:
        await hub.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(tiny_card):
    """One for all tests that leave it with its model: starting a worker takes longer than what they do with it."""
    async with served(tiny_card) as hub:
        yield hub


@pytest_asyncio.fixture(loop_scope="module")
async def own_hub(tiny_card):
    async with served(tiny_card) as hub:
        yield hub


def groups_of(count):
    from itertools import islice

    from rewardhub.models.colours import answer, colour_items

    return [
        Group(f"g{n}", item.question, tuple(Response(answer(colour)) for colour in COLOURS), media=(item.media,))
        for n, item in enumerate(islice(colour_items(0), count))
    ]


def expected(tiny_card, groups):
    """Scores of the model in this process, group by group."""
    from rewardhub.models import load
    from rewardhub.models.card import load_card

    model = load(load_card(tiny_card))
    return [model.score([group])[0].values for group in groups], model.fingerprint


async def test_scores_are_the_models(hub, tiny_card):
    """T11: the worker gives the scores and the fingerprint of the model in process, whatever batch they rode in."""
    groups = groups_of(12)
    values, fingerprint = expected(tiny_card, groups)
    before = figures(hub)
    answers = await asyncio.gather(*(hub.score([group], CALL) for group in groups))
    for (scores,), own in zip(answers, values, strict=True):
        assert scores.values == pytest.approx(own, abs=1e-5)
        assert scores[0].fingerprint == fingerprint
    spread = [max(own) - min(own) for own in values]
    assert min(spread) > 1e-3
    shown = figures(hub)
    assert shown['rewardhub_model_up{model="tiny"}'] == 1
    assert 0 <= shown['rewardhub_model_drift{attention="packed",model="tiny"}'] < 1e-4
    more = {name: value - before.get(name, 0.0) for name, value in shown.items()}
    assert more['rewardhub_scorer_scores_total{scorer="tiny",status="ok"}'] == 48
    assert more['rewardhub_queue_wait_seconds_count{lane="tiny"}'] == 12
    batches, tokens = (more[f'rewardhub_batch_tokens_{each}{{model="tiny"}}'] for each in ("count", "sum"))
    assert 1 <= more['rewardhub_run_seconds_count{lane="tiny"}'] == batches <= 12
    assert tokens > 48
    assert more['rewardhub_padding_tokens_total{model="tiny"}'] <= 7 * batches + tokens / 16


def figures(hub):
    """The metrics as a scrape reads them: value by name and labels."""
    lines = (line for line in hub.metrics_text().decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def test_kill_minus_nine_under_load(hub):
    """T17: 200 concurrent groups, the worker is killed; all are answered by another."""
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


async def test_a_model_that_cannot_be_loaded_is_not_ready(tmp_path):
    """T22: bad weights leave the hub up; its scores are unavailable with a reason and a time to come back, while
    other verifiers score."""
    path = tmp_path / "bad.toml"
    path.write_text(CARD.format(path="nowhere"))
    registry = Registry()
    registry.load_file(VERIFIERS)
    hub = make_hub(HubConfig(workers=1, cards=(path,), plugins=(VERIFIERS,)), registry)
    await hub.start()
    try:
        assert hub.ready() == ["tiny is not loaded"]
        (scores,) = await hub.score(groups_of(1), Call(recipe="tiny", deadline_ms=5000))
        assert scores[0].status is Status.UNAVAILABLE
        assert scores[0].value is None
        assert "nowhere" in scores[0].details["reason"]
        assert scores[0].details["retry_after_s"] > 0
        (scores,) = await hub.score([Group("v", "p", (Response("four"),))], Call(recipe="obedient"))
        assert scores.values == [0.04]
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


def with_weights(tiny_card, tmp_path, change, **fields):
    """The card of a copy of the checkpoint whose head is changed."""
    import shutil

    from safetensors.torch import load_file, save_file

    from rewardhub.models.card import load_card

    card = load_card(tiny_card)
    path = tmp_path / "changed"
    shutil.copytree(card.path, path)
    tensors = load_file(path / "model.safetensors")
    tensors["language_model.score.weight"] = change(tensors["language_model.score.weight"])
    save_file(tensors, path / "model.safetensors")
    return card.model_copy(update={"path": path, **fields})


async def test_another_version_under_load(own_hub, tiny_card, tmp_path):
    """T23: while 150 groups are scored another version is loaded; every group is of one version, by its label."""
    lane = own_hub.scheduler.models[0]
    groups = groups_of(150)
    old, first = expected(tiny_card, groups)
    newer = with_weights(tiny_card, tmp_path, lambda weight: -2 * weight)
    from rewardhub.models import load

    model = load(newer)
    values = {first: old, model.fingerprint: [model.score([group])[0].values for group in groups]}
    call = Call(recipe="tiny")
    tasks = [asyncio.create_task(own_hub.score([group], call)) for group in groups[:75]]
    await tasks[0]
    lane.reload(newer)
    tasks += [asyncio.create_task(own_hub.score([group], call)) for group in groups[75:]]
    answers = await asyncio.gather(*tasks)
    labels = []
    for index, (scores,) in enumerate(answers):
        (label,) = {score.fingerprint for score in scores}
        labels.append(label)
        assert scores.values == pytest.approx(values[label][index], abs=1e-5)
    assert labels[0] == first
    assert labels[-1] == model.fingerprint == lane.fingerprint
    (again,) = await own_hub.score([groups[0]], call)
    assert again[0].fingerprint == model.fingerprint
    assert not again[0].cached
    with pytest.raises(ConfigError):
        lane.reload(newer.model_copy(update={"name": "other"}))


async def test_not_a_number_is_no_score(tiny_card, tmp_path):
    """T24: NaN from the model is an internal error, with no value, and is not remembered."""
    card = with_weights(tiny_card, tmp_path, lambda weight: weight * float("nan"))
    path = tmp_path / "nan.toml"
    path.write_text(CARD.format(path=card.path))
    hub = make_hub(HubConfig(workers=1, cards=(path,)), Registry())
    await hub.start()
    try:
        for _ in range(2):
            (scores,) = await hub.score(groups_of(1), Call(recipe="tiny"))
            assert set(scores.total.statuses) == {Status.INTERNAL_ERROR}
            assert scores.values == [None] * len(COLOURS)
            assert not scores[0].cached
    finally:
        await hub.aclose()


async def test_a_sleeping_model_is_woken_by_work(hub):
    """Asleep there is no process; work, or the operator, brings it back with the same scores."""
    lane = hub.scheduler.models[0]
    (group,) = groups_of(1)
    (before,) = await hub.score([group], CALL)
    pid = lane.pid
    lane.sleep()
    for _ in range(100):
        await asyncio.sleep(0.1)
        if not Path(f"/proc/{pid}").exists():
            break
    assert not Path(f"/proc/{pid}").exists()
    assert lane.asleep
    assert lane.pid == 0
    (after,) = await hub.score([group], CALL)
    assert after.values == pytest.approx(before.values, abs=1e-5)  # the prompt was known to the one, not to the other
    assert lane.pid not in {0, pid}
    assert not lane.asleep


async def test_sleep_leaves_no_work_behind(hub):
    """Work that waits when the model is put to sleep is scored, not left until its deadline."""
    lane = hub.scheduler.models[0]
    groups = [Group(f"g{n}", f"p{n}", tuple(Response(f"{n} {k} " * 100) for k in range(16))) for n in range(30)]
    await hub.score(groups_of(1), CALL)
    tasks = [asyncio.create_task(hub.score([group], CALL)) for group in groups]
    while not lane.queued:
        await asyncio.sleep(0)
    lane.sleep()
    answers = await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert all(status is Status.OK for (scores,) in answers for status in scores.total.statuses)


@pytest.mark.slow
async def test_a_worker_that_is_stopped_while_it_loads(hub):
    """T18: SIGSTOP is found within 5 s while a model is loaded too, when nothing is heard of it anyway."""
    lane = hub.scheduler.models[0]
    await lane.settled()
    lane.sleep()
    while lane.pid:
        await asyncio.sleep(0.01)
    task = asyncio.create_task(hub.score(groups_of(1), CALL))
    while not lane.pid:
        await asyncio.sleep(0.01)
    stopped, started = lane.pid, time.monotonic()
    os.kill(stopped, signal.SIGSTOP)
    while lane.pid == stopped:
        await asyncio.sleep(0.05)
    assert time.monotonic() - started < 5.5
    assert set((await task)[0].total.statuses) == {Status.OK}


@pytest.mark.slow
async def test_a_model_that_stops_loading_is_given_time(own_hub, tiny_card, tmp_path):
    """T22: a version that cannot be loaded is tried again ever more slowly, and refused meanwhile with its reason."""
    from rewardhub.models.card import load_card

    lane = own_hub.scheduler.models[0]
    await own_hub.score(groups_of(1), CALL)
    good = load_card(tiny_card)
    lane.reload(good.model_copy(update={"path": tmp_path / "nowhere"}))
    for _ in range(200):
        await asyncio.sleep(0.1)
        if lane.failure:
            break
    (scores,) = await own_hub.score(groups_of(1), CALL)
    assert scores[0].status is Status.UNAVAILABLE
    assert "nowhere" in scores[0].details["reason"]
    lane.reload(good)
    await asyncio.wait_for(lane.loaded.wait(), 60)
    (scores,) = await own_hub.score(groups_of(1), CALL)
    assert scores[0].status is Status.OK
    assert lane.attention == "packed"
    assert 0 <= lane.drift < 1e-4


NO_MEMORY = """
import sys
if "rewardhub.scheduler.model_worker" in sys.orig_argv:
    import torch
    embed = torch.nn.Embedding.forward
    def forward(self, ids):
        if ids.numel() > 600:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return embed(self, ids)
    torch.nn.Embedding.forward = forward
    import rewardhub.models.budget
    rewardhub.models.budget._installed = lambda: 5_000_000
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_real_worker_out_of_memory_is_split(tiny_card, tmp_path, monkeypatch):
    """T19: in a real worker torch has no memory for more than 600 tokens at once: batches are halved until they fit,
    one response over the card's budget that never fits is over limit, and the process survives."""
    (tmp_path / "sitecustomize.py").write_text(NO_MEMORY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    groups = [Group(f"g{n}", "p", tuple(Response(f"{n} {k} " * 15) for k in range(4))) for n in range(12)]
    groups.append(Group("huge", "p", (Response("fits"), Response("x y " * 400), Response("fits too"))))
    values, _ = expected(tiny_card, groups[:-1])
    from rewardhub.models.card import load_card

    card = tmp_path / "tiny.toml"
    card.write_text(CARD.format(path=load_card(tiny_card).path) + "token_budget = 300\n")
    hub = make_hub(HubConfig(workers=1, cards=(card,)), Registry())
    await hub.start()
    try:
        lane = hub.scheduler.models[0]
        pid = lane.pid
        answers = [scores for (scores,) in await asyncio.gather(*(hub.score([group], CALL) for group in groups))]
        assert answers[-1].total.statuses == [Status.OK, Status.OVER_LIMIT, Status.OK]
        assert "memory" in answers[-1][1].details["reason"]
        for scores, own in zip(answers, values, strict=False):
            assert scores.values == pytest.approx(own, abs=1e-5)
        assert lane.pid == pid
    finally:
        await hub.aclose()


@pytest.mark.slow
async def test_a_worker_that_lost_its_memory_is_replaced(own_hub):
    """T19: what a worker had memory for it cannot suddenly lack: no score is made of that, another worker does it."""
    import resource

    lane = own_hub.scheduler.models[0]
    groups = [Group(f"g{n}", "p", tuple(Response(f"{n} {k} " * 60) for k in range(8))) for n in range(4)]
    alone = [(await own_hub.score([group], CALL))[0].values for group in groups]
    pages = int(Path(f"/proc/{lane.pid}/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE")
    resource.prlimit(lane.pid, resource.RLIMIT_AS, (limit, limit))
    answers = await asyncio.gather(*(own_hub.score([group], CALL) for group in groups))
    for (scores,), own in zip(answers, alone, strict=True):
        assert scores.values == pytest.approx(own, abs=1e-5)


@pytest.mark.slow
async def test_a_stopped_worker_does_not_keep_a_large_batch(hub):
    """T18: a process that was stopped before it had read a batch of many kilobytes is found by its silence too."""
    lane = hub.scheduler.models[0]
    stopped = lane.pid
    os.kill(stopped, signal.SIGSTOP)
    group = Group("g", "p", (Response("x"),), metadata={"notes": "y" * 4_000_000})
    (scores,) = await hub.score([group], replace(CALL, deadline_ms=30_000))
    assert scores[0].status is Status.OK
    assert lane.pid != stopped
