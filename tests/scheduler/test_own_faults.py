"""Faults of ours: what a loop that serves many raises costs those whom it was about, and is no end of the loop."""

import ast
import asyncio
import math
from pathlib import Path

import pytest

import rewardhub
from rewardhub.cache.background import Background
from rewardhub.cache.memory import MemoryStore
from rewardhub.cache.store import Cache
from rewardhub.models.card import Card
from rewardhub.registry import default_registry
from rewardhub.scheduler.device import Device
from rewardhub.scheduler.figures import Figures
from rewardhub.scheduler.messages import Load, Loaded
from rewardhub.scheduler.model_lane import ModelLane
from rewardhub.scheduler.model_queue import ModelQueue
from rewardhub.scheduler.pool import Pool
from rewardhub.scheduler.quarantine import Quarantine
from rewardhub.scheduler.scheduler import Scheduler
from rewardhub.scorer import Context
from rewardhub.types import Group, Response, Status

from .test_model_queue import Scripted

PLUGIN = Path(__file__).with_name("pool_verifiers.py")


class Fault(Exception):
    """What nobody has foreseen."""


def faulty(function, times=1):
    """The function, whose first calls raise."""
    left = [times]

    def called(*args, **options):
        if left[0]:
            left[0] -= 1
            raise Fault
        return function(*args, **options)

    return called


class Loading(Scripted):
    """A seat whose model loads; also the device that gives it."""

    pid, spared, taken = 1, False, 0

    def of(self, card):
        return self

    async def join(self):
        self.taken += 1
        return self

    async def receive_unless_stopped(self, most_s):
        return Loaded("f", 0.0)

    async def receive(self):
        while isinstance(self._message, Load):
            await asyncio.sleep(0.01)
        return await super().receive()

    async def leave(self):
        self._message = None

    lose = leave


def group(n, size=3):
    return Group(f"g{n}", "p", tuple(Response("x" * (k + 1)) for k in range(size)))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Figures, "waited"), (Figures, "batch"), (ModelLane, "_hand_out"), (ModelLane, "_scored"), (ModelLane, "_life"),
        (ModelLane, "_load"), (ModelLane, "_batch"), (ModelQueue, "take"), (ModelQueue, "_divide"),
        (ModelQueue, "_sifted"),
    ],
)  # fmt: skip
async def test_a_lane_of_a_model_goes_on(tmp_path, monkeypatch, owner, name):
    """Law 2: wherever it happens, all that wait are answered, by no number where they were hit, and others are scored."""
    monkeypatch.setattr("rewardhub.lasting.PAUSE_S", 0.01)
    quarantine, seat = Quarantine(), Loading(most=2)
    quarantine.strike(b"some", object(), on_trial=False)
    card = Card(name="m", kind="scalar", path=tmp_path)
    lane = ModelLane(card, devices=seat, quarantine=quarantine)
    monkeypatch.setattr(owner, name, faulty(getattr(owner, name)))
    lane.start()
    try:
        async with asyncio.timeout(20):
            await lane.settled()
            while not lane.loaded.is_set():
                await asyncio.sleep(0.01)
            first = await asyncio.gather(*(lane.score(group(n), Context(math.inf)) for n in range(4)))
            second = await lane.score(group(9), Context(math.inf))
    finally:
        await lane.aclose()
    for column in first:
        assert set(column.statuses) <= {Status.OK, Status.INTERNAL_ERROR}
        assert [value is None for value in column.values] == [status is not Status.OK for status in column.statuses]
    assert second.values == [1.0, 2.0, 3.0]
    assert lane.queued == 0


async def test_an_answer_that_nobody_took_is_nobody_elses(tmp_path, monkeypatch):
    """Law 2: where the wait for a worker's answer breaks off, that answer is not taken for the next batch's."""
    lane, seat = ModelLane(Card(name="m", kind="scalar", path=tmp_path)), Late()
    with monkeypatch.context() as broken:
        broken.setattr(seat, "receive", faulty(seat.receive))
        one = asyncio.create_task(lane.score(Group("g", "p", (Response("xxxx"),)), Context(math.inf)))
        await asyncio.sleep(0)
        await lane._batch(seat)
    assert (await one).statuses == [Status.INTERNAL_ERROR]
    two = asyncio.create_task(lane.score(Group("h", "p", (Response("x"),)), Context(math.inf)))
    await asyncio.sleep(0)
    await lane._batch(seat)
    assert (await two).values == [1.0]


class Late(Scripted):
    """Answers in the order in which it was asked, whoever waits for it."""

    def __init__(self) -> None:
        super().__init__(most=100)
        self._asked = []

    async def send(self, message) -> None:
        self._asked.append(message)

    async def receive(self):
        self._message = self._asked.pop(0)
        return await super().receive()


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Pool, "_spawn"), (Pool, "_next"), (Pool, "_attempt"), (Pool, "_run"), (Pool, "_keep"), (Figures, "waited")],
)
async def test_the_pool_goes_on(monkeypatch, owner, name):
    """A worker's loop that met a fault has a next life; what it had in hand is answered."""
    monkeypatch.setattr("rewardhub.lasting.PAUSE_S", 0.01)
    monkeypatch.setattr(owner, name, faulty(getattr(owner, name)))
    pool = Pool(1, 100, 2048, [PLUGIN])
    bound = default_registry([PLUGIN]).get("obedient").bind({})
    await pool.start()
    try:
        async with asyncio.timeout(60):
            first = await pool.run(bound, group(1), [0, 1, 2], Context())
            second = await pool.run(bound, group(2), [0, 1, 2], Context())
    finally:
        await pool.aclose()
    assert set(first.statuses) <= {Status.OK, Status.INTERNAL_ERROR}
    assert second.values == [0.01, 0.02, 0.03]


async def test_a_device_whose_messages_cannot_be_read_is_lost():
    """Its lanes are told, and start another process."""
    device = Device()
    seat = await device.join()
    try:
        device._channel._reader.set_exception(Fault())
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(seat.receive(), 20)
    finally:
        await seat.lose()


async def test_what_cannot_be_sent_in_the_background_holds_up_nothing():
    """Commands behind those that failed are sent."""
    sent = []

    async def send(commands):
        sent.append(commands)
        if len(sent) == 1:
            raise Fault

    background = Background(send)
    background.add([b"command"] * 300)
    await background.drained()
    assert [len(each) for each in sent] == [256, 44]


async def test_one_part_that_does_not_end_keeps_no_other_from_it():
    """T21: whatever closing a part raises, the workers of the others are gone."""

    class Odd:
        async def start(self):
            pass

        async def aclose(self):
            raise Fault

    pool = Pool(1, 100, 2048)
    scheduler = Scheduler(pool, Cache(MemoryStore(0)), Quarantine(), figures=Figures())
    scheduler.services.append(Odd())
    await scheduler.start()
    await scheduler.aclose()
    assert not pool._zygote.alive


ROOMS = ("scheduler", "cache", "server", "judges", "media")
KEPT = {"_read", "_renew"}
"""``Device._read`` ends its process whatever it meets; ``Lease._renew`` only sleeps and queues."""


def test_no_loop_is_left_to_itself():
    """A task that loops for ever is made by ``lasting``, which nothing but its cancellation ends."""
    found = set()
    for path in (each for room in ROOMS for each in (Path(rewardhub.__file__).parent / room).rglob("*.py")):
        tree = ast.parse(path.read_text())
        nodes = [*ast.walk(tree)]
        endless = {
            each.name
            for each in nodes
            if isinstance(each, ast.AsyncFunctionDef)
            for loop in ast.walk(each)
            if isinstance(loop, ast.While) and isinstance(loop.test, ast.Constant) and not _leaves(loop)
        }
        calls = [each for each in nodes if isinstance(each, ast.Call)]
        tasks = [each for each in calls if ast.unparse(each.func).endswith(("create_task", "ensure_future"))]
        made = {
            ast.unparse(each.args[0].func).rpartition(".")[2] for each in tasks if isinstance(each.args[0], ast.Call)
        }
        found |= endless & made
    assert found == KEPT


def _leaves(loop):
    return any(isinstance(each, ast.Return | ast.Break) for each in ast.walk(loop))
