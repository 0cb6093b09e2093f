"""The OpenAPI document is true: what each route answers is what it says, field by field."""

import asyncio
import hashlib
import json

import jsonschema
import pytest

from rewardhub.errors import InvalidInput
from rewardhub.server import documents
from rewardhub.server.compat import openai_chat, sandbox_fusion
from rewardhub.server.settings import ApiKey, Limits, Quota, ServerSettings
from rewardhub.types import Score, Status
from rewardhub.wire.lines import call_from_json, group_from_json

KEYS = {"all": {"admin"}, "none": set(), "slow": {"score"}}
SETTINGS = ServerSettings(
    keys=tuple(
        ApiKey(key_sha256=hashlib.sha256(name.encode()).hexdigest(), tenant=name, scopes=scopes)
        for name, scopes in KEYS.items()
    ),
    limits=Limits(body_bytes=2**16, body_s=0.3),
    quotas={"slow": Quota(requests_per_s=0.01)},
)
GROUPS = {"groups": [{"id": "g", "responses": ["a", "b", "c"]}]}
CASES = {"test": [{"input": {"stdin": "1"}, "output": {"stdout": "1"}}]}
SUBMISSION = {"completion": "print(input())", "config": {"provided_data": CASES}, "id": 7}
PROGRAM = {"code": "open('f', 'w').write('x'); print(1)", "language": "python", "fetch_files": ["f"]}

QUERIES = {"query": ["pa", "pb"], "prompts": ["p", "p"], "labels": ["5", {"answer": "5"}]}
ROW = {
    "responses_create_params": {"input": [{"role": "user", "content": "q"}], "temperature": 1},
    "response": {"id": "r", "output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}]},
    "recipe": "digest", "expected_answer": "5", "difficulty": 3,
}  # fmt: skip
SAMPLE = {"prompt": "p", "response": "a", "label": "5"}


def deep(layers):
    return {"items": deep(layers - 1)} if layers else {}


def closed(schema):
    """The schema with every object held to the properties that it names."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and "additionalProperties" not in schema:
        found["additionalProperties"] = False
    return found


def check(document, reply):
    """The answer stands in the document under its code and its media type, in that form."""
    operation = document["paths"][reply.request.url.path][reply.request.method.lower()]
    kinds = operation["responses"][str(reply.status_code)]["content"]
    kind = reply.headers["content-type"].partition(";")[0]
    assert set(kinds) == {kind}, reply.text
    schema = {**closed(kinds[kind]["schema"]), "components": closed(document["components"])}
    bodies = [json.loads(line) for line in reply.text.splitlines()] if "ndjson" in kind else [reply.text]
    for body in [reply.json()] if kind == "application/json" else bodies:
        jsonschema.Draft202012Validator(schema).validate(body)
    return reply.status_code


@pytest.mark.parametrize(
    ("code", "method", "path", "options"),
    [
        (200, "POST", "/v1/score", {"json": {"recipe": "digest", **GROUPS}}),
        (200, "POST", "/v1/score", {"json": {"recipe": "nope", **GROUPS}}),
        (200, "POST", "/v1/score", {"json": {"recipe": "digest", "groups": [{"responses": [3]}, 5]}}),
        (400, "POST", "/v1/score", {"content": b"{"}),
        (400, "POST", "/v1/score", {"content": b"{}", "headers": {"host": "a b"}}),
        (401, "POST", "/v1/score", {"json": GROUPS, "headers": {"x-api-key": "wrong"}}),
        (403, "POST", "/v1/score", {"json": GROUPS, "headers": {"x-api-key": "none"}}),
        (409, "POST", "/v1/score", {"json": {"recipe": "pinned", **GROUPS}}),
        (413, "POST", "/v1/score", {"content": b" " * 2**17}),
        (415, "POST", "/v1/score", {"json": GROUPS, "headers": {"content-encoding": "gzip"}}),
        (429, "POST", "/v1/score", {"json": {"recipe": "digest", **GROUPS}, "headers": {"x-api-key": "slow"}}),
        (431, "POST", "/v1/score", {"json": GROUPS, "headers": {"x-a": "v" * 2**18}}),
        (500, "POST", "/v1/score", {"json": {"recipe": "broken", **GROUPS}}),
        (503, "POST", "/v1/score", {"json": {"recipe": "busy", **GROUPS}}),
        (200, "POST", "/v1/score/stream", {"json": {"recipe": "digest", **GROUPS}}),
        (400, "POST", "/v1/score/stream", {"content": b"{"}),
        (200, "PUT", "/v1/media", {"content": "PNG"}),
        (400, "PUT", "/v1/media", {"content": b"x"}),
        (200, "GET", "/v1/scorers", {}),
        (200, "POST", "/run_code", {"json": PROGRAM}),
        (200, "POST", "/run_code", {"json": {"code": "while True: pass", "language": "python", "run_timeout": 0.2}}),
        (200, "POST", "/run_code", {"json": {"code": "int main( {", "language": "cpp"}}),
        (400, "POST", "/run_code", {"json": {"code": "1", "language": "cobol"}}),
        (200, "POST", "/submit", {"json": SUBMISSION}),
        (400, "POST", "/submit", {"json": {}}),
        (200, "POST", "/submit_batch", {"json": {"submissions": [SUBMISSION, {}]}}),
        (400, "POST", "/submit_batch", {"json": {"submissions": []}}),
        (200, "POST", "/openrlhf/get_reward?recipe=digest", {"json": QUERIES}),
        (400, "POST", "/openrlhf/get_reward", {"json": QUERIES}),
        (200, "POST", "/slime/reward?recipe=digest", {"json": SAMPLE}),
        (503, "POST", "/slime/reward?recipe=busy", {"json": SAMPLE}),
        (200, "POST", "/verify", {"json": ROW}),
        (400, "POST", "/verify?recipe=digest", {"json": {"response": {}}}),
        (200, "POST", "/seed_session", {"json": {}}),
        (200, "GET", "/v1/models", {}),
        (200, "GET", "/v1/ping", {}),
        (200, "POST", "/v1/reload", {}),
        (403, "POST", "/v1/reload", {"headers": {"x-api-key": "slow"}}),
        (400, "POST", "/v1/chat/completions", {"json": {"model": "digest", "messages": []}}),
        (200, "GET", "/healthz", {"headers": {"x-api-key": ""}}),
        (200, "GET", "/readyz", {}),
        (200, "GET", "/readyz", {"headers": {"x-api-key": ""}}),
        (200, "GET", "/metrics", {}),
    ],
)
async def test_an_answer_is_what_the_document_says(service, image, code, method, path, options):
    """Each with its code, for the routes of other systems too."""
    if options.get("content") == "PNG":
        options = {"content": image()}
    headers = {"x-api-key": "all"} | options.get("headers", {})
    async with service(SETTINGS) as running, running.http(headers={"x-api-key": "all"}) as http:
        document = (await http.get("/openapi.json")).json()
        if code == 429:
            await http.request(method, path, **{**options, "headers": headers})
        reply = await http.request(method, path, **{**options, "headers": headers})
        assert check(document, reply) == code


async def test_a_hub_that_is_not_ready_and_a_body_that_does_not_come(service):
    """503 of readiness has a form of its own; 504 is that of all errors."""

    async def slow():
        yield b"{"
        await asyncio.sleep(1)

    async with service(SETTINGS) as running, running.http(headers={"x-api-key": "all"}) as http:
        document = (await http.get("/openapi.json")).json()
        running.hub.not_ready.append("it starts")
        assert check(document, await http.get("/readyz")) == 503
        assert check(document, await http.post("/v1/score", content=slow())) == 504


async def test_a_door_with_too_many_connections_is_in_the_document(service):
    """Where 503 has another form too."""
    async with service(ServerSettings(limits=Limits(concurrency=1))) as running, running.http() as http:
        document = (await http.get("/openapi.json")).json()
        idle = [await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1])) for _ in range(4)]
        for path in ("/readyz", "/healthz"):
            assert check(document, await http.get(path)) == 503
        for _, writer in idle:
            writer.close()


async def test_requests_are_what_the_document_says(service):
    """Bodies that the routes take are valid by it, and routes that need no key say so."""
    async with service() as running, running.http() as http:
        document = (await http.get("/openapi.json")).json()
    chat = {"model": "m", "messages": [{"role": "user", "content": "q"}], "max_tokens": 3, "temperature": 0}
    openai_chat.question(chat)
    for path, body in {
        "/v1/score": {"recipe": "digest", **GROUPS},
        "/run_code": PROGRAM,
        "/submit": SUBMISSION,
        "/submit_batch": {"submissions": [SUBMISSION]},
        "/v1/chat/completions": chat,
        "/openrlhf/get_reward": QUERIES,
        "/slime/reward": SAMPLE,
        "/verify": ROW,
    }.items():
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(body)
    keyless = {
        path for path, methods in document["paths"].items() for each in methods.values() if each.get("security") == []
    }
    assert keyless == {"/healthz", "/readyz"}
    assert document["security"] == []
    async with service(SETTINGS) as running, running.http(headers={"x-api-key": "all"}) as http:
        assert (await http.get("/openapi.json")).json()["security"] == [{"bearer": []}, {"key": []}]


def test_null_is_a_field_that_is_missing():
    """Every optional field of a body says that null is as good as nothing, and is read so; a needed one does not."""

    def optional(body):
        schema = body.model_json_schema()
        kinds = {name: field.get("anyOf", []) for name, field in schema["properties"].items()}
        assert {name for name, kind in kinds.items() if {"type": "null"} not in kind} == set(schema.get("required", ()))
        return dict.fromkeys(kinds.keys() - set(schema.get("required", ())))

    picture = {"sha256": "0" * 64}
    response = {"text": "t", "media": [picture]}
    line = {"id": "g", "prompt": "p", "media": [picture], "responses": [response]}
    nulls = {
        "media": [optional(documents.MediaLine) | picture],
        "responses": [optional(documents.ResponseLine) | response],
    }
    assert group_from_json(optional(documents.GroupLine) | line | nulls, "g") == group_from_json(line, "g")
    assert call_from_json(optional(documents.ScoreBody) | {"groups": []}) == call_from_json({"groups": []})


@pytest.mark.parametrize("field", ["files", "fetch_files", "stdin"])
@pytest.mark.parametrize("value", [False, 0, 1, ["a"], {"a": {}}])
def test_what_a_program_takes_with_it_has_its_type(field, value):
    """Null is none, and what only looks empty is refused."""
    if (field, value) != ("fetch_files", ["a"]):
        with pytest.raises(InvalidInput) as refused:
            sandbox_fusion.run_code({"code": "1", "language": "python", field: value})
        assert refused.value.field.startswith(field)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("messages[0].content", {"messages": [{"role": "user", "content": "\ud800"}]}),
        ("messages[0].role", {"messages": [{"role": "\udfff", "content": "q"}]}),
        ("messages[0].content[0].text", {"messages": [{"role": "u", "content": [{"type": "text", "text": "\ud800"}]}]}),
        ("model", {"model": "\ud800"}),
        ("response_format", {"response_format": {"type": "json_schema", "json_schema": {"schema": deep(101)}}}),
    ],
)
def test_a_question_that_no_model_can_read_names_its_field(field, change):
    """Before it reaches one, where it would be a fault of ours."""
    with pytest.raises(InvalidInput) as caught:
        openai_chat.question({"model": "m", "messages": [{"role": "user", "content": "q"}]} | change)
    assert caught.value.field == field


async def test_a_completion_is_what_the_document_says(service):
    """As a generative model's score becomes one."""
    async with service() as running, running.http() as http:
        document = (await http.get("/openapi.json")).json()
    details = {"text": "t", "prompt_tokens": 2, "completion_tokens": 1, "finish": "stop"}
    told = openai_chat.completion(Score(1.0, Status.OK, details=details), "m")
    schema = {**closed({"$ref": "#/components/schemas/ChatReply"}), "components": closed(document["components"])}
    jsonschema.Draft202012Validator(schema).validate(told)
