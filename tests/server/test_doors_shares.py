"""No key, and no peer where there are none, takes all the room of a door; what never comes is given up."""

import asyncio
import contextlib
import hashlib
import json

import grpc
import pytest

from rewardhub.client import rest
from rewardhub.errors import Unavailable
from rewardhub.server import rpc
from rewardhub.server.inflight import SHARE, Inflight
from rewardhub.server.settings import ApiKey, Limits, ServerSettings
from rewardhub.types import Call, Group, Response
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1.reward_service_pb2_grpc import RewardServiceStub
from rewardhub.wire import proto


def body(recipe, text="r"):
    return {"recipe": recipe, "groups": [{"id": "g", "responses": [text]}]}


def request(recipe):
    group = Group("g", responses=(Response("r"),))
    return pb.ScoreRequest(options=proto.call_to_proto(Call(recipe)), groups=[proto.group_to_proto(group)])


async def until(done):
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.01)


def test_one_client_alone_has_room_for_all_its_connections():
    """Ours makes up to a thousand calls at once."""
    share = Inflight(Limits().concurrency, 1).of("a")
    with contextlib.ExitStack() as held:
        for _ in range(rest._CONNECTIONS):
            held.enter_context(share.call())


def test_no_caller_takes_all():
    """Three that take all they can leave some; one body alone may take all that is free."""
    inflight = Inflight(1, 10_000)
    for n in range(3):
        share, held = inflight.of(str(n)), 0
        share.take(1)
        with pytest.raises(Unavailable, match="of one caller"):
            while True:
                share.take(1)
                held += 1
        assert held >= SHARE * inflight.free_bytes > 0
    empty = Inflight(1, 100).of("a")
    with empty.upload(100, "body") as alone:
        for _ in range(100):
            alone.add(b"x")
    empty.take(100)


def key(name):
    return ApiKey(key_sha256=hashlib.sha256(name.encode()).hexdigest(), tenant=name, scopes=("score", "media", "admin"))


_SLOW = (
    b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nx-api-key: slow\r\nContent-Length: %d\r\n\r\n{"
    b'"recipe": "digest", "groups": ['
)


async def test_slow_bodies_of_one_key_leave_room_for_the_others(service):
    """Calls and bytes: who sends bodies that never end takes most of the room, never all of it; and gives it back."""
    limits = Limits(concurrency=16, body_bytes=300_000, inflight_bytes=1_000_000)
    async with service(ServerSettings(limits=limits, keys=(key("slow"), key("other")))) as running:
        port = int(running.url.rsplit(":", 1)[1])
        other = {"x-api-key": "other"}
        for count, size in ((32, 0), (5, 250_000)):
            slow = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
            for _, writer in slow:
                writer.write(_SLOW % 280_000 + b" " * size)
            await asyncio.sleep(0.3)
            async with running.http() as http:
                mine = await http.post("/v1/score", json=body("digest", "x" * 200_000), headers={"x-api-key": "slow"})
                assert (mine.status_code, mine.headers["retry-after"]) == (503, "1")
                for _ in range(3):
                    theirs = await http.post("/v1/score", json=body("digest", "x" * 10_000), headers=other)
                    assert theirs.status_code == 200, theirs.text
            for _, writer in slow:
                writer.close()
                await writer.wait_closed()
            await until(lambda: running.doors._rest._inflight.free_bytes == 1_000_000)


async def test_slow_bodies_of_one_peer_leave_room_for_the_others(service):
    """Without keys callers are told apart by their addresses."""
    async with service(ServerSettings(limits=Limits(concurrency=16))) as running:
        port = int(running.url.rsplit(":", 1)[1])
        slow = [await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0)) for _ in range(32)]
        for _, writer in slow:
            writer.write(_SLOW % 280_000)
        await asyncio.sleep(0.3)
        async with running.http() as http:
            assert (await http.post("/v1/score", json=body("digest"))).status_code == 200
        for _, writer in slow:
            writer.close()


async def test_a_door_with_too_many_connections_says_so(service, caplog):
    """As every refusal is said: as JSON, with a retry-after, counted; the connection is closed."""
    async with service(ServerSettings(limits=Limits(concurrency=1))) as running:
        port = int(running.url.rsplit(":", 1)[1])
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for version in ("1.1", "1.0"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/%s\r\nHost: localhost\r\n\r\n" % version.encode())
            head, _, content = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
            writer.close()
            assert head.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in head and b"connection: close" in head
            error = json.loads(content)["error"]
            assert (error["code"], error["retryable"]) == ("unavailable", True)
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        async with running.http() as http:
            shown = (await http.get("/metrics")).text
        assert 'rewardhub_door_requests_total{code="503",door="rest",route="/healthz"} 2.0' in shown


async def test_a_message_that_never_comes_is_given_up(service):
    """A gRPC call of one message has as long for it as a body of REST, a call without a key too; so has an upload."""
    limits = Limits(concurrency=2, body_s=0.3)
    forever = asyncio.Event()

    async def never(*first):
        for each in first:
            yield each
        await forever.wait()

    async with service(ServerSettings(limits=limits)) as running:
        async with grpc.aio.insecure_channel(running.grpc_addr) as channel:
            waiting = {
                f"/{rpc.SERVICE}/Score": never(),
                f"/{rpc.SERVICE}/ListScorers": never(),
                f"/{rpc.SERVICE}/PutMedia": never(pb.PutMediaRequest(chunk=b"x").SerializeToString()),
                "/grpc.health.v1.Health/Check": never(),
                "/grpc.health.v1.Health/Watch": never(),
            }
            for method, messages in waiting.items():
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await asyncio.wait_for(channel.stream_unary(method)(messages), 5)
                assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED, method
                assert "within 0.3 s" in caught.value.details()
                assert json.loads(dict(caught.value.trailing_metadata())["rewardhub-error"])["retryable"] is True
            empty = channel.stream_unary(f"/{rpc.SERVICE}/Score")(iter(()))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(empty, 5)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        async with running.http() as http:
            shown = (await http.get("/metrics")).text
        for name in ("Score", "ListScorers", "PutMedia"):
            line = f'rewardhub_door_requests_total{{code="DEADLINE_EXCEEDED",door="grpc",route="{name}"}} 1.0'
            assert line in shown


async def test_calls_that_stay_of_one_key_leave_room_for_the_others(service):
    """Over gRPC: streams that say nothing, reflection, and checks of health without a key, by the hundred."""
    limits = Limits(concurrency=16)
    forever = asyncio.Event()

    async def never():
        await forever.wait()
        yield b""

    async with service(ServerSettings(limits=limits, keys=(key("slow"), key("other")))) as running:
        async with grpc.aio.insecure_channel(running.grpc_addr) as channel:
            reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            for method in (f"/{rpc.SERVICE}/ScoreStream", reflection, "/grpc.health.v1.Health/Check"):
                mine = () if "Check" in method else (("x-api-key", "slow"),)
                held = [channel.stream_stream(method)(never(), metadata=mine) for _ in range(100)]
                await asyncio.sleep(0.5)
                assert sum(call.done() for call in held) in range(50, 100)
                score = RewardServiceStub(channel).Score
                async with asyncio.timeout(5):
                    answer = await score(request("digest"), metadata=(("x-api-key", "other"),))
                assert len(answer.groups) == 1
                for call in held:
                    call.cancel()
                await asyncio.sleep(0.2)
