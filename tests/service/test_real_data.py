"""Real public data through a hub: the verdicts that a user checks first."""

import gzip
import json

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.local import LocalHub
from rewardhub.types import Call, Group, Response, Status


@pytest.fixture(scope="module")
def hub():
    with LocalHub(lambda: make_hub(HubConfig())) as hub:
        yield hub


def read(path):
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
    with opened as lines:
        return [json.loads(line) for line in lines]


def values(hub, groups, recipe):
    return [scores[0] for scores in hub.score(groups, Call(recipe=recipe, deadline_ms=600_000))]


def gsm8k(data_dir):
    rows = read(data_dir / "gsm8k/test.jsonl")
    assert len(rows) == 1319
    return [(row["answer"], row["answer"].rsplit("####", 1)[1].strip()) for row in rows]


def test_gsm8k_gold_solutions_are_right(hub, data_dir):
    """1,319 gold solutions as responses: 1,319 values 1.0."""
    groups = [Group(str(n), "", (Response(text),), {"answer": gold}) for n, (text, gold) in enumerate(gsm8k(data_dir))]
    assert [score.value for score in values(hub, groups, "math")] == [1.0] * 1319


def test_gsm8k_off_by_one_is_wrong(hub, data_dir):
    """The same with the final number raised by one: 1,319 values 0.0, status ok."""
    groups = []
    for n, (text, gold) in enumerate(gsm8k(data_dir)):
        raised = str(int(gold.replace(",", "")) + 1)
        head = text.rsplit("####", 1)[0]
        groups.append(Group(str(n), "", (Response(f"{head}#### {raised}"),), {"answer": gold}))
    scores = values(hub, groups, "math")
    assert [score.value for score in scores] == [0.0] * 1319
    assert {score.status for score in scores} == {Status.OK}


def test_math500_solutions_are_right(hub, data_dir):
    """Gold solution text as response, `answer` as reference: 500 of 500."""
    rows = read(data_dir / "math500/test.jsonl")
    groups = [Group(str(n), "", (Response(row["solution"]),), {"answer": row["answer"]}) for n, row in enumerate(rows)]
    assert [score.value for score in values(hub, groups, "math")] == [1.0] * 500


def humaneval(data_dir, body):
    rows = read(data_dir / "humaneval/HumanEval.jsonl.gz")
    assert len(rows) == 164
    groups = []
    for row in rows:
        suffix = f"\n{row['test']}\ncheck({row['entry_point']})\n"
        reference = {"language": "python", "prefix": row["prompt"], "suffix": suffix}
        groups.append(Group(row["task_id"], "", (Response(body(row)),), reference))
    return groups


def test_humaneval_canonical_solutions_pass(hub, data_dir):
    """164 canonical solutions through `code`: 164 at 1.0."""
    scores = values(hub, humaneval(data_dir, lambda row: row["canonical_solution"]), "code")
    assert [score.value for score in scores] == [1.0] * 164


def test_humaneval_empty_bodies_fail(hub, data_dir):
    """Each body replaced by `return None`: none at 1.0, all of them verdicts."""
    scores = values(hub, humaneval(data_dir, lambda row: "    return None\n"), "code")
    assert [score.value for score in scores] == [0.0] * 164
    assert {score.status for score in scores} == {Status.OK}
