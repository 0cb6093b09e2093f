"""Trainers that know of a hub by its address only: their own clients' requests, over real sockets, to a real hub."""

import asyncio
import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests

from rewardhub.server.settings import ApiKey, Quota, ServerSettings
from rewardhub.types import Column, GroupScores, Status

PROMPT = "<|im_start|>user\nWhat is 2 + 3?<|im_end|>\n<|im_start|>assistant\n"
OPENRLHF, SLIME = "/openrlhf/get_reward?recipe=math", "/slime/reward?recipe=math"
SAMPLE = {"prompt": "2 + 3?", "response": "\\boxed{5}", "label": "5"}


def queries(*said: str, labels: list[object] | None = None) -> dict[str, object]:
    """A request of OpenRLHF for these responses to the prompt."""
    texts = [f"{PROMPT}{each}<|im_end|>\n" for each in said]
    return {"query": texts, "prompts": [PROMPT] * len(said), "labels": labels or ["5"] * len(said)}


async def openrlhf(url: str, body: object) -> object:
    """What OpenRLHF does with an address: an error of any kind is tried again, and then there is no reward."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=180)) as session:
        async with session.post(url, json=body) as response:
            response.raise_for_status()
            return await response.json()


@pytest.fixture(scope="module")
def hub():
    """The address of ``rewardhub serve`` in a process of its own."""
    program = Path(sys.executable).with_name("rewardhub")
    command = [program, "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().split("http=")[1].split()[0]
        finally:
            process.terminate()
    assert process.returncode == 0


async def test_openrlhf(hub) -> None:
    """A number per query, of what was said behind the prompt; a label is a text, a number, an object or nothing."""
    found = await openrlhf(hub + OPENRLHF, queries("\\boxed{5}", "6"))
    assert found == {"rewards": [1.0, 0.0], "scores": [1.0, 0.0], "extra_logs": {"rewardhub": [1.0, 0.0]}}
    labels = [5, {"answer": "5"}, "5"]
    assert (await openrlhf(hub + OPENRLHF, queries("5", "5", "5", labels=labels)))["rewards"] == [1.0] * 3
    spaced = queries("5") | {"prompts": [PROMPT.replace("<|im_end|>\n", "<|im_end|> ")]}
    assert (await openrlhf(hub + OPENRLHF, spaced))["rewards"] == [1.0]


async def test_openrlhf_with_several_addresses(hub) -> None:
    """All but one get empty lists and answer with empty lists."""
    found = await openrlhf(hub + OPENRLHF, {"query": [], "prompts": [], "labels": []})
    assert (found["rewards"], found["scores"]) == ([], [])


async def test_slime(hub) -> None:
    """A bare number, of 64 requests at once each its own; the prompt may be messages, the label may be nothing."""
    url, right = hub + SLIME, [n % 3 == 0 for n in range(64)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:

        async def reward(sample: object, recipe: str = "math") -> object:
            async with session.post(url.replace("math", recipe), json=sample) as response:
                response.raise_for_status()
                return await response.json()

        told = [SAMPLE | {"response": f"\\boxed{{{5 if fine else 6}}}"} for fine in right]
        assert await asyncio.gather(*map(reward, told)) == [float(fine) for fine in right]
        messages = [{"role": "user", "content": "2 + 3?"}]
        assert await reward(SAMPLE | {"prompt": messages}) == 1.0
        assert (
            await reward({"prompt": "q", "response": "<think>a</think><answer>b</answer>", "label": None}, "tags")
            == 1.0
        )


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (OPENRLHF, [], "body"),
        (OPENRLHF, {}, "query"),
        (OPENRLHF, {"query": ["a"]}, "prompts"),
        (OPENRLHF, {"query": "a", "prompts": ["a"]}, "query"),
        (OPENRLHF, {"query": [1], "prompts": ["a"]}, "query[0]"),
        (OPENRLHF, {"query": ["a"], "prompts": [None]}, "prompts[0]"),
        (OPENRLHF, {"query": ["a", "b"], "prompts": ["a"]}, "prompts"),
        (OPENRLHF, {"query": ["ab"], "prompts": ["a"], "labels": ["x", "y"]}, "labels"),
        (OPENRLHF, {"query": ["x"], "prompts": ["another prompt"], "labels": ["5"]}, "query[0]"),
        (OPENRLHF, {"query": ["p5"], "prompts": ["p"], "labels": ["\\frac{1"]}, "reference.answer"),
        (OPENRLHF, {"query": ["p5"], "prompts": ["p"]}, "reference.answer"),
        (OPENRLHF.replace("math", "mth"), {"query": ["p5"], "prompts": ["p"], "labels": ["5"]}, "recipe"),
        ("/openrlhf/get_reward", {"query": ["p5"], "prompts": ["p"], "labels": ["5"]}, "recipe"),
        (SLIME, [], "body"),
        (SLIME, {"prompt": "p"}, "response"),
        (SLIME, {"prompt": "p", "response": 3}, "response"),
        (SLIME, {"prompt": 3, "response": "5", "label": "5"}, "groups[0].prompt"),
        (SLIME, {"prompt": "p", "response": "5", "label": "\\frac{1"}, "reference.answer"),
        ("/slime/reward?recipe=", SAMPLE, "recipe"),
        ("/verify", {}, "responses_create_params"),
        ("/verify", {"responses_create_params": {"input": "q"}}, "response"),
        (
            "/verify",
            {"responses_create_params": {"input": 3}, "response": {"output": []}},
            "responses_create_params.input",
        ),
        ("/verify", {"responses_create_params": {"input": "q"}, "response": {"output": [3]}}, "output[0]"),
        (
            "/verify",
            {"responses_create_params": {"input": "q"}, "response": {"output": [{"type": "x"}]}},
            "output[0].type",
        ),
        (
            "/verify",
            {"responses_create_params": {"input": [{"content": [{"type": []}]}]}, "response": {"output": []}},
            "input[0].content[0].type",
        ),
        ("/verify", {"responses_create_params": {"input": "q"}, "response": {"output": []}}, "recipe"),
        (
            "/verify?recipe=math",
            {"responses_create_params": {"input": "q"}, "response": {"output": []}},
            "reference.answer",
        ),
    ],
)
async def test_what_cannot_be_scored_is_an_error(hub, path, body, field) -> None:
    """Never a number: 400 that names the field, beside good samples too."""
    async with httpx.AsyncClient(base_url=hub, timeout=20) as http:
        reply = await http.post(path, json=body)
    assert (reply.status_code, reply.json()["error"]["field"]) == (400, field), reply.text


def row(*output: object, **fields: object) -> dict[str, object]:
    """A request of NeMo Gym: what was asked, the output of the model, and fields of the data set's row."""
    asked = {"input": [{"role": "user", "content": "2 + 3?"}], "instructions": "Be brief.", "temperature": 1.0}
    response = {"id": "resp_1", "object": "response", "output": list(output), "model": "m"}
    return {"responses_create_params": asked, "response": response, "recipe": "math", "expected_answer": "5"} | fields


def message(text: str) -> dict[str, object]:
    parts = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": parts}


THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "6"}]}


async def test_nemo_gym(hub) -> None:
    """The request comes back with its reward; the reference stands in one of several places."""
    metadata = {"expected_answer": None, "verifier_metadata": {"answer": {"answer": "5"}}}
    async with httpx.AsyncClient(base_url=hub, timeout=20) as http:
        assert (await http.post("/seed_session", json={})).json() == {}
        for body, reward in [
            (row(THOUGHT, message("\\boxed{5}"), question_id=7), 1.0),
            (row(message("6")), 0.0),
            (row(message("5"), **metadata), 1.0),
            (row(message("5"), expected_answer=5), 1.0),
            (row(message("5"), responses_create_params={"input": "2 + 3?"}), 1.0),
            (row(), 0.0),
        ]:
            reply = await http.post("/verify", json=body)
            assert (reply.status_code, reply.json()) == (200, body | {"reward": reward}), reply.text
        in_address = await http.post("/verify?recipe=math", json=row(message("5"), recipe=None))
        assert in_address.json()["reward"] == 1.0


async def test_nemo_gym_is_heard_as_it_speaks(service, image) -> None:
    """Messages with images, calls of tools and what these said reach the scorer; thoughts do not."""
    url = f"data:image/png;base64,{base64.b64encode(image()).decode()}"
    parts = [{"type": "input_text", "text": "What?"}, {"type": "input_image", "image_url": url, "detail": "auto"}]
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = (THOUGHT, call, {"type": "function_call_output", "call_id": "c", "output": "7"}, message("5"))
    asked = {"input": [{"role": "user", "content": parts}], "instructions": "Be brief."}
    async with service() as running, running.http() as http:
        reply = await http.post("/verify", json=row(*output, recipe="digest", responses_create_params=asked))
        assert reply.status_code == 200, reply.text
        ((group,), _, _) = running.hub.calls[0]
    shown = [{"type": "text", "text": "What?"}, {"type": "image", "media": 0}]
    assert group.prompt == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": shown})
    assert [each.sha256 for each in group.media] == [hashlib.sha256(image()).hexdigest()]
    (response,) = group.responses
    assert (response.text, [each["role"] for each in response.messages]) == ("5", ["assistant", "tool", "assistant"])
    assert response.messages[0]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


CODES = {
    Status.TIMEOUT: 504, Status.UNAVAILABLE: 503, Status.CANCELLED: 503, Status.INTERNAL_ERROR: 500,
    Status.JUDGE_UNPARSEABLE: 500, Status.SKIPPED: 500, Status.INCOMPLETE_GROUP: 500, Status.NO_ANSWER: 400,
    Status.OVER_LIMIT: 400, Status.REFERENCE_UNPARSEABLE: 400, Status.INVALID_INPUT: 400,
}  # fmt: skip


async def test_a_failure_of_any_kind_is_an_error(service, fake_hub, monkeypatch) -> None:
    """One failed score of a request fails it, with what the status means and when to come again."""
    hub = fake_hub()

    async def score(groups, call, *, tenant=""):
        last = Column.failed(1, status, reason="why", retry_after_s=2.5)
        good = [GroupScores(each.id, Column([1.0], [Status.OK]), indices=[0]) for each in groups[:-1]]
        return [*good, GroupScores(groups[-1].id, last, indices=[0])]

    monkeypatch.setattr(hub, "score", score)
    assert CODES.keys() == set(Status) - {Status.OK}
    async with service(hub=hub) as running, running.http() as http:
        for status, code in CODES.items():
            for path, body in ((OPENRLHF, queries("5", "5")), (SLIME, SAMPLE), ("/verify", row(message("5")))):
                reply = await http.post(path, json=body)
                assert (reply.status_code, reply.json()["error"]["message"]) == (code, "why")
                assert reply.headers["retry-after"] == "3"


@pytest.mark.parametrize(("path", "body"), [(OPENRLHF, queries("5")), (SLIME, SAMPLE)])
async def test_a_hub_that_fails_or_is_gone(service, fake_hub, path, body) -> None:
    """A crash, a full hub and one that was stopped are errors to the trainers' own clients."""
    async with service() as running, running.http() as http:
        assert (await http.post(path.replace("math", "broken"), json=body)).status_code == 500
        running.hub.full = True
        assert (await http.post(path, json=body)).status_code == 503
        with pytest.raises(aiohttp.ClientResponseError, match="503"):
            await openrlhf(running.url + path, body)
    with pytest.raises(aiohttp.ClientConnectionError):
        await openrlhf(running.url + path, body)


@pytest.mark.parametrize(("path", "body"), [(OPENRLHF, queries("5")), (SLIME, SAMPLE)])
async def test_a_key_in_the_address(service, path, body) -> None:
    """An address is all that these trainers take, so a key stands in it; quotas hold as elsewhere."""
    key = ApiKey(key_sha256=hashlib.sha256(b"k-1:2").hexdigest(), tenant="a", scopes={"score"})
    settings = ServerSettings(keys=(key,), quotas={"a": Quota(requests_per_s=1)})
    path = path.replace("math", "digest")
    async with service(settings) as running:
        host = running.url.removeprefix("http://")
        await openrlhf(f"http://hub:k-1:2@{host}{path}", body)
        reply = await asyncio.to_thread(requests.post, f"http://hub:k-1:2@{host}{path}", json=body, timeout=20)
        assert reply.status_code in {200, 429}
        async with running.http() as http:
            assert (await http.post(path, json=body)).status_code == 401
            for wrong in ("Basic aHViOms=", "Basic ?", "Basic aHVi"):
                assert (await http.post(path, json=body, headers={"authorization": wrong})).status_code == 401
            codes = {(await http.post(path, json=body, auth=("hub", "k-1:2"))).status_code for _ in range(4)}
        assert codes <= {200, 429}
        assert 429 in codes


async def test_models_are_those_that_write(hub, service) -> None:
    """OpenAI's clients ask which models there are: none without a generative card, else their names."""
    async with httpx.AsyncClient(base_url=hub, timeout=20) as http:
        assert (await http.get("/v1/models")).json() == {"object": "list", "data": []}
    async with service() as running, httpx.AsyncClient(base_url=running.url) as http:
        (model,) = (await http.get("/v1/models")).json()["data"]
        assert (model["id"], model["object"]) == ("writer", "model")
