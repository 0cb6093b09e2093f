"""Two real, tiny reward models in the worker process of one device: loaded, put to sleep, killed, out of memory."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.models.card import Card
from rewardhub.registry import Registry
from rewardhub.scheduler.device import Devices
from rewardhub.types import Call, Group, Response, Status

CARD = 'name = "{name}"\nkind = "scalar"\npath = "{path}"\nsystem = ""\n'


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    """Two tiny reward models of unlike weights, and their cards."""
    import torch

    from rewardhub.models.backbone import load_headless
    from rewardhub.models.checkpoint import save_classifier
    from rewardhub.models.head import new_head
    from rewardhub.models.tiny import build_tiny

    folder = tmp_path_factory.mktemp("models")
    found = []
    for seed, name in enumerate(("one", "two")):
        base = build_tiny(folder / f"base-{name}", seed=seed)
        backbone = load_headless(base)
        with torch.no_grad():
            for parameter in backbone.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(3.0)
        tensors = new_head(backbone.hidden_size, "none", seed).named_tensors()
        save_classifier(backbone.base, tensors, base, folder / name)
        path = folder / f"{name}.toml"
        path.write_text(CARD.format(name=name, path=name))
        found.append(path)
    return found


async def hub_of(*cards):
    hub = make_hub(HubConfig(workers=1, cards=cards), Registry())
    await hub.start()
    await asyncio.gather(*(lane.settled() for lane in hub.scheduler.models))
    return hub


@pytest.fixture
async def hub(cards):
    hub = await hub_of(*cards)
    yield hub
    await hub.aclose()


def groups_of(count, words=3):
    return [Group(f"g{n}", f"p{n}", tuple(Response(f"{n} {k} red " * words) for k in range(3))) for n in range(count)]


def expected(card, groups):
    from rewardhub.models import load
    from rewardhub.models.card import load_card

    model = load(load_card(card))
    return [model.score([group])[0].values for group in groups]


def ask(hub, name, groups):
    call = Call(recipe=name, cache="bypass")
    return [asyncio.create_task(hub.score([group], call)) for group in groups]


async def answered(tasks, wanted):
    for (scores,), own in zip(await asyncio.gather(*tasks), wanted, strict=True):
        assert set(scores.total.statuses) == {Status.OK}, scores.total.details
        assert scores.values == pytest.approx(own, abs=1e-5)


async def gone(pid):
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return True
        await asyncio.sleep(0.1)
    return False


async def test_one_process_for_both(hub, cards):
    """Both models score at once in one process, each with its own weights."""
    one, two = hub.scheduler.models
    assert one.pid == two.pid != 0
    groups = groups_of(12)
    wanted = [expected(card, groups) for card in cards]
    assert wanted[0] != wanted[1]
    tasks = [ask(hub, name, groups) for name in ("one", "two")]
    await answered(tasks[0], wanted[0])
    await answered(tasks[1], wanted[1])
    assert one.fingerprint != two.fingerprint


@pytest.mark.slow
async def test_sleep_and_wake_beside_a_neighbour(hub, cards):
    """The one that sleeps gives its seat up, not the process, which ends with the last and begins with the first."""
    one, two = hub.scheduler.models
    pid, groups = one.pid, groups_of(3)
    wanted = [expected(card, groups) for card in cards]
    two.sleep()
    while two.pid:
        await asyncio.sleep(0.05)
    assert (two.asleep, one.pid) == (True, pid)
    await answered(ask(hub, "one", groups), wanted[0])
    two.wake()
    await answered(ask(hub, "two", groups), wanted[1])
    assert two.pid == one.pid == pid
    one.sleep()
    two.sleep()
    assert await gone(pid)
    assert one.pid == two.pid == 0
    await answered(ask(hub, "two", groups), wanted[1])
    assert one.asleep
    assert two.pid not in {0, pid}


async def test_kill_minus_nine_under_load_of_both(hub, cards):
    """T17: the process of both dies with work of both in it: all of it is answered by a new one, nobody is guilty."""
    one, two = hub.scheduler.models
    groups, killed = groups_of(40), one.pid
    wanted = [expected(card, groups) for card in cards]
    tasks = [ask(hub, name, groups) for name in ("one", "two")]
    await asyncio.sleep(0.02)
    os.kill(killed, signal.SIGKILL)
    await answered(tasks[0], wanted[0])
    await answered(tasks[1], wanted[1])
    assert one.pid == two.pid not in {0, killed}
    assert not hub.ready()


@pytest.mark.slow
async def test_a_stopped_process_is_found_by_either(hub, cards):
    """T18: SIGSTOP is found by whoever works, and both go on in another process."""
    one, two = hub.scheduler.models
    groups, stopped = groups_of(2), one.pid
    os.kill(stopped, signal.SIGSTOP)
    await answered(ask(hub, "two", groups), expected(cards[1], groups))
    await answered(ask(hub, "one", groups), expected(cards[0], groups))
    assert one.pid == two.pid not in {0, stopped}


@pytest.mark.slow
async def test_a_model_that_cannot_be_loaded_leaves_its_neighbour_alone(cards, tmp_path):
    """T22: bad weights cost neither the process nor the other model."""
    path = tmp_path / "bad.toml"
    path.write_text(CARD.format(name="bad", path="nowhere"))
    hub = await hub_of(cards[0], path)
    try:
        one, bad = hub.scheduler.models
        await asyncio.wait_for(one.loaded.wait(), 60)
        pid, groups = one.pid, groups_of(2)
        (scores,) = await hub.score(groups[:1], Call(recipe="bad", deadline_ms=5000))
        assert (scores[0].status, "nowhere" in scores[0].details["reason"]) == (Status.UNAVAILABLE, True)
        await answered(ask(hub, "one", groups), expected(cards[0], groups))
        assert one.pid == pid
        assert hub.ready() == ["bad is not loaded"]
    finally:
        await hub.aclose()


NO_ROOM = """
import os, sys
if "rewardhub.scheduler.model_worker" in sys.orig_argv:
    import torch
    init = torch.nn.Embedding.__init__
    def full(self, *args, **kwargs):
        if os.path.exists("{flag}"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        init(self, *args, **kwargs)
    torch.nn.Embedding.__init__ = full
"""


@pytest.mark.slow
async def test_no_memory_for_a_second_model(cards, tmp_path, monkeypatch):
    """T19: a model that does not fit says so and is tried again; the one that was there scores meanwhile."""
    flag = tmp_path / "full"
    (tmp_path / "sitecustomize.py").write_text(NO_ROOM.format(flag=flag))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    groups = groups_of(2)
    wanted = [expected(card, groups) for card in cards]
    hub = await hub_of(*cards)
    try:
        one, two = hub.scheduler.models
        pid = one.pid
        two.sleep()
        while two.pid:
            await asyncio.sleep(0.05)
        flag.touch()
        two.wake()
        while not two.failure:
            await asyncio.sleep(0.05)
        assert "MemoryError" in two.failure
        await answered(ask(hub, "one", groups), wanted[0])
        flag.unlink()
        while two.failure:
            await asyncio.sleep(0.05)
        await answered(ask(hub, "two", groups), wanted[1])
        assert one.pid == two.pid == pid
    finally:
        await hub.aclose()


DEADLY = """
import sys
if "rewardhub.scheduler.model_worker" in sys.orig_argv:
    import os, torch
    embed = torch.nn.Embedding.forward
    def forward(self, ids):
        if ids.numel() > 600:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        if ids.numel() > 512:  # more than is tried at load
            os._exit(9)
        return embed(self, ids)
    torch.nn.Embedding.forward = forward
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_guilty_input_costs_its_neighbours_nothing(cards, tmp_path, monkeypatch):
    """T16, T19: one model's input ends the process, another of its, over the card's budget, does not fit beside its
    neighbour; the other model's are all scored."""
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    groups = groups_of(30)
    wanted = expected(cards[1], groups)
    stated = cards[0].with_name("stated.toml")
    stated.write_text(f"token_budget = 300\n{cards[0].read_text()}")
    hub = await hub_of(stated, cards[1])
    try:
        deadly = Group("d", "p", (Response("x y " * 130),))
        large = Group("l", "p", (Response("x y " * 400), Response("red")))
        tasks = ask(hub, "one", [deadly, large])
        await answered(ask(hub, "two", groups), wanted)
        (died,), (fitted,) = await asyncio.gather(*tasks)
        assert died.total.statuses == [Status.INTERNAL_ERROR]
        assert fitted.total.statuses == [Status.UNAVAILABLE, Status.OK]
        assert not hub.scheduler.models[1].failure
    finally:
        await hub.aclose()


def test_who_shares_a_process():
    """Cards of one device do; one behind vLLM has a process of its own."""
    devices, fields = Devices(), {"kind": "scalar", "path": Path("m")}

    def of(name, **more):
        return devices.of(Card(name=name, **fields, **more))

    assert of("a") is of("b", device="cpu") is not of("c", device="cuda")
    assert of("c", device="cuda") is of("d", device="cuda:0") is not of("e", device="cuda:1")
    served = {"backend": "vllm", "vllm": {"url": "http://127.0.0.1:9"}}
    assert of("f", **served) is of("f", **served)
    assert of("f", **served) not in {of("a"), of("g", **served)}


def test_a_checkpoint_that_vanishes_costs_no_neighbour(cards, monkeypatch):
    """A model whose files are gone by the time it is loaded has failed to load; the process serves the others on."""
    import socket
    import threading

    from rewardhub.models import load_card
    from rewardhub.models.model import RewardModel
    from rewardhub.scheduler import model_worker
    from rewardhub.scheduler.messages import Failed, InHand, Load, Loaded, receive, send

    class Gone(RewardModel):
        score = probe = None

        @property
        def fingerprint(self):
            raise FileNotFoundError("model.safetensors")

    load = model_worker.load
    monkeypatch.setattr(model_worker, "load", lambda card: Gone() if card.name == "two" else load(card))
    ended = threading.Event()
    monkeypatch.setattr(model_worker.os, "_exit", lambda code: ended.set())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        threading.Thread(target=model_worker.Worker(theirs).serve, daemon=True).start()
        for seat, path in enumerate(reversed(cards)):
            send(ours, Load(load_card(path).model_dump_json().encode(), seat))
        answers = [receive(ours) for _ in range(4)]
        ours.shutdown(socket.SHUT_RDWR)
        assert ended.wait(20)  # before this process may be ended again
    assert [type(each) for each in answers] == [InHand, Failed, InHand, Loaded]
    assert "FileNotFoundError" in answers[1].reason
