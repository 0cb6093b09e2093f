"""A judge that is a real model: the hub's own generative model behind its chat door, and one behind vLLM."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from rewardhub.judges import JudgePool, JudgeSettings, judge_scorers
from rewardhub.models import Card
from rewardhub.models.colours import colour_items
from rewardhub.models.tiny import build_tiny
from rewardhub.models.vllm_server import VllmServer
from rewardhub.scorer import Context
from rewardhub.types import Group, Response, Status

CARD = """\
name = "writer"
kind = "generative"
path = "base"
system = ""
max_reply_tokens = 24
"""
QUESTION = Group("g", "What is 3 + 4?", (Response("It is 7."), Response("It is 8."), Response("")), {"answer": "7"})


def long_tiny(path: Path, **options) -> Path:
    """The tiny checkpoint with room for a judge's prompt, which falls apart into bytes."""
    build_tiny(path, **options)
    for name, key in (("config.json", "max_position_embeddings"), ("tokenizer_config.json", "model_max_length")):
        config = json.loads((path / name).read_text())
        (config["text_config"] if "text_config" in config else config)[key] = 16_384
        (path / name).write_text(json.dumps(config))
    return path


@pytest.fixture(scope="module")
def chat_url(tmp_path_factory):
    """``rewardhub serve`` with a tiny generative model in its worker process."""
    folder = tmp_path_factory.mktemp("writer")
    long_tiny(folder / "base", seed=4)
    (folder / "card.toml").write_text(CARD)
    program = Path(sys.executable).with_name("rewardhub")
    command = [program, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--card", folder / "card.toml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            doors = dict(word.split("=", 1) for word in process.stdout.readline().split() if "=" in word)
            for _ in range(600):
                if httpx.get(f"{doors['http']}/readyz").status_code == 200:
                    break
                time.sleep(0.1)
            yield f"{doors['http']}/v1"
        finally:
            process.terminate()


async def judged(url: str, group: Group = QUESTION, **settings):
    """The rows of a judge of this endpoint, and its statistics."""
    pool = JudgePool()
    await pool.start()
    try:
        endpoint = {"url": url, "model": settings.pop("model", "writer")}
        chosen = {"endpoints": [endpoint], "rubric": "equivalence", "max_tokens": 24, "timeout_s": 120} | settings
        (scorer,) = judge_scorers([JudgeSettings.model_validate(chosen)], pool)
        context = Context(time.monotonic() + 120)
        column = await scorer.bind({}).score_remote(group, range(len(group.responses)), context)
        return [column.row(row) for row in range(len(column))], scorer.lane.stats()
    finally:
        await pool.aclose()


async def test_the_hubs_own_model_judges(chat_url) -> None:
    """Real verdicts of a real model, read from its weights; the empty answer never reaches it."""
    rows, stats = await judged(chat_url, structured=True)
    assert [row.status for row in rows] == [Status.OK] * 3
    for row in rows[:2]:
        assert row.value in {0.0, 1.0}
        assert (row.details["model"], row.details["calls"], row.details["verdict"]) == ("writer", 1, int(row.value))
    assert rows[2].details["gate"]
    (usage,) = stats["usage"]
    assert (usage["calls"], usage["retries"], usage["unparseable"]) == (2, 0, 0)
    assert usage["prompt_tokens"] > 2_000
    assert usage["completion_tokens"] > 20


async def test_the_hubs_own_model_sees_images(chat_url) -> None:
    """The group's image travels as a data URL to a judge with vision."""
    item = next(colour_items(1))
    group = Group("g", item.question, (Response("It is red."),), {"answer": item.colour}, media=(item.media,))
    (row,), seeing = await judged(chat_url, group, structured=True, vision=True)
    (_,), blind = await judged(chat_url, group, structured=True)
    assert row.status is Status.OK
    assert seeing["usage"][0]["prompt_tokens"] > blind["usage"][0]["prompt_tokens"]


async def test_a_model_that_cannot_write_a_verdict_gives_none(chat_url) -> None:
    """Untrained and unconstrained it babbles: re-asked within the attempts, then no value, all tokens counted."""
    rows, stats = await judged(chat_url, attempts=2)
    assert [(row.value, row.status) for row in rows[:2]] == [(None, Status.JUDGE_UNPARSEABLE)] * 2
    (usage,) = stats["usage"]
    assert (usage["calls"], usage["unparseable"]) == (4, 4)


def test_the_chat_door_speaks_openai(chat_url) -> None:
    """A completion in OpenAI's form, greedy and so the same twice; what it cannot do names its field; its models are
    listed."""
    body = {"model": "writer", "messages": [{"role": "user", "content": "What colour is it?"}], "max_tokens": 5}
    with httpx.Client(base_url=chat_url, timeout=60) as http:
        first, second = (http.post("/chat/completions", json=body).json() for _ in range(2))
        assert first["choices"] == second["choices"]
        assert [each["id"] for each in http.get("/models").json()["data"]] == [body["model"]]
        assert (first["object"], first["model"], first["choices"][0]["finish_reason"]) == (
            "chat.completion", "writer", "length",
        )  # fmt: skip
        assert first["usage"]["completion_tokens"] == 5
        for field, value in {
            "model": "math", "temperature": 0.7, "stream": True, "n": 2, "messages": [], "max_tokens": 0,
            "response_format": {"type": "json_object"}, "tools": [],
        }.items():  # fmt: skip
            reply = http.post("/chat/completions", json=body | {field: value})
            assert (reply.status_code, reply.json()["error"]["field"]) == (400, field)
        image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}]}
        reply = http.post("/chat/completions", json=body | {"messages": [image]})
        assert (reply.status_code, reply.json()["error"]["field"]) == (400, "media[0].url")
        reply = http.post("/chat/completions", json=body | {"model": "wrter"})
        assert (reply.status_code, "did you mean" in reply.json()["error"]["message"]) == (400, True)


COMPACT = '{"backend": "xgrammar", "disable_any_whitespace": true}'
ARGUMENTS = (
    "--enforce-eager", "--limit-mm-per-prompt", '{"image": 0, "video": 0}', "--structured-outputs-config", COMPACT,
)  # fmt: skip


@pytest.fixture(scope="module")
def vllm_url(tmp_path_factory):
    """A vLLM server with the same tiny model; REWARDHUB_VLLM_PYTHON names the interpreter that has vLLM."""
    python = os.environ.get("REWARDHUB_VLLM_PYTHON", "")
    if not python:
        pytest.skip("REWARDHUB_VLLM_PYTHON is not set: no vLLM environment is at hand")
    path = long_tiny(tmp_path_factory.mktemp("vllm") / "base", seed=4, heads=2)
    spec = {"python": python, "arguments": ARGUMENTS}
    card = Card(name="writer", kind="pairwise", path=path, max_tokens=8192, backend="vllm", vllm=spec)
    server = VllmServer(card, path, ["--runner", "generate"])
    yield f"{server.url}/v1"
    server.close()


@pytest.mark.vllm
@pytest.mark.timeout(600)
async def test_a_model_behind_vllm_judges(vllm_url) -> None:
    """Held to the schema it gives verdicts; left free the same untrained model gives none, and no number."""
    rows, stats = await judged(vllm_url, structured=True, max_tokens=400, reasoning_chars=40)
    assert [row.status for row in rows[:2]] == [Status.OK] * 2, [dict(row.details) for row in rows]
    assert {row.value for row in rows[:2]} <= {0.0, 1.0}
    assert stats["usage"][0]["prompt_tokens"] > 1_000
    free, _ = await judged(vllm_url, attempts=1)
    assert [(row.value, row.status) for row in free[:2]] == [(None, Status.JUDGE_UNPARSEABLE)] * 2
