"""Poison costs two workers and no third one, wherever it comes back; with real worker processes of both kinds."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.registry import Registry
from rewardhub.reload import Reload
from rewardhub.scheduler.quarantine import Quarantine
from rewardhub.types import Call, Group, Response, Score, Status

PLUGIN = Path(__file__).parent / "pool_verifiers.py"
LOST = Score(None, Status.INTERNAL_ERROR, details={"reason": "lost"})


def group(*texts, name="g", prompt="p", **fields):
    return Group(name, prompt, tuple(map(Response, texts)), **fields)


class Losses:
    """A recipe whose scorer tells a file before it dies."""

    def __init__(self, path, scorer):
        self.path = path
        self.call = Call(recipe_text=f"name: m\nterms: {{t: {{scorer: {scorer}, with: {{log: {path}}}}}}}\nvalue: t")

    @property
    def texts(self):
        return [line.split()[1] for line in self.path.read_text().splitlines()] if self.path.exists() else []


@pytest.fixture
async def pool_hub():
    config = HubConfig(workers=2, plugins=(PLUGIN,))
    hub = make_hub(config)
    hub.reloader = Reload(hub, config, lambda: config)
    await hub.start()
    yield hub
    await hub.aclose()


def figure(hub, name):
    lines = hub.metrics_text().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


@pytest.mark.parametrize(("poison", "status"), [("die", Status.INTERNAL_ERROR), ("loop", Status.OVER_LIMIT)])
async def test_a_verifier_loses_two_workers_and_no_third(pool_hub, tmp_path, poison, status):
    """T16: in other groups, calls, batches and from other tenants it is refused at once; its neighbours are scored."""
    losses = Losses(tmp_path / "log", "mortal_alone")
    (first,) = await pool_hub.score([group("a", poison, "abc")], losses.call)
    assert first.total.statuses == [Status.OK, status, Status.OK]
    assert first.values[::2] == [0.01, 0.03]
    assert losses.texts == [poison] * 2
    again = [group("xy", poison, name=f"g{n}", prompt=f"p{n}", metadata={"n": n}) for n in range(8)]
    answers = await pool_hub.score(again, losses.call, tenant="another")
    (bulk,) = await pool_hub.score([group(poison)], Call(recipe_text=losses.call.recipe_text, priority="bulk"))
    for scores in answers:
        assert scores.values[0] == 0.02
        assert scores[1].status is status
        reason = scores[1].parts["t"].details["reason"]
        assert "2 workers" in reason
        assert "in quarantine" in reason
    assert bulk[0].status is status
    assert losses.texts == [poison] * 2
    assert figure(pool_hub, "rewardhub_quarantined ") == 1
    assert figure(pool_hub, "rewardhub_quarantine_refusals_total") == 9
    (other,) = await pool_hub.score([group("abcd", reference={"k": 1})], losses.call)
    assert other.values == [0.04]


async def test_a_reload_lets_it_try_again(pool_hub, tmp_path):
    """What the operator exchanged may have been at fault: a reload forgets the quarantine."""
    losses = Losses(tmp_path / "log", "mortal_alone")
    for turn in (1, 2):
        await pool_hub.score([group("die")], losses.call)
        await pool_hub.score([group("die")], losses.call)
        assert len(losses.texts) == 2 * turn
        await pool_hub.reload()
        assert figure(pool_hub, "rewardhub_quarantined ") == 0


async def test_a_group_is_lost_and_refused_as_a_whole(pool_hub, tmp_path):
    """T16: group scope: two workers in all, never a part of the group scored as if it were the group."""
    losses = Losses(tmp_path / "log", "mortal_whole")
    for _ in range(2):
        (scores,) = await pool_hub.score([group("die", "ab", "abc")], losses.call)
        assert scores.values == [None] * 3
        assert set(scores.total.statuses) == {Status.INTERNAL_ERROR}
        assert losses.texts == ["die"] * 2
    (scores,) = await pool_hub.score([group("ab", "abc")], losses.call)
    assert scores.values == [0.01, 0.015]


async def test_many_poisons_at_once(pool_hub, tmp_path):
    """T16: forty copies of ten poisons among honest responses: at most a worker each that ran it, and one trial."""
    losses = Losses(tmp_path / "log", "mortal_alone")
    groups = [group("a", f"die{n % 10}", "ab", name=f"g{n}") for n in range(40)]
    answers = await asyncio.gather(*(pool_hub.score([each], losses.call) for each in groups))
    for (scores,) in answers:
        assert scores.values == [0.01, None, 0.02]
        assert scores[1].status is Status.INTERNAL_ERROR
    assert all(2 <= losses.texts.count(f"die{n}") <= 3 for n in range(10))


async def test_popular_answers_outlive_a_massacre(pool_hub):
    """T16: many copies of one answer, all of whose workers are killed from outside, twice: scored, not refused."""
    call = Call(recipe="obedient")
    tasks = [asyncio.create_task(pool_hub.score([group(*["x" * 9] * 50, name=f"g{n}")], call)) for n in range(40)]
    for _ in range(2):
        await asyncio.sleep(0.02)
        for pid in list(pool_hub.scheduler.pool.pids):
            os.kill(pid, signal.SIGKILL)
    answers = [scores for (scores,) in await asyncio.gather(*tasks)]
    assert sum(scores.values.count(0.09) for scores in answers) >= 0.9 * 2000
    assert {score.value for scores in answers for score in scores} <= {0.09, None}


async def test_bounded_in_number_and_time():
    """The oldest are forgotten, what was acquitted is free, and after its time so is the rest."""
    quarantine = Quarantine(kept_s=0.2, limit=3)
    for key in (b"1", b"2", b"3", b"4"):
        assert quarantine.strike(key, LOST, on_trial=False) is None
    assert len(quarantine) == 3
    assert not quarantine.suspects(b"1")
    assert quarantine.suspects(b"2")
    quarantine.absolve(b"2")
    assert quarantine.strike(b"2", LOST, on_trial=True) is None  # an acquitted one begins anew
    assert quarantine.strike(b"4", LOST, on_trial=True).status is Status.INTERNAL_ERROR
    quarantine.absolve(b"4")
    assert quarantine.verdict(b"4") is not None
    assert quarantine.refused == 1
    await asyncio.sleep(0.25)
    assert quarantine.verdict(b"4") is None
    assert quarantine.refused == 0


DEADLY = """
import os, sys, time
if "rewardhub.scheduler.model_worker" in sys.orig_argv:
    from rewardhub.wire import proto
    real = proto.group_from_proto
    def group_from_proto(message):
        group = real(message)
        for response in group.responses:
            if response.text in ("die", "loop"):
                with open({log!r}, "a") as lines:
                    lines.write(f"{{os.getpid()}} {{response.text}}\\n")
                if response.text == "die":
                    os.kill(os.getpid(), 9)
                while True:
                    time.sleep(0.1)
        return group
    proto.group_from_proto = group_from_proto
"""


@pytest.fixture
async def model_hub(tiny_card, tmp_path, monkeypatch):
    """A hub with a real model worker that some texts kill, and the file that says when."""
    log = tmp_path / "log"
    (tmp_path / "sitecustomize.py").write_text(DEADLY.format(log=str(log)))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    config = HubConfig(workers=1, cards=(tiny_card,))
    hub = make_hub(config, Registry())
    hub.reloader = Reload(hub, config, lambda: config)
    await hub.start()
    yield hub, Losses(log, "")
    await hub.aclose()


@pytest.mark.slow
@pytest.mark.parametrize("poison", ["die", "loop"])
async def test_a_model_loses_two_workers_and_no_third(model_hub, poison):
    """T17: the response is found among its batch, refused in other groups and from other tenants; neighbours keep
    their scores. What never ends while pings are answered is ended too."""
    hub, losses = model_hub
    (lane,) = hub.scheduler.models
    lane._run_s = 1.5
    call = Call(recipe="tiny", cache="bypass")
    strangers = [group("red", "blue", name="a"), group("green", name="b")]
    (one, *others) = await hub.score([group("red", poison, "blue"), *strangers], call)
    plain = await hub.score([group("red", "blue"), *strangers], call)
    assert one.total.statuses == [Status.OK, Status.INTERNAL_ERROR, Status.OK]
    assert [one.values[0], one.values[2]] == pytest.approx(plain[0].values, abs=1e-5)
    for scores, alone in zip(others, plain[1:], strict=True):
        assert scores.values == pytest.approx(alone.values, abs=1e-5)
    assert losses.texts == [poison] * 2
    pid = lane.pid
    (again,) = await hub.score([group("black", poison, name="later")], call, tenant="another")
    assert again.total.statuses == [Status.OK, Status.INTERNAL_ERROR]
    assert "quarantine" in again[1].details["reason"]
    assert again[0].fingerprint == lane.fingerprint
    (alone,) = await hub.score([group(poison)], Call(recipe="tiny"), tenant="third")
    assert alone[0].status is Status.INTERNAL_ERROR
    assert losses.texts == [poison] * 2
    assert lane.pid == pid
    await hub.reload()
    assert lane.pid == pid
    assert figure(hub, "rewardhub_quarantined ") == 0
