"""Keys: every REST route and gRPC method without a key, with a wrong one, with each scope."""

import hashlib
import io
import json
import logging

import grpc
import pytest
from fastapi import FastAPI
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from pydantic import ValidationError

from rewardhub import logs
from rewardhub.errors import ConfigError, Forbidden, Unauthenticated
from rewardhub.server import auth, rpc
from rewardhub.server.auth import Auth, check_addresses, parse_address
from rewardhub.server.settings import ApiKey, ServerSettings
from rewardhub.v1 import reward_service_pb2 as pb

KEYS = {scope: f"canary-{scope}-key-0123456789" for scope in ("score", "media", "metrics", "admin")}
SETTINGS = ServerSettings(
    keys=tuple(
        ApiKey(key_sha256=hashlib.sha256(key.encode()).hexdigest(), tenant=f"tenant-{scope}", scopes={scope})
        for scope, key in KEYS.items()
    )
)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE")


def grpc_methods() -> list[str]:
    """Every method of every service that the server registers."""
    pool = descriptor_pool.Default()
    services = (rpc.SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
    assert pb.DESCRIPTOR and health_pb2.DESCRIPTOR and reflection_pb2.DESCRIPTOR
    found = [pool.FindServiceByName(name) for name in services]
    return [f"/{each.full_name}/{method.name}" for each in found for method in each.methods]


def rest_paths(running) -> list[str]:
    app = running.doors._rest.app()._app
    assert isinstance(app, FastAPI)
    return [route.path for route in app.routes]


async def code_of(channel, method, metadata=(), passes=False) -> grpc.StatusCode:
    # A client that writes while the server refuses may see INTERNAL of its own making, so it writes only where it passes.
    messages = [b""] if passes else []
    call = channel.stream_stream(method)(iter(messages), metadata=metadata, timeout=5)
    try:
        async for _ in call:
            break
        call.cancel()
        return grpc.StatusCode.OK
    except grpc.aio.AioRpcError as error:
        return error.code()


async def test_every_route_and_method_needs_a_key(service):
    """T65, R18: all but healthz and readyz answer 401 without a key and with a wrong one, for every method."""
    async with service(SETTINGS) as running, running.http() as http:
        paths = rest_paths(running)
        assert {"/v1/score", "/docs", "/openapi.json", "/metrics", "/healthz"} <= set(paths)
        for path in [*paths, "/", "/v1", "/v1/score/", "/v1/../metrics", "/nowhere"]:
            for method in METHODS:
                for headers in (
                    {},
                    {"x-api-key": "wrong"},
                    {"authorization": "Bearer"},
                    {"authorization": "Basic eDp5"},
                ):
                    reply = await http.request(method, path, headers=headers)
                    if path in {"/healthz", "/readyz"}:
                        assert reply.status_code == (200 if method in {"GET", "HEAD"} else 405)
                    else:
                        assert reply.status_code == 401, (method, path)
                        assert reply.headers["www-authenticate"] == "Bearer"


async def test_every_grpc_method_needs_a_key(service):
    """T65, R18: all but health Check are UNAUTHENTICATED, reflection and unknown methods too."""
    async with service(SETTINGS) as running, grpc.aio.insecure_channel(running.grpc_addr) as channel:
        methods = grpc_methods()
        assert len(methods) >= 7
        for method in [*methods, "/rewardhub.v1.RewardService/Nothing", "/no.Service/None"]:
            for metadata in ((), (("x-api-key", "wrong"),), (("authorization", "Bearer wrong"),)):
                is_open = method == "/grpc.health.v1.Health/Check"
                code = await code_of(channel, method, metadata, is_open)
                if is_open:
                    assert code == grpc.StatusCode.OK
                else:
                    assert code == grpc.StatusCode.UNAUTHENTICATED, method


@pytest.mark.parametrize("scope", KEYS)
async def test_each_scope_opens_its_routes_only(service, scope):
    """A key reaches the routes and methods of its scope, 403 elsewhere; admin reaches all."""
    async with service(SETTINGS) as running, running.http(headers={"x-api-key": KEYS[scope]}) as http:
        for path, needed in auth.SCOPES.items():
            if path.startswith("/rewardhub"):
                continue
            gets = {"/v1/scorers", "/v1/ping", "/v1/models", "/metrics", "/docs", "/openapi.json"}
            method = "PUT" if path == "/v1/media" else "GET" if path in gets else "POST"
            status = (await http.request(method, path, content=b"")).status_code
            if needed in {None, scope} or scope == "admin":
                assert status in {200, 400}, path
            else:
                assert status == 403, path
        async with grpc.aio.insecure_channel(running.grpc_addr) as channel:
            for path, needed in auth.SCOPES.items():
                if path.startswith("/rewardhub"):
                    allowed = needed == scope or scope == "admin"
                    code = await code_of(channel, path, (("authorization", f"bearer {KEYS[scope]}"),), allowed)
                    assert (code == grpc.StatusCode.PERMISSION_DENIED) is not allowed, path


async def test_the_tenant_of_the_key_owns_the_work(service, image):
    """Score and media run under the key's tenant on both doors; another tenant's media is unknown."""
    key = KEYS["admin"]
    metadata = (("x-api-key", key),)
    async with service(SETTINGS) as running, running.http() as http, running.stub() as stub:
        headers = {"authorization": f"Bearer {key}"}
        sha256 = (await http.put("/v1/media", content=image(), headers=headers)).json()["sha256"]
        body = {"recipe": "digest", "groups": [{"id": "g", "responses": ["r"], "media": [{"sha256": sha256}]}]}
        mine = await http.post("/v1/score", json=body, headers=headers)
        other = await http.post("/v1/score", json=body, headers={"x-api-key": KEYS["score"]})
        await stub.PutMedia(iter([pb.PutMediaRequest(chunk=image(2))]), metadata=metadata)
        request = pb.ScoreRequest()
        request.options.recipe = "digest"
        request.groups.add(id="g").responses.add(text="r")
        await stub.Score(request, metadata=(("authorization", f"Bearer {KEYS['score']}"),))
        assert [tenant for _, _, tenant in running.hub.calls] == ["tenant-admin", "tenant-score"]
        assert running.hub.media.missing([sha256], "tenant-admin") == []
    assert mine.json()["groups"][0]["scores"][0]["status"] == "ok"
    assert other.json()["groups"][0]["scores"][0]["status"] == "invalid_input"


async def test_readiness_tells_reasons_to_callers_with_a_key_only(service):
    """Without a key readyz says whether, with one it says why."""
    async with service(SETTINGS) as running, running.http() as http:
        running.hub.not_ready = ["model x is dead"]
        assert (await http.get("/readyz")).json() == {"ready": False, "reasons": []}
        reply = await http.get("/readyz", headers={"x-api-key": KEYS["score"]})
        assert reply.json()["reasons"] == ["model x is dead"]


async def test_keys_and_texts_never_reach_the_logs(service):
    """T65: neither keys, right or wrong, nor prompts nor exception messages are logged."""
    stream = io.StringIO()
    root = logging.getLogger("rewardhub")
    before = (root.handlers[:], root.level, root.propagate)
    logs.configure(stream, logging.DEBUG)
    try:
        async with service(SETTINGS) as running, running.http() as http, running.stub() as stub:
            body = {
                "recipe": "broken",
                "groups": [{"id": "g", "prompt": "canary-prompt", "responses": ["canary-text"]}],
            }
            for key in ("canary-wrong", KEYS["score"]):
                await http.post("/v1/score", json=body, headers={"x-api-key": key})
                await code_of_score(stub, key)
    finally:
        root.handlers[:], root.level, root.propagate = before
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    faults = [line for line in lines if line["level"] == "error"]
    assert len(faults) == 2
    assert all(line["error_id"] and line["trace"][0] == "ZeroDivisionError" for line in faults)
    assert "canary" not in stream.getvalue()
    assert "secret" not in stream.getvalue()


async def code_of_score(stub, key):
    request = pb.ScoreRequest()
    request.options.recipe = "broken"
    request.groups.add(id="g", prompt="canary-prompt").responses.add(text="canary-text")
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Score(request, metadata=(("x-api-key", key),))


def test_without_keys_only_loopback_is_bound():
    """Another address without keys is refused; with keys it is not."""
    for address in ("127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"):
        check_addresses(ServerSettings(), http=address)
    for address in ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1", "0:1"):
        with pytest.raises(ConfigError, match="configure keys"):
            check_addresses(ServerSettings(), http="127.0.0.1:1", grpc=address)
        check_addresses(SETTINGS, http=address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "8080",
        ":8080",
        "host:",
        "host:http",
        "host:99999",
        "host:-1",
        "::1",
        "::1:80",
        "[]:1",
        "unix:/a:1",
        "http://a:1",
    ],
)
def test_addresses_that_are_none_are_refused(address):
    """HOST:PORT or a ConfigError."""
    with pytest.raises(ConfigError, match="http: .* is no address; expected HOST:PORT"):
        parse_address("http", address)


def test_keys_are_compared_by_hash():
    """Only the key whose hash is configured passes, by either header; scopes are checked."""
    keys = Auth(SETTINGS.keys)
    caller = keys.caller([("x-api-key", KEYS["score"])])
    assert (caller.tenant, caller.key_id) == ("tenant-score", SETTINGS.keys[0].key_sha256[:8])
    assert keys.caller([("authorization", f"Bearer {KEYS['score']}")]) == caller
    caller.require("score")
    with pytest.raises(Forbidden, match="media"):
        caller.require("media")
    for wrong in (SETTINGS.keys[0].key_sha256, KEYS["score"][:-1], KEYS["score"] + "x", "é", ""):
        with pytest.raises(Unauthenticated):
            keys.caller([("x-api-key", wrong)])


@pytest.mark.parametrize(
    "fields",
    [{"key_sha256": "plain"}, {"tenant": ""}, {"tenant": "a/b"}, {"scopes": {"everything"}}, {"colour": "red"}],
)
def test_malformed_keys_are_refused(fields):
    """A key that is no hash, an empty tenant, an unknown scope and an unknown field."""
    with pytest.raises(ValidationError):
        ApiKey(**({"key_sha256": "a" * 64, "tenant": "t"} | fields))


def test_a_doubled_key_is_refused():
    """One key belongs to one tenant."""
    key = ApiKey(key_sha256="a" * 64, tenant="t")
    with pytest.raises(ValidationError, match="same key_sha256"):
        ServerSettings(keys=(key, key))
