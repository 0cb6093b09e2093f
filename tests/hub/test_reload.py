"""Scorers exchanged under load: one version per score, pins respected, nothing lost (T23)."""

import asyncio
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import ConfigError, InvalidInput, Unavailable
from rewardhub.models.card import load_card
from rewardhub.process_state import process_state
from rewardhub.reload import Reload
from rewardhub.types import Call, Group, Response, Status

PLUGIN = """
import time
from rewardhub.registry import verifier

@verifier("{name}", lane="pool", range=(0, 9))
def scored(response, reference) -> float:
    time.sleep(0.002)
    return {value}
"""


def write(path, value, name="versioned"):
    path.write_text(PLUGIN.format(value=value, name=name))


@pytest.fixture
async def reloadable(tmp_path):
    """A hub whose plugin files are those of a list, and the list."""
    path = tmp_path / "versioned.py"
    write(path, 1.0)
    plugins = [path]
    config = HubConfig(workers=2, plugins=tuple(plugins))
    hub = make_hub(config)
    hub.reloader = Reload(hub, config, lambda: HubConfig(workers=2, plugins=tuple(plugins)))
    await hub.start()
    yield hub, plugins
    await hub.aclose()


async def one(hub, n=0, **call):
    group = Group(f"g{n}", "p", (Response(f"{n}a"), Response(f"{n}b")))
    return (await hub.score([group], Call(recipe="versioned", **call)))[0]


@pytest.mark.slow
async def test_each_score_has_exactly_one_version(reloadable):
    """T23: while a verifier is exchanged three times under load, value and fingerprint always belong together."""
    hub, (path,) = reloadable
    seen, stop = [], asyncio.Event()

    async def load(k):
        n = 0
        while not stop.is_set():
            seen.append(await one(hub, f"{k}/{n}"))
            n += 1

    async def more(count):
        enough = len(seen) + count
        while len(seen) < enough:
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(load(k)) for k in range(12)]
    known = {(await one(hub))[0].fingerprint: 1.0}
    for value in (2.0, 3.0, 1.0):
        await more(24)
        write(path, value)
        assert (await hub.reload())["changed"] == ["versioned"]
        await more(24)
        known[(await one(hub))[0].fingerprint] = value
    stop.set()
    await asyncio.gather(*tasks)
    assert len(known) == 3
    for scores in seen:
        for score in scores:
            assert score.status in {Status.OK, Status.UNAVAILABLE}, score
            assert score.value == (known[score.fingerprint] if score.status is Status.OK else None)
    lost = sum(score.status is Status.UNAVAILABLE for scores in seen for score in scores)
    assert lost <= len(seen) / 10


async def test_an_open_group_ends_on_what_it_began_with(reloadable):
    """T23: a group that is open while its scorer is exchanged is finished by the version that it began with, whose
    pool ends with it."""
    hub, (path,) = reloadable
    old = hub.scheduler.pool
    begun = (await one(hub))[0].fingerprint
    call = Call(recipe_text="name: r\nterms: {v: {scorer: versioned}}\nvalue: v + g_mean(v)")
    opened = hub.open(Group("g", "p", (Response("a"),)), call)
    write(path, 2.0)
    await hub.reload()
    await asyncio.sleep(0.2)
    opened.add([Response("b"), Response("c")])
    opened.close()
    (scores,) = [scores async for scores in opened]
    assert scores.values == [2.0] * 3
    assert {score.parts["v"].fingerprint for score in scores} == {begun}
    assert (await one(hub)).values == [2.0, 2.0]
    async with asyncio.timeout(10):
        while hub.scheduler.leaving or old._zygote.alive:
            await asyncio.sleep(0.02)


async def test_pins_outlive_the_exchange(reloadable):
    """A run that pinned the old version is refused, naming both, until it says repin; others go on."""
    hub, (path,) = reloadable
    await one(hub, run="r")
    write(path, 2.0)
    await hub.reload()
    refused = await one(hub, run="r")
    assert refused[0].value is None
    assert refused[0].details["code"] == "pin_mismatch"
    assert len(set(re.findall("[0-9a-f]{64}", refused[0].details["reason"]))) == 2
    assert (await one(hub, run="other")).values == [2.0, 2.0]
    assert (await one(hub, run="r", repin=True)).values == [2.0, 2.0]


async def test_scorers_come_and_go(reloadable, tmp_path):
    """A new file is a new scorer, a file that is gone is none; unknown names say so."""
    hub, plugins = reloadable
    plugins.append(tmp_path / "more.py")
    write(plugins[1], 5.0, "more")
    assert await hub.reload() == {"added": ["more"], "removed": [], "changed": [], "restart": []}
    (scores,) = await hub.score([Group("g", "", (Response("x"),))], Call(recipe="more"))
    assert scores.values == [5.0]
    del plugins[1]
    assert await hub.reload() == {"added": [], "removed": ["more"], "changed": [], "restart": []}
    (scores,) = await hub.score([Group("g", "", (Response("x"),))], Call(recipe="more"))
    assert scores[0].status is Status.INVALID_INPUT


async def test_what_cannot_be_loaded_changes_nothing(reloadable):
    """A file with a fault is named, and the hub goes on as it was."""
    hub, (path,) = reloadable
    before = await one(hub)
    path.write_text("def broken(:")
    with pytest.raises(ConfigError, match=r"versioned\.py"):
        await hub.reload()
    after = await one(hub, 1)
    assert (after.values, after[0].fingerprint) == ([1.0, 1.0], before[0].fingerprint)


async def test_a_hub_without_files_has_nothing_to_reload(hub):
    with pytest.raises(InvalidInput):
        await hub.reload()


async def test_a_reload_that_is_given_up_leaves_no_process_behind(reloadable, monkeypatch):
    """What was started for an exchange that does not come about ends with it; the hub goes on as it was."""
    hub, _ = reloadable
    pools = []

    async def never(pool):
        pools.append(pool)
        await asyncio.Event().wait()

    monkeypatch.setattr("rewardhub.reload._warm", never)
    reloading = asyncio.create_task(hub.reload())
    while not pools:
        await asyncio.sleep(0.01)
    reloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reloading
    assert not pools[0]._zygote.alive
    assert (await one(hub)).values == [1.0, 1.0]


def scaled(folder, by=1.5):
    """Writes a checkpoint's weights over."""
    for file in folder.glob("*.safetensors"):
        save_file({name: each * by for name, each in load_file(file).items()}, file, metadata={"format": "pt"})


CARDS = {
    "scalar": 'kind = "scalar"\npath = "checkpoint"',
    "implicit": 'kind = "implicit"\npath = "policy"\nimplicit.reference = "checkpoint"',
    "ensemble": 'kind = "ensemble"\nensemble.members = ["member.toml"]',
}
SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("implicit", "ensemble")]


@pytest.mark.parametrize("kind", ["scalar", *SLOW])
async def test_a_checkpoint_that_was_exchanged_is_loaded(kind, tiny_card, tmp_path):
    """T23: weights written over under the same card are another version after a reload, those of a reference and of an
    ensemble's member too; untouched ones stay loaded."""
    for name in ("checkpoint", "policy"):
        shutil.copytree(load_card(tiny_card).path, tmp_path / name)
    scaled(tmp_path / "policy", 0.5)
    card, member = tmp_path / "card.toml", tmp_path / "member.toml"
    card.write_text(f'name = "tiny"\n{CARDS[kind]}\n')
    member.write_text(f'name = "member"\n{CARDS["scalar"]}\n')
    config = HubConfig(workers=1, cards=(card,))
    hub = make_hub(config)
    hub.reloader = Reload(hub, config, lambda: config)
    await hub.start()
    try:
        group = Group("g", "p", (Response("x"),))
        seen = [(await hub.score([group], Call(recipe="tiny")))[0][0]]
        (lane,) = hub.scheduler.models
        await hub.reload()
        assert hub.scheduler.models == [lane]
        for path in {card, member if kind == "ensemble" else card}:
            path.write_text(f'range = [-9, 9]\nsummary = "In other words"\n{path.read_text()}')
            await hub.reload()
            assert hub.scheduler.models == [lane]  # with no second copy of its weights beside it
        told = hub.book.registry.get("tiny").info
        assert (lane.info.summary, told.summary, told.range) == ("In other words", "In other words", (-9, 9))
        exchanges = [lambda: scaled(tmp_path / "checkpoint")]
        if kind == "ensemble":
            exchanges.append(lambda: member.write_text(f"{member.read_text()}calibration.mean = 1.0\n"))
        for exchange in exchanges:
            exchange()
            assert (await hub.reload())["changed"] == ["tiny"]
            seen.append((await hub.score([group], Call(recipe="tiny")))[0][0])
        assert len({score.value for score in seen}) == len({score.fingerprint for score in seen}) == len(seen)
    finally:
        await hub.aclose()


def children():
    """The processes that this one has started and that still run."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= set(map(int, (task / "children").read_text().split()))
    return {pid for pid in found if process_state(pid).code != "Z"}


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3, 1.0])
async def test_a_hub_that_ends_within_a_reload_leaves_nothing_behind(tiny_card, tmp_path, after_s):
    """T21, T23: what a reload has started ends with the hub, however far it came; another one is refused."""
    shutil.copytree(load_card(tiny_card).path, tmp_path / "checkpoint")
    card = tmp_path / "card.toml"
    card.write_text('name = "tiny"\nkind = "scalar"\npath = "checkpoint"\n')
    config = HubConfig(workers=1)
    hub, before = make_hub(config), children()
    hub.reloader = Reload(hub, config, lambda: config.model_copy(update={"cards": (card,)}))
    await hub.start()
    reloading = asyncio.create_task(hub.reload())
    await asyncio.sleep(after_s)
    await hub.aclose()
    with pytest.raises(Unavailable):
        await reloading
    with pytest.raises(Unavailable):
        await hub.reload()
    async with asyncio.timeout(5):
        while children() != before:
            await asyncio.sleep(0.02)
    assert asyncio.all_tasks() == {asyncio.current_task()}
