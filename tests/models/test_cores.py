"""A batch's threads follow the cores that it gets."""

import os
import socket
import subprocess
import sys
import time

import pytest
import torch

from rewardhub.errors import ConfigError
from rewardhub.models import Card, cores, load
from rewardhub.models.cores import Cores
from rewardhub.models.progress import Pace
from rewardhub.scheduler.messages import ScoreBatch, Scored
from rewardhub.scheduler.model_worker import Worker
from rewardhub.types import Group, Response
from rewardhub.wire.proto import group_to_proto


@pytest.fixture
def clock(monkeypatch):
    """Two threads and a clock that stands still until it is moved."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    now = [100.0]
    monkeypatch.setattr(cores.time, "monotonic", lambda: now[0])
    yield now
    torch.set_num_threads(before)


def after(found):
    """The threads that the next batch is computed with."""
    with found.batch():
        return torch.get_num_threads()


def test_cores_that_are_missing_are_not_waited_for(clock):
    """Preempted and slow: fewer threads, all of them again after a pause that grows while it stays so."""
    found = Cores()
    for pause in (1.0, 2.0, 4.0):
        found.watched(1.0, 1.05, 200)
        assert after(found) == 1
        clock[0] += pause - 0.01
        assert after(found) == 1
        clock[0] += 0.02
        assert after(found) == 2
    found.watched(1.0, 1.9, 200)
    found.watched(1.0, 1.05, 200)
    clock[0] += 1.01
    assert after(found) == 2


@pytest.mark.parametrize(
    ("seconds", "processor_s", "preemptions"), [(1.0, 1.9, 500), (1.0, 1.0, 3), (0.005, 0.005, 5), (1.0, 1.45, 200)]
)
def test_other_slowness_costs_no_threads(clock, seconds, processor_s, preemptions):
    """Cores enough, a batch that does little on them, one that is too short to tell, a neighbour that is seldom there."""
    found = Cores()
    found.watched(seconds, processor_s, preemptions)
    assert after(found) == 2


def test_a_short_burst_of_others_costs_no_threads(clock):
    """A batch beside the arrival of many calls is preempted; what follows has its cores."""
    found = Cores()
    found.watched(0.06, 0.06, 20)
    assert after(found) == 2
    for _ in range(10):
        found.watched(0.05, 0.085, 5)
        assert after(found) == 2
    for _ in range(10):
        found.watched(0.05, 0.05, 10)
    assert after(found) == 1


def test_a_busy_neighbour_is_found(clock, monkeypatch):
    """Two threads beside a process that keeps a core: one is left, where there are no more cores."""
    monkeypatch.undo()
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        found, matrix, end = Cores(), torch.randn(700, 700), time.monotonic() + 20
        while torch.get_num_threads() == 2 and time.monotonic() < end:
            with found.batch():
                for _ in range(20):
                    matrix @ matrix
        assert torch.get_num_threads() == 1
    finally:
        for each in neighbours:
            each.kill()
            each.wait()


def test_a_reproducible_card_has_always_all_threads(clock):
    """Their number changes last bits: such a batch takes all, and the others go on with those that they had."""
    found = Cores()
    found.watched(1.0, 1.05, 200)
    with found.batch(steady=True):
        assert torch.get_num_threads() == 2
    assert after(found) == 1


@pytest.mark.parametrize("reproducible", [True, False])
def test_a_reproducible_member_has_always_all_threads(clock, classifier, tmp_path, reproducible):
    """An ensemble's batch takes all where one of its members is to give the same last bits."""
    members = [tmp_path / "a.toml", tmp_path / "b.toml"]
    for path, said in zip(members, ("false", str(reproducible).lower()), strict=True):
        path.write_text(f'name = "m"\nkind = "scalar"\npath = "{classifier}"\nreproducible = {said}\n')
    model = load(Card(name="e", kind="ensemble", ensemble={"members": members}))
    threads = []
    score = model.members[1].score
    model.members[1].score = lambda groups: threads.append(torch.get_num_threads()) or score(groups)
    with socket.socket() as unused:
        worker = Worker(unused)
        worker._models[1], worker._paces[1] = model, Pace()
        worker._cores.watched(1.0, 1.05, 200)
        group = group_to_proto(Group("g", "p", (Response("x"),))).SerializeToString()
        assert isinstance(worker._work(ScoreBatch(1, [group], 1)), Scored)
        model.members[0].runner.attention = "alone"  # as where experts are chosen in bf16
        assert isinstance(worker._work(ScoreBatch(2, [group], 1)), Scored)
    assert threads == [2 if reproducible else 1, 2]
    strict = Card(name="e", kind="ensemble", ensemble={"members": members}, reproducible=True)
    with pytest.raises(ConfigError, match="must be reproducible"):
        load(strict)
