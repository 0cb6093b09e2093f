"""The REST door over a real socket."""

import asyncio
import base64
import hashlib
import json
import random
import time

import httpx
import pytest

from rewardhub.errors import ConfigError, InvalidInput
from rewardhub.sandbox.runner import isolation
from rewardhub.server import body as requests
from rewardhub.server import documents
from rewardhub.server.settings import Limits, ServerSettings
from rewardhub.wire import lines


def body(*groups, **call):
    return {"recipe": "digest", "groups": list(groups), **call}


def group(name="g", *responses, **fields):
    return {"id": name, "responses": list(responses or ("a", "b")), **fields}


def assert_error(reply: httpx.Response, status: int, code: str, field: str = ""):
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"code", "message", "field", "retryable"}
    assert (error["code"], error["field"]) == (code, field)
    assert error["message"]
    return error


async def test_scores_come_in_request_order(service):
    """Three groups give three lines in order, rows in response order."""
    async with service() as running, running.http() as http:
        reply = await http.post("/v1/score", json=body(group("a"), group("b", "x", "y", "z"), group("c")))
        assert reply.status_code == 200
        groups = reply.json()["groups"]
        assert [(each["id"], each["indices"]) for each in groups] == [("a", [0, 1]), ("b", [0, 1, 2]), ("c", [0, 1])]
        assert set(groups[0]) == set(documents.ScoreLine.model_fields)
        assert set(groups[0]["scores"][0]) == set(documents.ScoreRow.model_fields)


async def test_unusable_groups_lose_no_neighbour(service):
    """T02: bad groups are invalid_input with the field named; the others are scored; HTTP 200."""
    bad = [
        group("wrong", "r", respones=[]),
        group("number", "q", "r", reference=7),
        "no object",
        group("path", "r", media=[{"path": "/etc/passwd"}]),
        group("hash", "r", media=[{"sha256": "a" * 64}]),
        group("recipe", "r", "s", recipe="digset"),
        group("good", "again"),
    ]
    async with service() as running, running.http() as http:
        reply = await http.post("/v1/score", json=body(group("good"), *bad, group("last")))
    assert reply.status_code == 200
    answers = {index: each for index, each in enumerate(reply.json()["groups"])}
    assert [each["id"] for each in answers.values()] == [
        "good", "wrong", "number", "3", "path", "hash", "recipe", "good", "last",
    ]  # fmt: skip
    assert {row["status"] for index in (0, 8) for row in answers[index]["scores"]} == {"ok"}
    for index, rows, field, hint in [
        (1, 1, "groups[1].respones", "did you mean 'responses'"),
        (2, 2, "groups[2].reference", "an integer"),
        (3, 0, "groups[3]", "an object"),
        (4, 1, "groups[4].media[0].path", "opens no path"),
        (5, 1, "media[0].sha256", "a" * 64),
        (6, 2, "recipe", "did you mean 'digest'"),
        (7, 1, "groups[7].id", "twice"),
    ]:
        scores = answers[index]["scores"]
        assert len(scores) == max(1, rows)
        for row in scores:
            assert (row["value"], row["status"], row["blame"]) == (None, "invalid_input", "caller")
            assert row["details"]["field"] == field
            assert hint in row["details"]["reason"]


async def test_unusable_responses_lose_no_neighbour(service, image):
    """T02: one malformed response of eight is invalid_input with its field; seven are scored in place."""
    whole = [{"text": f"r{index}"} for index in range(8)]
    bad = [*whole[:2], {"text": "x", "signals": {"s": "high"}}, *whole[3:5], {"text": 7}, *whole[6:]]
    bad[7] = {"text": "r7", "media": [{"sha256": "a" * 64}]}
    async with service() as running, running.http() as http:
        groups = [group("g", *whole), group("g2", *bad), group("none", 1, None), group("open", 1, expected=2)]
        reply = await http.post("/v1/score", json=body(*groups))
        (hub_groups, _, _), *_ = running.hub.calls
    first, second, none, opened = reply.json()["groups"]
    wrong = {2: "groups[1].responses[2].signals.s", 5: "groups[1].responses[5].text", 7: "responses[7].media[0].sha256"}
    assert second["indices"] == list(range(8))
    for index, row in enumerate(second["scores"]):
        if index in wrong:
            assert (row["status"], row["value"], row["details"]["field"]) == ("invalid_input", None, wrong[index])
            assert f"responses[{index}]" in row["details"]["reason"]
            assert row["parts"]["half/of"]["status"] == "invalid_input"
        else:
            assert (row["status"], row["fingerprint"]) == ("ok", "f" * 16)
            assert row["details"] == first["scores"][index]["details"]
    assert [each.id for each in hub_groups] == ["g", "g2"]
    assert [each.text for each in hub_groups[1].responses] == ["r0", "r1", "r3", "r4", "r6"]
    assert [row["status"] for row in none["scores"]] == ["invalid_input"] * 2
    assert [row["status"] for row in opened["scores"]] == ["invalid_input"]


MALFORMED = [
    (b"", ""),
    (b"{", ""),
    (b"\xff\xfe", ""),
    (b"[]", "body"),
    (b"null", "body"),
    (b"[" * 100_000, ""),
    (b'{"groups":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    (b'{"groups":{"a":' * 50_000, ""),
    (b'{"recipe":"digest"}', "groups"),
    (b'{"groups":{}}', "groups"),
    (b'{"groups":[],"recpie":"digest"}', "recpie"),
    (b'{"groups":[],"deadline_ms":-1}', "deadline_ms"),
    (b'{"groups":[],"deadline_ms":true}', "deadline_ms"),
    (b'{"groups":[],"cache":"never"}', "cache"),
    (b'{"groups":[],"inputs":{"a":NaN}}', "inputs.a"),
    (b'{"groups":[],"inputs":{"a":' + b"9" * 400 + b"}}", "inputs.a"),
    (b'{"groups":[],"recipe":"\\ud800"}', "recipe"),
    (b'{"groups":' + b"9" * 10_000 + b"}", "groups"),
]


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score/stream"])
async def test_malformed_bodies_are_refused(service, path):
    """T64: what is no request at all is 400 with the field; 10^5-deep JSON too."""
    async with service() as running, running.http() as http:
        for content, field in MALFORMED:
            assert_error(await http.post(path, content=content), 400, "invalid_input", field)
        assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "path", ["/v1/score", "/v1/score/stream", "/v1/chat/completions", "/run_code", "/submit_batch"]
)
async def test_a_body_of_endless_lists_is_refused_undecoded(service, path, monkeypatch):
    """T64, R17: what would take 30 times its bytes is never made; brackets within texts are not counted."""
    monkeypatch.setattr(requests, "MAX_HOLDERS", 1_000)
    bomb = json.dumps(body(metadata={"x": [[]] * 2_000}))
    async with service() as running, running.http() as http:
        for content in (bomb.encode(), bomb.encode("utf-16"), bomb.replace("[], ", '[],"\\\\", ').encode()):
            reply = await http.post(path, content=content)
            assert "1000 objects" in assert_error(reply, 400, "invalid_input", "body")["message"]
        text = '\\"[{' * 2_000
        assert (await http.post("/v1/score", json=body(group("g", text)))).status_code == 200


def test_what_holds_others_is_counted_exactly(monkeypatch):
    """Whatever the texts hold."""
    rng = random.Random(5)

    def value(depth):
        kind = rng.randrange(6)
        if not depth or kind < 2:
            return "".join(rng.choice('[]{}"\\a,:') for _ in range(rng.randrange(6)))
        inner = [value(depth - 1) for _ in range(rng.randrange(4))]
        return inner if kind < 4 else {f"[{number}": each for number, each in enumerate(inner)}

    def holders(each):
        return 0 if isinstance(each, str) else 1 + sum(map(holders, each if isinstance(each, list) else each.values()))

    for made in (value(4) for _ in range(2_000)):
        count = holders(made)
        monkeypatch.setattr(requests, "MAX_HOLDERS", count)
        assert requests.decoded(json.dumps(made).encode()) == made
        if count:
            monkeypatch.setattr(requests, "MAX_HOLDERS", count - 1)
            with pytest.raises(InvalidInput):
                requests.decoded(json.dumps(made).encode())


async def test_bodies_over_the_limit_are_refused_while_they_come(service):
    """413 for a declared and for a chunked body; the limit is named and the door goes on."""

    async def endless():
        for _ in range(40):
            yield b" " * 65_536

    settings = ServerSettings(limits=Limits(body_bytes=2**20))
    async with service(settings) as running, running.http() as http:
        error = assert_error(await http.post("/v1/score", content=b" " * (2**20 + 1)), 413, "too_large")
        assert "1048576" in error["message"]
        assert_error(await http.post("/v1/score", content=endless()), 413, "too_large")
        assert (await http.post("/v1/score", json=body(group()))).status_code == 200


async def test_a_declared_terabyte_is_refused_at_once(service):
    """A content-length over the limit is answered before the body comes."""
    async with service() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
        head = "POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000000000\r\n"
        writer.write((head + "Expect: 100-continue\r\n\r\n").encode())
        status = await asyncio.wait_for(reader.readline(), 5)
        assert b"413" in status
        writer.close()


async def test_tiny_chunks_are_read(service):
    """A body in six-byte chunks is a body."""
    content = json.dumps(body(group())).encode()

    async def chunks():
        for start in range(0, len(content), 6):
            yield content[start : start + 6]

    async with service() as running, running.http() as http:
        assert (await http.post("/v1/score", content=chunks())).status_code == 200


async def test_a_trickling_body_is_given_up(service):
    """A body that does not come within its time is 504, not a connection held for ever."""
    async with service(ServerSettings(limits=Limits(body_s=0.2))) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
        writer.write(b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        assert b"504" in await asyncio.wait_for(reader.readline(), 5)
        writer.close()


async def test_encoded_bodies_are_refused(service):
    """A gzip body is never unpacked."""
    async with service() as running, running.http() as http:
        reply = await http.post("/v1/score", content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
        assert_error(reply, 415, "invalid_input", "content-encoding")


async def test_too_many_groups_are_refused(service):
    """The number of groups is bounded."""
    async with service(ServerSettings(limits=Limits(groups=2))) as running, running.http() as http:
        assert_error(await http.post("/v1/score", json=body(*map(group, "abc"))), 400, "invalid_input", "groups")


async def test_unknown_routes_and_methods_have_the_same_shape(service):
    """404 names the nearest route, 405 the allowed methods."""
    async with service() as running, running.http() as http:
        error = assert_error(await http.post("/v1/scor", json={}), 404, "not_found")
        assert "'/v1/score'" in error["message"]
        reply = await http.delete("/v1/score")
        assert_error(reply, 405, "method_not_allowed")
        assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("recipe", "status", "code", "field", "retryable"),
    [("pinned", 409, "pin_mismatch", "run", False), ("busy", 503, "unavailable", "", True)],
)
async def test_errors_of_the_whole_call(service, recipe, status, code, field, retryable):
    """What concerns the whole call has the code of its class, and Retry-After where it is known."""
    async with service() as running, running.http() as http:
        reply = await http.post("/v1/score", json=body(group(), recipe=recipe))
    error = assert_error(reply, status, code, field)
    assert error["retryable"] is retryable
    assert reply.headers.get("retry-after") == ("3" if recipe == "busy" else None)


async def test_faults_of_ours_tell_an_id_and_nothing_else(service, caplog):
    """500 with an error id; the exception's message is neither told nor logged."""
    async with service() as running, running.http() as http:
        reply = await http.post("/v1/score", json=body(group(), recipe="broken"))
    error = assert_error(reply, 500, "internal_error")
    assert "secret" not in reply.text
    assert error["message"].split()[-1] in str([record.__dict__.get("fields") for record in caplog.records])


async def test_big_integers_and_odd_text_survive(service):
    """Integers above 2^53 in reference, metadata and details; half surrogates in details as escapes."""
    big = 2**63 + 1
    text = '{"recipe":"digest","groups":[{"id":"g","responses":["r"],"reference":{"n":%d,"s":"\\ud800 é"},"metadata":{"m":%d}}]}'
    async with service() as running, running.http() as http:
        reply = await http.post("/v1/score", content=text % (big, -big))
        (groups, _, _), *_ = running.hub.calls
    assert reply.status_code == 200
    assert groups[0].reference["n"] == big
    details = json.loads(reply.content)["groups"][0]["scores"][0]["details"]
    assert details == {"reference": {"n": big, "s": "\ud800 é"}, "metadata": {"m": -big}}


async def test_the_call_reaches_the_hub(service):
    """Every field of the call travels."""
    call = {"run": "r1", "step": 7, "policy_version": "p", "inputs": {"x": 2.5}, "deadline_ms": 900}
    call |= {"cache": "refresh", "priority": "bulk", "details": False, "repin": True, "recipe_text": "y"}
    async with service() as running, running.http() as http:
        reply = await http.post("/v1/score", json=body(group(), **call))
        ((_, seen, tenant),) = running.hub.calls
    assert lines.call_to_json(seen) == {"recipe": "digest", **call}
    assert tenant == ""
    assert reply.json()["groups"][0]["scores"][0]["details"] == {}


async def test_stream_answers_as_ready(service):
    """The fast group's line comes while the slow one still runs; each comes once, failures as statuses."""
    groups = [group("held", recipe="hold"), group("fast"), "junk", group("busy", recipe="busy"), group("fast")]
    async with service() as running, running.http() as http:
        seen = []
        async with http.stream("POST", "/v1/score/stream", json=body(*groups)) as reply:
            assert reply.headers["content-type"] == "application/x-ndjson"
            async for line in reply.aiter_lines():
                seen.append(json.loads(line))
                if len(seen) == 4:
                    running.hub.release.set()
    assert seen[-1]["id"] == "held"
    assert sorted(each["id"] for each in seen) == ["2", "busy", "fast", "fast", "held"]
    statuses = sorted(row["status"] for each in seen for row in each["scores"])
    assert statuses == ["invalid_input"] * 3 + ["ok"] * 4 + ["unavailable"] * 2


async def test_a_thousand_groups_stream_once_each(service):
    """More groups than slots: every id comes exactly once."""
    groups = [group(f"g{index}", "r") for index in range(1_000)]
    async with service() as running, running.http() as http:
        reply = await http.post("/v1/score/stream", json=body(*groups))
    names = [json.loads(line)["id"] for line in reply.text.splitlines()]
    assert sorted(names) == sorted(each["id"] for each in groups)


@pytest.mark.parametrize("path", ["/v1/score", "/v1/score/stream"])
async def test_a_caller_who_goes_away_is_not_scored_further(service, path):
    """Closing the connection cancels the work."""
    async with service() as running:
        async with running.http() as http:
            request = asyncio.create_task(http.post(path, json=body(group(), recipe="hold")))
            while not running.hub.running:
                await asyncio.sleep(0.01)
            request.cancel()
        async with asyncio.timeout(5):
            while not running.hub.cancelled:
                await asyncio.sleep(0.01)
        assert running.hub.running == 0


async def test_media_upload_and_use(service, image):
    """PUT answers hash and size; a group may then name the hash, or bring the bytes."""
    async with service() as running, running.http() as http:
        reply = await http.put("/v1/media", content=image())
        assert reply.json() == {"sha256": hashlib.sha256(image()).hexdigest(), "bytes": len(image())}
        by_hash = group("g", media=[{"sha256": reply.json()["sha256"]}])
        inline = group("g", media=[{"data": base64.b64encode(image()).decode()}])
        first, second = [(await http.post("/v1/score", json=body(each))).json() for each in (by_hash, inline)]
        assert first["groups"][0]["scores"] == second["groups"][0]["scores"]
        assert first["groups"][0]["scores"][0]["status"] == "ok"


HOSTILE = [
    "http://127.0.0.1/x.png",
    "http://[::1]/x.png",
    "http://0.0.0.0/x.png",
    "http://169.254.169.254/latest/meta-data",
    "http://2130706433/x.png",
    "http://0177.0.0.1/x.png",
    "http://good\\\\@127.0.0.1/x.png",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("field", ["url", "path", "data", "sha256"])
async def test_no_address_is_ever_fetched(service, field):
    """T65: an address in any field of a media is invalid input; nothing is opened, the neighbour is scored."""
    bad = [group(f"g{index}", "r", media=[{field: url}]) for index, url in enumerate(HOSTILE)]
    async with service() as running, running.http() as http:
        reply = await http.post("/v1/score", json=body(*bad, group("good")))
        assert running.hub.media.stats()["items"] == 0
    *rows, good = [each["scores"][0] for each in reply.json()["groups"]]
    assert {row["status"] for row in rows} == {"invalid_input"}
    assert {row["details"]["field"].rsplit(".", 1)[1] for row in rows} == {field}
    assert good["status"] == "ok"


async def test_unusable_media_are_refused(service, image):
    """A GIF, a bomb and an oversize body are refused with their reason."""
    from rewardhub.media.store import MediaLimits, MediaStore

    async with service() as running, running.http() as http:
        running.hub.media = MediaStore(MediaLimits(item_bytes=1_000, pixels=1_000))
        error = assert_error(await http.put("/v1/media", content=b"GIF89a"), 400, "invalid_input")
        assert "GIF" in error["message"]
        assert_error(await http.put("/v1/media", content=image(1, (100, 100))), 413, "too_large")
        assert_error(await http.put("/v1/media", content=b"0" * 1_001), 413, "too_large")


async def test_an_image_of_a_chat_is_looked_at_before_it_is_scored(service, image):
    """A bomb is 413, a GIF 400, both naming the media; a large image is hashed beside the event loop."""
    from rewardhub.media.store import MediaLimits, MediaStore

    def asked(data: bytes) -> dict:
        url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        part = {"type": "image_url", "image_url": {"url": url}}
        return {"model": "m", "messages": [{"role": "user", "content": [part]}]}

    async with service() as running, running.http() as http:
        running.hub.media = MediaStore(MediaLimits(pixels=1_000))
        for data, status, code in ((image(1, (100, 100)), 413, "too_large"), (b"GIF89a", 400, "invalid_input")):
            reply = await http.post("/v1/chat/completions", json=asked(data))
            assert_error(reply, status, code, "media[0]")
        assert not running.hub.calls


async def test_a_small_request_waits_for_no_timer(service):
    """Answers leave at once: 50 requests on one connection take far less than 50 delayed acknowledgements."""
    async with service() as running, running.http() as http:
        await http.get("/healthz")
        started = time.perf_counter()
        for _ in range(50):
            await http.get("/healthz")
        assert time.perf_counter() - started < 50 * 0.030


async def test_health_and_readiness(service):
    """healthz is always 200; readyz says 503 and why."""
    async with service() as running, running.http() as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        assert (await http.get("/readyz")).json() == {"ready": True, "reasons": [], "isolation_level": isolation()}
        running.hub.not_ready = ["model x is dead"]
        reply = await http.get("/readyz")
        assert (reply.status_code, reply.json()["reasons"]) == (503, ["model x is dead"])


async def test_metrics_count_requests_by_route(service, image):
    """The hub's metrics and the doors' come together; unknown paths share one label."""
    async with service() as running, running.http() as http:
        await http.post("/v1/score", json=body(group()))
        await http.get("/secret-path")
        await http.put("/v1/media", content=image())
        text = (await http.get("/metrics")).text
    assert "fake_total 1.0" in text
    assert 'rewardhub_door_requests_total{code="200",door="rest",route="/v1/score"} 1.0' in text
    assert 'rewardhub_door_requests_total{code="404",door="rest",route="other"} 1.0' in text
    assert "rewardhub_media_items 1.0" in text
    assert "secret-path" not in text


async def test_scorers_are_listed(service):
    """Every field of the document is there."""
    async with service() as running, running.http() as http:
        reply = (await http.get("/v1/scorers")).json()
    assert set(reply["scorers"][0]) == set(documents.ScorerLine.model_fields)


async def test_openapi_describes_the_bodies_that_the_wire_reads(service):
    """The documents name exactly the fields that the wire knows, and every reference resolves."""
    async with service() as running, running.http() as http:
        schema = (await http.get("/openapi.json")).json()
        assert (await http.get("/docs")).status_code == 200
    assert set(documents.ScoreBody.model_fields) == {*lines.CALL_FIELDS, "groups"}
    assert set(documents.GroupLine.model_fields) == set(lines.GROUP_FIELDS)
    assert {*documents.MediaLine.model_fields, "path"} == set(lines._MEDIA_FIELDS)
    assert set(documents.ResponseLine.model_fields) == set(lines._RESPONSE_FIELDS)
    text = json.dumps(schema)
    for name in {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert name in schema["components"]["schemas"]
    assert set(schema["paths"]) >= {"/v1/score", "/v1/score/stream", "/v1/media", "/v1/scorers"}
    assert documents.ScoreBody.model_validate(body(group())).groups[0].id == "g"


async def test_without_keys_other_sites_are_refused(service):
    """A page in a browser on this machine reaches the hub neither across origins nor by a rebound name."""
    async with service() as running, running.http() as http:
        for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}):
            assert_error(await http.post("/v1/score", json=body(group()), headers=headers), 403, "forbidden")
        for headers in ({"host": "localhost:1"}, {"host": "[::1]"}, {"origin": running.url}):
            assert (await http.post("/v1/score", json=body(group()), headers=headers)).status_code == 200


def test_a_route_without_a_scope_does_not_start():
    """Adding a route without stating its scope is refused at start."""
    from fastapi import FastAPI

    from rewardhub.server.rest import check_scopes

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/v1/new", lambda: None)
    with pytest.raises(ConfigError, match="/v1/new"):
        check_scopes(app)


async def test_a_group_without_an_id_takes_no_others(service):
    """It is named by its place, or by a mark before it where a group of the request has that name."""
    groups = [group("1"), {"responses": ["a"]}, {"responses": ["b"]}, group("#1")]
    async with service() as running, running.http() as http:
        reply = await http.post("/v1/score", json=body(*groups))
    answers = reply.json()["groups"]
    assert [each["id"] for each in answers] == ["1", "##1", "2", "#1"]
    assert {row["status"] for each in answers for row in each["scores"]} == {"ok"}
