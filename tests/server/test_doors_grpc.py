"""The gRPC door over a real socket: calls, errors, limits, media upload, health, reflection."""

import asyncio
import contextlib
import json

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from rewardhub.media.store import MediaLimits, MediaStore
from rewardhub.server import gate, grpc_server, rpc
from rewardhub.server.settings import Limits, ServerSettings
from rewardhub.types import Call, Group, Media, Response, Status
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import reward_service_pb2_grpc, types_pb2
from rewardhub.wire import lines, proto

DIGEST = Call(recipe="digest", details=True)


def group(name="g", *texts, **fields):
    return Group(name, responses=tuple(map(Response, texts or ("a", "b"))), **fields)


def request(*groups, call=DIGEST):
    return pb.ScoreRequest(options=proto.call_to_proto(call), groups=map(proto.group_to_proto, groups))


def options(call=DIGEST):
    return pb.ScoreStreamRequest(options=proto.call_to_proto(call))


async def failure_of(call) -> tuple[grpc.StatusCode, dict]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), json.loads(dict(caught.value.trailing_metadata()).get(gate.ERROR_KEY, "{}"))


async def test_both_doors_give_equal_answers_field_by_field(service, image):
    """REST and gRPC answer the same groups alike, but for timings and cached."""
    big = 2**63 + 1
    groups = [
        group("one", "x", "y", "z", reference={"n": big, "text": "é"}, metadata={"m": -big}),
        group("media", "r", media=(Media.from_bytes(image()),)),
        group("bad-recipe", "r", recipe="digset"),
        group("bad-media", "r", media=(Media(sha256="a" * 64),)),
        Group("steps", responses=(Response("abc", tokens=3, signals={"s": 0.5}, steps=((0, 1), (1, 3))),)),
        Group("trajectory", ({"role": "user", "content": "hi"},), (Response(messages=({"role": "assistant", "content": "t"},)),)),
        Group("empty"),
        group("one", "again"),
    ]  # fmt: skip
    message = pb.ScoreRequest(
        options=proto.call_to_proto(DIGEST), groups=[proto.group_to_proto(each, media_data=True) for each in groups]
    )
    body = {"recipe": "digest", "groups": [lines.group_to_json(each, media_data=True) for each in groups]}
    async with service() as running, running.stub() as stub, running.http() as http:
        reply = await stub.Score(message)
        by_rest = (await http.post("/v1/score", json=body)).json()["groups"]
        rest_call, grpc_call = running.hub.calls[1], running.hub.calls[0]
    by_grpc = [
        json.loads(lines.dumps(lines.scores_to_json(proto.scores_from_proto(each, list(reply.fingerprints)))))
        for each in reply.groups
    ]
    assert rest_call == grpc_call
    for one, other in zip(by_rest, by_grpc, strict=True):
        assert one == other
    assert {row["status"] for each in by_rest for row in each["scores"]} == {"ok", "invalid_input"}
    assert by_grpc[0]["scores"][0]["details"] == {"reference": {"n": big, "text": "é"}, "metadata": {"m": -big}}


async def test_unreadable_groups_lose_no_neighbour(service):
    """A group whose JSON or enumeration is wrong is invalid_input, the rest is scored."""
    message = request(group("good"), group("bad"), group("media"), group("last"))
    message.groups[1].reference = b"[1"
    message.groups[2].media.add(sha256="xyz")
    async with service() as running, running.stub() as stub:
        reply = await stub.Score(message)
    answers = [proto.scores_from_proto(each, list(reply.fingerprints)) for each in reply.groups]
    assert [set(each.total.statuses) for each in answers] == [
        {Status.OK}, {Status.INVALID_INPUT}, {Status.INVALID_INPUT}, {Status.OK},
    ]  # fmt: skip
    assert answers[1][0].details["field"] == "groups[1].reference"
    assert answers[2][0].details["field"] == "groups[2].media[0].sha256"


async def test_unusable_responses_lose_no_neighbour(service):
    """T02: a response with a signal that is no number is invalid_input; its neighbours are scored."""
    message = request(group("g", *"abcd"), group("g2", *"abcd"))
    message.groups[1].responses[1].signals["s"] = float("nan")
    message.groups[1].responses[3].media.add(sha256="f" * 64)
    async with service() as running, running.stub() as stub:
        reply = await stub.Score(message)
    whole, split = (proto.scores_from_proto(each, list(reply.fingerprints)) for each in reply.groups)
    assert split.total.statuses == [Status.OK, Status.INVALID_INPUT, Status.OK, Status.INVALID_INPUT]
    assert [split[row].details.get("field") for row in (1, 3)] == [
        "groups[1].responses[1].signals.s", "responses[3].media[0].sha256",
    ]  # fmt: skip
    assert whole.total.statuses == [Status.OK] * 4


@pytest.mark.parametrize(
    ("recipe", "code", "field", "after"),
    [
        ("pinned", grpc.StatusCode.FAILED_PRECONDITION, "run", 0),
        ("busy", grpc.StatusCode.UNAVAILABLE, "", 2500),
        ("broken", grpc.StatusCode.INTERNAL, "", 0),
    ],
)
async def test_errors_of_the_whole_call(service, recipe, code, field, after):
    """Codes, fields and retry-after of the error's class; faults tell an id only."""
    async with service() as running, running.stub() as stub:
        got, error = await failure_of(stub.Score(request(group(), call=Call(recipe=recipe))))
    assert got == code
    assert (error["field"], error["retry_after_ms"], error["retryable"]) == (field, after, after > 0)
    assert "secret" not in error["message"]


@pytest.mark.parametrize("letter", ["x", "%", "\n", "é", "中", "😀"])
async def test_an_error_that_quotes_a_long_name_arrives(service, letter):
    """Its code and fields reach a caller with gRPC's own limit of metadata, whatever the caller's words are made of."""
    options = types_pb2.CallOptions(recipe="digest", inputs={letter * 5_000: float("nan")})
    async with service() as running, running.stub() as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Score(pb.ScoreRequest(options=options))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = json.loads(dict(caught.value.trailing_metadata())["rewardhub-error"])
    assert error["code"] == "invalid_input"
    assert error["message"].startswith("options.inputs")


async def test_bytes_that_are_no_message_are_invalid(service):
    """Random bytes to every method are INVALID_ARGUMENT, and the door goes on."""
    async with service() as running, grpc.aio.insecure_channel(running.grpc_addr) as channel:
        for method in (
            "/grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health/Watch",
            f"/{reflection.SERVICE_NAME}/ServerReflectionInfo",
        ):
            code, said = await failure_of(channel.stream_unary(method)(iter([b"\xff\xff\xff"])))
            assert (code, said["code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "invalid_input")
        for name in ("Score", "ListScorers", "PutMedia"):
            method = f"/{rpc.SERVICE}/{name}"
            call = channel.stream_unary(method) if name == "PutMedia" else channel.unary_unary(method)
            code, _ = await failure_of(call(iter([b"\xff\xff\xff"])) if name == "PutMedia" else call(b"\xff\xff\xff"))
            assert code == grpc.StatusCode.INVALID_ARGUMENT
        replies = channel.stream_stream(f"/{rpc.SERVICE}/ScoreStream")(iter([b"\xff", options().SerializeToString()]))
        messages = [pb.ScoreStreamResponse.FromString(each) async for each in replies]
        assert [each.error.code for each in messages] == ["invalid_input"]


async def test_messages_over_four_megabytes_are_refused(service):
    """The message limit holds both ways."""
    async with service() as running, running.stub() as stub:
        code, _ = await failure_of(stub.Score(request(group("g", "x" * 2**22))))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    small = ServerSettings(limits=Limits(message_bytes=2**16))
    async with service(small) as running, running.stub() as stub:
        many = request(*(group(f"g{index}", "r") for index in range(800)))
        code, error = await failure_of(stub.Score(many))
        assert (code, error["code"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_large")
        assert "ScoreStream" in error["message"]


async def test_the_rpcs_deadline_becomes_the_calls(service):
    """A deadline of the RPC bounds the call's, and a nearer one of the call stays."""
    async with service() as running, running.stub() as stub:
        await stub.Score(request(group()), timeout=5)
        await stub.Score(request(group(), call=Call(recipe="digest", deadline_ms=100)), timeout=5)
        await stub.Score(request(group()))
        deadlines = [call.deadline_ms for _, call, _ in running.hub.calls]
    assert 4_000 < deadlines[0] <= 5_020
    assert deadlines[1:] == [100, 0]


async def test_cancelling_a_call_cancels_its_work(service):
    """A cancelled RPC leaves nothing running."""
    async with service() as running, running.stub() as stub:
        call = stub.Score(request(group(), call=Call(recipe="hold")))
        async with asyncio.timeout(5):
            await asyncio.sleep(0.05)
            while not running.hub.running:
                await asyncio.sleep(0.01)
            call.cancel()
            while not running.hub.cancelled:
                await asyncio.sleep(0.01)


async def test_put_media_checks_hash_size_and_format(service, image):
    """A wrong hash, too many bytes and a foreign format are refused."""
    async with service() as running, running.stub() as stub:
        running.hub.media = MediaStore(MediaLimits(item_bytes=1_000))
        for chunks, code in [
            ([pb.PutMediaRequest(sha256="a" * 64, chunk=image())], grpc.StatusCode.INVALID_ARGUMENT),
            ([pb.PutMediaRequest(chunk=b"0" * 600)] * 2, grpc.StatusCode.RESOURCE_EXHAUSTED),
            ([pb.PutMediaRequest(chunk=b"GIF89a")], grpc.StatusCode.INVALID_ARGUMENT),
            ([], grpc.StatusCode.INVALID_ARGUMENT),
        ]:
            got, error = await failure_of(stub.PutMedia(iter(chunks)))
            assert got == code
            assert error["message"]


async def test_an_upload_that_trickles_is_given_up(service):
    """Media that do not come within the time of a body are a timeout, and their bytes are in flight no longer."""

    async def chunks():
        yield pb.PutMediaRequest(chunk=b"0" * 600)
        await asyncio.sleep(30)

    limits = Limits(body_s=0.3, inflight_bytes=1_000)
    async with service(ServerSettings(limits=limits)) as running, running.stub() as stub:
        for _ in range(2):
            code, error = await failure_of(stub.PutMedia(chunks()))
            assert code == grpc.StatusCode.DEADLINE_EXCEEDED
            assert error["message"] == "the media did not come within 0.3 s"


async def test_health_follows_the_hub(service):
    """Check says SERVING, NOT_SERVING within a second when the hub is not ready, and back."""
    async with service() as running, grpc.aio.insecure_channel(running.grpc_addr) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def until(status):
            async with asyncio.timeout(3):
                while (await health.Check(health_pb2.HealthCheckRequest(service=rpc.SERVICE))).status != status:
                    await asyncio.sleep(0.05)

        await until(health_pb2.HealthCheckResponse.SERVING)
        running.hub.not_ready = ["model x is dead"]
        await until(health_pb2.HealthCheckResponse.NOT_SERVING)
        running.hub.not_ready = []
        await until(health_pb2.HealthCheckResponse.SERVING)


async def test_reflection_lists_the_service(service):
    """A tool without the proto files finds RewardService and its types."""
    async with service() as running, grpc.aio.insecure_channel(running.grpc_addr) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=rpc.SERVICE),
        ]
        replies = [each async for each in stub.ServerReflectionInfo(iter(asked))]
    assert rpc.SERVICE in [each.name for each in replies[0].list_services_response.service]
    assert replies[1].file_descriptor_response.file_descriptor_proto


async def test_scorers_are_listed(service):
    """The same list as REST's."""
    async with service() as running, running.stub() as stub, running.http() as http:
        reply = await stub.ListScorers(pb.ListScorersRequest())
        by_rest = (await http.get("/v1/scorers")).json()
    names = [field.name for field in pb.Scorer.DESCRIPTOR.fields]
    assert [{name: getattr(each, name) for name in names} for each in reply.scorers] == by_rest["scorers"]
    assert reply.version == by_rest["version"]


@pytest.mark.parametrize(
    ("size", "code"), [(16 * 2**10, grpc.StatusCode.OK), (2**15, grpc.StatusCode.RESOURCE_EXHAUSTED)]
)
async def test_metadata_have_one_limit(service, size, code):
    """A long token passes each time or never; gRPC's own limits refuse some calls from 8 KiB on, by chance."""
    async with service() as running, running.stub() as stub:
        for _ in range(20):
            call = stub.ListScorers(pb.ListScorersRequest(), metadata=[("x-token", "v" * size)], timeout=5)
            assert await call.code() == code


@pytest.mark.slow
async def test_a_quiet_stream_may_be_kept_alive(service, monkeypatch):
    """Pings of a caller that waits for long end nothing; a flood of them ends its connection, and no other."""
    options = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    for ping_s, code in ((0.05, grpc.StatusCode.CANCELLED), (10.0, grpc.StatusCode.UNAVAILABLE)):
        monkeypatch.setattr(grpc_server, "PING_S", ping_s)
        async with (
            service() as running,
            running.stub() as other,
            grpc.aio.insecure_channel(running.grpc_addr, options) as channel,
        ):
            beside = other.Score(request(group("beside"), call=Call("hold")))
            call = reward_service_pb2_grpc.RewardServiceStub(channel).Score(request(group(), call=Call("hold")))
            await asyncio.sleep(4.5)  # gRPC asks once a second at most
            call.cancel()
            assert await call.code() == code
            running.hub.release.set()
            assert (await beside).groups[0].id == "beside"


async def test_a_caller_that_is_gone_without_a_word_is_noticed(service, monkeypatch):
    """A machine without power closes no connection: its stream ends all the same, and gives back what it held."""
    monkeypatch.setattr(grpc_server, "ASK_S", 1.0)  # gRPC asks no more often
    monkeypatch.setattr(grpc_server, "ANSWER_S", 0.5)
    async with service() as running:
        host, _, port = running.grpc_addr.rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        pipes, writers = [], [back]

        async def copy(source, sink):
            while data := await source.read(2**16):
                sink.write(data)

        async def relay(reader, writer):
            writers.append(writer)
            pipes.extend(asyncio.create_task(copy(*pair)) for pair in ((reader, back), (there, writer)))

        proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
        address = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        async with grpc.aio.insecure_channel(address) as channel:
            talk = reward_service_pb2_grpc.RewardServiceStub(channel).ScoreStream()
            await talk.write(pb.ScoreStreamRequest(options=proto.call_to_proto(Call("echo"))))
            while not running.doors._service._sessions:
                await asyncio.sleep(0.01)
            await asyncio.sleep(2.0)
            assert running.doors._service._sessions  # quiet, but there
            for pipe in pipes:
                pipe.cancel()
            async with asyncio.timeout(20):
                while running.doors._service._sessions:
                    await asyncio.sleep(0.05)
            talk.cancel()
        proxy.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
