"""Policies that attack their grader never do better than a policy that answers wrongly."""

import json
import subprocess
import sys

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.local import LocalHub
from rewardhub.types import Call, Group, Response, Status

WRONG, RIGHT, TOWER = "\\boxed{8}", "\\boxed{7}", "\\boxed{9^{9^{9}}}"
LOOP = "def f(x):\n    while True:\n        pass\n"
CODE = {"language": "python", "suffix": "\nassert f(2) == 4\n", "limits": {"time_s": 1}}


@pytest.fixture(scope="module")
def hub():
    with LocalHub(lambda: make_hub(HubConfig())) as hub:
        yield hub


def advantage(values, index):
    return values[index] - sum(values) / len(values)


@pytest.mark.parametrize("attack", [TOWER, "9**9**9", "\\sqrt{" * 500 + "49" + "}" * 500, "1" * 20_001, "(" * 100_000])
def test_math_attacks_gain_nothing(hub, attack):
    """A power tower, deep nesting, or a flood of digits is never worth more than a wrong answer."""
    group = Group("g", "", (Response(attack), Response(WRONG), Response(RIGHT)), {"answer": "7"})
    (scores,) = hub.score([group], Call(recipe="math"))
    assert scores.values[1:] == [0.0, 1.0]
    assert scores[0].value is not None, scores[0]
    assert advantage(scores.values, 0) <= advantage(scores.values, 1)


@pytest.mark.parametrize(
    "attack", [LOOP, "import os\nos._exit(0)\n", "import sys\nsys.exit(0)\n", "def f(x): return f(x)\n"]
)
def test_code_attacks_gain_nothing(hub, attack):
    """A program that never ends, or ends too soon, is never worth more than a wrong one."""
    wrong, right = "def f(x):\n    return 5\n", "def f(x):\n    return x * x\n"
    group = Group("g", "", (Response(attack), Response(wrong), Response(right)), CODE)
    (scores,) = hub.score([group], Call(recipe="code"))
    assert scores.values == [0.0, 0.0, 1.0]
    assert {score.status for score in scores} == {Status.OK}


@pytest.mark.parametrize(
    ("recipe", "response", "reference", "value", "status"),
    [
        ("math", "1", {"answer": ""}, None, Status.REFERENCE_UNPARSEABLE),
        ("math", "1", {"answer": "\\frac{1"}, None, Status.REFERENCE_UNPARSEABLE),
        ("math", "1", {"answer": "{" * 300}, None, Status.REFERENCE_UNPARSEABLE),
        ("math", "1", {"answer": ["1"]}, None, Status.REFERENCE_UNPARSEABLE),
        ("math", "1", {}, None, Status.REFERENCE_UNPARSEABLE),
        ("box_iou", "[1, 2, 3, 4]", {"box": [0, 0, float("nan"), 1]}, None, Status.REFERENCE_UNPARSEABLE),
        ("box_iou", "[NaN, 2, 3, 4]", {"box": [0, 0, 1, 1]}, 0.0, Status.OK),
        ("maths", "1", {"answer": "1"}, None, Status.INVALID_INPUT),
    ],
)
def test_bad_input_has_its_status_and_costs_no_neighbour(hub, recipe, response, reference, value, status):
    """Each fault has its own status; the neighbour in the batch is scored."""
    bad = Group("bad", "", (Response(response),), reference, recipe=recipe)
    good = Group("good", "", (Response("7"),), {"answer": "7"}, recipe="math")
    answers = hub.score([good, bad, good], Call())
    assert (answers[1][0].value, answers[1][0].status) == (value, status)
    assert answers[0].values == answers[2].values == [1.0]


@pytest.mark.parametrize("recipe", ["math", "mcq", "tags", "box_iou"])
@pytest.mark.parametrize("text", ["x" * 2**20, "{" * 2**20, "\\boxed{" * 150_000, "<answer>" * 130_000, "1," * 2**19])
def test_a_response_of_a_megabyte(hub, recipe, text):
    """It is scored, or over the stated size, within two seconds."""
    references = {"math": "7", "mcq": "B", "tags": "", "box_iou": ""}
    reference = {"answer": references[recipe], "options": ["a", "b"], "box": [0, 0, 1, 1]}
    (scores,) = hub.score([Group("g", "", (Response(text), Response("7")), reference)], Call(recipe=recipe))
    assert scores[0].status in {Status.OK, Status.OVER_LIMIT, Status.NO_ANSWER}
    assert scores[1].status in {Status.OK, Status.NO_ANSWER}
    assert scores.timings.total_ms < 10_000


def test_unending_programs_do_not_hold_the_hub(hub):
    """Eight programs that never end, beside one that does: all have their verdict."""
    group = Group("g", "", (*[Response(LOOP)] * 8, Response("def f(x):\n    return x * x\n")), CODE)
    (scores,) = hub.score([group], Call(recipe="code"))
    assert scores.values == [0.0] * 8 + [1.0]
    assert scores[0].details["verdict"] == "time_limit"


def test_the_same_over_rest(tmp_path):
    """HTTP 200, a status per group: bad reference, unknown recipe, unknown media, NaN boxes, a megabyte."""
    import httpx

    command = [sys.executable, "-P", "-m", "rewardhub.cli", "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path)
    try:
        url = dict(word.split("=") for word in process.stdout.readline().split() if "=" in word)["http"]
        groups = [
            {"id": "1", "reference": "", "responses": ["1"]},
            {"id": "2", "recipe": "mth", "reference": "1", "responses": ["1"]},
            {"id": "3", "media": [{"sha256": "0" * 64}], "reference": "1", "responses": ["1"]},
            {"id": "4", "recipe": "box_iou", "reference": {"box": [0, 0, None, 1]}, "responses": ["[0,0,1,1]"]},
            {"id": "5", "reference": "1", "responses": ["x" * 2**20]},
            {"id": "6", "reference": "1", "respones": ["1"]},
            {"id": "7", "reference": "1", "responses": ["1"]},
        ]
        body = json.dumps({"recipe": "math", "groups": groups})
        reply = httpx.post(f"{url}/v1/score", content=body, timeout=60)
        assert reply.status_code == 200
        lines = reply.json()["groups"]
        assert [line["id"] for line in lines] == list("1234567")
        statuses = [line["scores"][0]["status"] if line["scores"] else None for line in lines]
        assert statuses[:4] == ["reference_unparseable", "invalid_input", "invalid_input", "reference_unparseable"]
        assert statuses[4] in {"ok", "over_limit", "no_answer"}
        assert statuses[5] in {"invalid_input", None}
        assert lines[6]["scores"][0]["value"] == 1.0
        assert "did you mean 'math'" in lines[1]["scores"][0]["details"]["reason"]
        assert "0" * 64 in lines[2]["scores"][0]["details"]["reason"]
    finally:
        process.terminate()
        assert process.wait(timeout=40) == 0
        process.stdout.close()


@pytest.mark.parametrize(
    "attack",
    [
        "import os\nos.kill(0, 9)\n",
        "import os\nos.kill(os.getppid(), 9)\n",
        "import os\nos.kill(os.getppid(), 15)\n",
        "import os\nos.killpg(os.getpgid(os.getppid()), 9)\n",
        "import os\nos.kill(-1, 9)\n",
        "import os\nos.abort()\n",
    ],
)
def test_a_program_cannot_kill_its_grader(hub, attack):
    """A program that signals its parents and its group is wrong, not unscored; its neighbours are scored."""
    right = "def f(x):\n    return x * x\n"
    group = Group("g", "", (Response(attack + "def f(x): return 0\n"), Response(right)), CODE)
    (scores,) = hub.score([group], Call(recipe="code"))
    assert scores.values == [0.0, 1.0]
    assert {score.status for score in scores} == {Status.OK}


def test_thoughts_are_not_the_answer(hub):
    """What is said outside thoughts counts; a right box in them does not, whatever follows."""
    texts = [
        "<think>\\boxed{3}</think><answer>7</answer>",
        "<think>\\boxed{7}</think>I do not know",
        "<think>\\boxed{7}</think>",
    ]
    group = Group("g", "", tuple(map(Response, texts)), {"answer": "7"})
    (scores,) = hub.score([group], Call(recipe="math"))
    assert scores.values == [1.0, 0.0, 0.0]
    assert [score.status for score in scores][1:] == [Status.NO_ANSWER] * 2
