"""The reward log: what every trainer was told, as JSON lines."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.reward_log import read_log
from rewardhub.types import Call, Group, Response

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
