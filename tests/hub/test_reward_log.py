"""The reward log: what every trainer was told, as JSON lines."""

import asyncio
import json
import os
import select
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.reward_log import RewardLog, read_log
from rewardhub.types import Call, Column, Group, GroupScores, Media, Response, Status

from .conftest import oracle

GROUP = Group("g", "p", (Response("a"), Response("b")), {"answer": 2**70})
CALL = Call(recipe="oracle", run="r", step=3, policy_version="v7", inputs={"stage": 1.0})


@pytest.fixture
async def lines_of(registry, monkeypatch, tmp_path):
    """Scores groups by a hub with a log and gives the lines of that log."""
    monkeypatch.setattr("rewardhub.recipe_book.CATALOGUE", Path("/nonexistent"))

    async def score(groups, call, **settings):
        path = tmp_path / "log" / "rewards.jsonl"
        hub = make_hub(HubConfig(workers=1, reward_log=str(path), **settings), registry)
        await hub.start()
        scores = await hub.score(groups, call)
        await hub.aclose()
        return read_log(path), scores, path

    return score


async def test_a_line_tells_what_was_scored(lines_of):
    """Run, step, policy version, inputs, recipe, fingerprint, values and statuses; no text by default."""
    (line,), (scores,), path = await lines_of([GROUP], CALL)
    assert (line["run"], line["step"], line["policy_version"], line["inputs"]) == ("r", 3, "v7", {"stage": 1.0})
    assert (line["id"], line["recipe"]) == ("g", "oracle")
    assert len(line["fingerprint"]) == 64
    assert [score["value"] for score in line["scores"]] == scores.values == [oracle("p", "a"), oracle("p", "b")]
    assert "group" not in line
    assert '"p"' not in path.read_text()


async def test_members_of_unlike_steps_have_none(registry, monkeypatch, tmp_path):
    """The line of a group whose members' calls name different steps or policies tells none of them as that of all."""
    monkeypatch.setattr("rewardhub.recipe_book.CATALOGUE", Path("/nonexistent"))
    hub = make_hub(HubConfig(workers=1, reward_log=str(tmp_path / "log")), registry)
    await hub.start()
    calls = [replace(CALL, step=3 + k % 2, policy_version="v7") for k in range(3)]
    singles = (hub.score([Group("g", "p", (Response(str(k)),), expected=3)], call) for k, call in enumerate(calls))
    await asyncio.gather(*singles)
    await hub.aclose()
    (line,) = read_log(tmp_path / "log")
    assert (line["run"], line["step"], line["policy_version"]) == ("r", None, "v7")


async def test_a_member_whose_caller_went_away_is_no_number(registry, dear, monkeypatch, tmp_path):
    """Law 1: what was being scored for a caller that left is logged as cancelled, not as skipped by a condition."""
    monkeypatch.setattr("rewardhub.recipe_book.CATALOGUE", Path("/nonexistent"))
    hub = make_hub(HubConfig(workers=1, reward_log=str(tmp_path / "log")), registry)
    await hub.start()
    terms = 'terms: {o: {scorer: oracle}, d: {scorer: dear, when: "o >= 0"}, e: {scorer: oracle, when: "d > 2"}}'
    call = Call(recipe_text=f'name: c\n{terms}\nvalue: "o + if_skipped(d, 0) + if_skipped(e, 0)"')
    await hub.score([Group("g", "p", (Response("a"),), expected=2)], call)
    dear.gate = asyncio.Event()
    leaving = asyncio.create_task(hub.score([Group("g", "p", (Response("b"),), expected=2)], call))
    await asyncio.sleep(0.05)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0.05)
    await hub.aclose()
    (line,) = read_log(tmp_path / "log")
    stayed, left = line["scores"]
    assert (stayed["status"], left["status"], left["value"]) == ("ok", "cancelled", None)
    assert {name: part["status"] for name, part in left["parts"].items()} == {
        "o": "ok", "d": "cancelled", "e": "cancelled",
    }  # fmt: skip


async def test_what_was_told_before_a_group_was_given_up_is_logged(registry, dear, monkeypatch, tmp_path):
    """The log says what the trainer was told: the scores that came before it broke off, and that the rest was cancelled."""
    monkeypatch.setattr("rewardhub.recipe_book.CATALOGUE", Path("/nonexistent"))
    hub = make_hub(HubConfig(workers=1, reward_log=str(tmp_path / "log")), registry)
    await hub.start()
    opened = hub.open(Group("g", "p"), Call(recipe_text="name: c\nterms: {d: {scorer: dear}}\nvalue: 2 * d"))
    opened.add([Response("a")])
    first = await anext(aiter(opened))
    dear.gate = asyncio.Event()
    opened.add([Response("b")])
    await asyncio.sleep(0.05)
    opened.cancel()
    await hub.aclose()
    (line,) = read_log(tmp_path / "log")
    assert [(score["value"], score["status"]) for score in line["scores"]] == [
        (first.values[0], "ok"), (None, "cancelled"),
    ]  # fmt: skip
    assert [score["parts"]["d"]["status"] for score in line["scores"]] == ["ok", "cancelled"]


async def test_texts_are_recorded_where_the_operator_says_so(lines_of):
    """With texts a line is enough to score again."""
    from rewardhub.wire.lines import group_from_json

    (line,), _, _ = await lines_of([GROUP], CALL, reward_log_texts=True)
    assert group_from_json(line["group"]) == GROUP


async def test_lines_are_appended(lines_of):
    """A second hub adds to the log of the first; failures are recorded too."""
    await lines_of([GROUP], CALL)
    lines, _, _ = await lines_of([replace(GROUP, recipe="match", reference={})], CALL)
    assert [line["recipe"] for line in lines] == ["oracle", "match"]
    assert lines[1]["scores"][0]["status"] == "reference_unparseable"


async def test_a_torn_last_line_is_left_out(lines_of, tmp_path):
    """A log cut short by a crash is readable."""
    _, _, path = await lines_of([GROUP], CALL)
    with path.open("a") as log:
        log.write(json.dumps({"id": "x"})[:-3])
    assert [line["id"] for line in read_log(path)] == ["g"]


def recorded(path, *texts):
    """A closed log of one group per text."""
    log = RewardLog(path, texts=True)
    log.start()
    scores = GroupScores("g", Column([1.0], [Status.OK], "f"), indices=[0])
    for text in texts:
        log.record(Group("g", "p", (Response(text),)), scores, CALL, "oracle", "f", "")
    log.close()
    return log


def test_no_text_ends_the_log(tmp_path):
    """Half of a surrogate pair is written as its escape, and the lines after it are written too."""
    path = tmp_path / "log.jsonl"
    recorded(path, "a", "\ud800", "b")
    assert [line["group"]["responses"][0] for line in read_log(path)] == ["a", "\ud800", "b"]


def test_a_full_disk_ends_neither_the_log_nor_the_hub():
    """Lines that find no room are counted; what is recorded later is still taken, and closing comes to an end."""
    log = recorded(Path("/dev/full"), *["x" * 100_000] * 50)
    assert log.dropped >= 49


@pytest.mark.parametrize("texts", [False, True])
def test_a_hung_disk_fills_no_memory(tmp_path, monkeypatch, texts):
    """What waits to be written holds no bytes of media, no details and, without texts, no group; the rest is dropped."""
    monkeypatch.setattr("rewardhub.reward_log.QUEUE_BYTES", 100_000)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = RewardLog(path, texts=texts)
    log.start()
    scores = GroupScores("g", Column([1.0], [Status.OK], "f", [{"reason": "r" * 1_000}]), indices=[0])
    tracemalloc.start()
    for _ in range(3_000):
        media = (Media.from_bytes(os.urandom(10_000)),)
        group = Group("g", "p", (Response("x" * 1_000, media=media),), media=media)
        log.record(group, scores, CALL, "oracle", "f", "")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3_000_000
    assert log.dropped > 1_000
    reading = threading.Thread(target=lambda: [None for _ in iter(lambda: _read(reader), b"")], daemon=True)
    reading.start()
    log.close()
    reading.join()
    os.close(reader)


def _read(pipe):
    select.select([pipe], [], [], 5.0)
    return os.read(pipe, 1 << 20)
