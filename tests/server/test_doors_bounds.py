"""What is bounded: calls, bytes, streams whose caller does not read; and input that is noise."""

import asyncio
import copy
import json
import random
import tracemalloc

import grpc
import pytest

from rewardhub.errors import TooLarge, Unavailable
from rewardhub.server import http_protocol, intake, rpc, session
from rewardhub.server.inflight import Inflight
from rewardhub.server.settings import Limits, ServerSettings
from rewardhub.types import Call, Group, Media, Response, Status
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import types_pb2
from rewardhub.v1.reward_service_pb2_grpc import RewardServiceStub
from rewardhub.wire import proto


def body(recipe, text="r"):
    return {"recipe": recipe, "groups": [{"id": "g", "responses": [text]}]}


def request(recipe, text="r", name="g"):
    group = Group(name, responses=(Response(text),))
    return pb.ScoreRequest(options=proto.call_to_proto(Call(recipe)), groups=[proto.group_to_proto(group)])


async def until(done):
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.01)


async def test_calls_over_the_limit_are_refused_early(service):
    """The third call of two is 503 with retry-after on either door; health still answers; later calls pass."""
    async with service(ServerSettings(limits=Limits(concurrency=2))) as running, running.stub() as stub:
        async with running.http() as http:
            held = [asyncio.create_task(http.post("/v1/score", json=body("hold"))) for _ in range(2)]
            held += [asyncio.ensure_future(stub.Score(request("hold"))) for _ in range(2)]
            await until(lambda: running.hub.running == 4)
            reply = await http.post("/v1/score", json=body("digest"))
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
            assert reply.json()["error"]["retryable"] is True
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Score(request("digest"), timeout=5)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "500"
            assert (await http.get("/healthz")).status_code == 200
            running.hub.release.set()
            await asyncio.gather(*held)
            assert (await http.post("/v1/score", json=body("digest"))).status_code == 200
            await stub.Score(request("digest"))


async def test_a_burst_of_calls_is_answered(service):
    """T33: thousands of calls at once are scored, or refused with a reason; gRPC drops none by itself."""

    def burst(address):
        with grpc.insecure_channel(address) as channel:
            score = RewardServiceStub(channel).Score
            calls = [score.future(request("digest")) for _ in range(3_000)]
            ended = [call for call in calls if call.exception() or call.done()]
            return {(call.code().name, bool(call.trailing_metadata())) for call in ended}

    async with service() as running:
        outcomes = await asyncio.to_thread(burst, running.grpc_addr)
    assert outcomes <= {("OK", False), ("UNAVAILABLE", True), ("RESOURCE_EXHAUSTED", True)}


async def test_bytes_in_flight_are_bounded_and_given_back(service):
    """Bodies that together pass the limit are refused; once answered their bytes are free again."""
    settings = ServerSettings(limits=Limits(body_bytes=2**20, inflight_bytes=2**20))
    large = "x" * 700_000
    async with service(settings) as running, running.http() as http:
        held = asyncio.create_task(http.post("/v1/score", json=body("hold", large)))
        await until(lambda: running.hub.running == 1)
        assert (await http.post("/v1/score", json=body("digest", large))).status_code == 503
        assert (await http.post("/v1/score", json=body("digest"))).status_code == 200
        running.hub.release.set()
        await held
        for path in ("/v1/score", "/v1/score/stream", "/v1/score/stream", "/v1/score"):
            assert (await http.post(path, json=body("digest", large))).status_code == 200
        for content in (b"{", b" " * 700_000, b" " * 1_100_000):
            assert (await http.post("/v1/score", content=content)).status_code in {400, 413}
        assert (await http.post("/v1/score", json=body("digest", large))).status_code == 200


async def test_a_head_that_trickles_is_given_up(service, monkeypatch):
    """Connections that send no whole head within its time are closed; a second request on one is timed anew."""
    monkeypatch.setattr(http_protocol, "HEAD_S", 0.3)
    async with service() as running:
        port = int(running.url.rsplit(":", 1)[1])
        silent, trickling, honest = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        honest[1].write(request)
        assert b"200" in await asyncio.wait_for(honest[0].readuntil(b"}"), 5)
        for byte in request[:4]:
            trickling[1].write(bytes([byte]))
            await asyncio.sleep(0.05)
        for reader, _ in (silent, trickling):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        honest[1].write(request)
        assert b"200" in await asyncio.wait_for(honest[0].readuntil(b"}"), 5)
        for _, writer in (silent, trickling, honest):
            writer.close()
            await writer.wait_closed()


_CHUNKED = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "piece", "answer"),
    [
        (b"GET /", b"a" * 50_000, b"431"),
        (b"GET /healthz HTTP/1.1\r\nx-a: ", b"a" * 50_000, b"431"),
        (b"GET /healthz HTTP/1.1\r\n", b"x-a: b\r\n" * 6_250, b"431"),
        (_CHUNKED + b"1\r\na\r\n0\r\nx-a: ", b"a" * 50_000, b"405"),
        (_CHUNKED + b"1\r\na\r\n0\r\n", b"x-a: b\r\n" * 6_250, b"405"),
        (_CHUNKED + b"1;", b"a" * 50_000, b"405"),
    ],
    ids=["address", "header", "headers", "trailer", "trailers", "chunk"],
)
async def test_an_endless_head_is_cut(service, start, piece, answer):
    """T64: what is neither a body nor ends is not kept, from callers without a key too: the connection is closed."""
    async with service() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
        for each in (start, piece, piece, piece):
            writer.write(each)
            await asyncio.sleep(0.1)
        assert answer in await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_a_body_of_many_pieces_has_no_long_head(service, monkeypatch):
    """The marks of chunks that come by themselves do not add up."""
    monkeypatch.setattr(http_protocol, "HEAD_BYTES", 100)
    content = json.dumps(body("digest")).encode()
    async with service() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))
        writer.write(_CHUNKED.replace(b"healthz", b"v1/score"))
        for byte in content:
            for piece in (b"1\r\n", bytes([byte]), b"\r\n"):
                writer.write(piece)
                await asyncio.sleep(0.001)
        writer.write(b"0\r\n\r\n")
        assert b"200" in await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
        writer.close()


def test_a_body_in_crumbs_takes_no_more_memory_than_it_counts():
    """Two hundred thousand bytes, two at a time."""
    tracemalloc.start()
    try:
        with Inflight(1, 2**20).of("a").upload(2**20, "body") as upload:
            for _ in range(100_000):
                upload.add(bytes([1, 2]))
            assert tracemalloc.get_traced_memory()[0] < 400_000
            assert upload.joined() == b"\1\2" * 100_000
    finally:
        tracemalloc.stop()


def test_an_upload_counts_its_chunks():
    """Own limit, limit of all, and everything given back, also after a refusal."""
    inflight = Inflight(1, 100).of("a")
    with inflight.upload(60, "body") as first, inflight.upload(60, "body") as second:
        first.add(b"a" * 30)
        first.add(b"b" * 30)
        assert first.joined() == b"a" * 30 + b"b" * 30
        with pytest.raises(TooLarge, match="limit of 60"):
            first.add(b"c")
        second.add(b"d" * 40)
        with pytest.raises(Unavailable):
            second.add(b"e")
    with inflight.upload(100, "body") as upload:
        upload.add(b"f" * 100)
    with inflight.call(), pytest.raises(Unavailable), inflight.call():
        pass
    with inflight.call():
        pass


async def test_a_caller_who_does_not_read_is_not_read_from(service, monkeypatch):
    """Answers that nobody takes stop the intake; once they are read, all come."""
    monkeypatch.setattr(session, "MAX_READY", 20)
    total, reference = 3_000, {"text": "x" * 20_000}
    async with service() as running, running.stub() as stub:
        call = stub.ScoreStream()
        await call.write(pb.ScoreStreamRequest(options=proto.call_to_proto(Call("digest", details=True))))

        async def write():
            for index in range(total):
                group = Group(f"g{index}", responses=(Response("r"),), reference=reference)
                await call.write(pb.ScoreStreamRequest(group=proto.group_to_proto(group)))
            await call.done_writing()

        writer = asyncio.create_task(write())
        taken = -1
        while taken != len(running.hub.calls):
            taken = len(running.hub.calls)
            await asyncio.sleep(0.5)
        assert taken < total
        assert not writer.done()
        names = []
        while (reply := await asyncio.wait_for(call.read(), 20)) is not grpc.aio.EOF:
            names += [each.id for each in reply.groups]
        await writer
    assert sorted(names) == sorted(f"g{index}" for index in range(total))


async def test_a_vanished_stream_leaves_nothing_running(service):
    """A caller who drops its connection: whole, open and waiting groups end, the stream is counted off."""
    async with service() as running:
        async with running.stub() as stub:
            call = stub.ScoreStream()
            await call.write(pb.ScoreStreamRequest(options=proto.call_to_proto(Call("hold"))))
            for index in range(20):
                await call.write(pb.ScoreStreamRequest(group=request("hold", name=f"g{index}").groups[0]))
            await call.write(pb.ScoreStreamRequest(open=pb.Open(group=request("hold", name="o").groups[0])))
            media = proto.group_to_proto(Group("m", media=(Media(sha256="a" * 64),), responses=(Response("r"),)))
            await call.write(pb.ScoreStreamRequest(group=media))
            await until(lambda: running.hub.running == 20)
        await until(lambda: running.hub.running == 0 and running.hub.cancelled == 20)
        async with running.http() as http:
            assert "rewardhub_door_streams 0.0" in (await http.get("/metrics")).text
        names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}
        assert not {name for name in names if name.startswith(("Session.", "Events."))}


SEED_BODY = {
    "recipe": "digest",
    "deadline_ms": 1000,
    "inputs": {"x": 1.5},
    "groups": [
        {
            "id": "g",
            "prompt": [{"role": "user", "content": [{"type": "image", "media": 0}, {"type": "text", "text": "q"}]}],
            "media": [{"sha256": "a" * 64, "space": "pixel", "frames": [], "fps": 1.0}],
            "reference": {"answer": "5", "n": 2**70},
            "responses": ["a", {"text": "b", "tokens": 3, "signals": {"s": 0.5}, "steps": [[0, 1]], "media": []}],
            "metadata": {"deep": [[[[]]]]},
            "expected": 0,
        },
        {"id": "h", "responses": ["x"]},
    ],
}
JUNK = [None, True, -1, 2**80, 1e308, "", "\ud800", "a" * 300, [], {}, [[]], {"a": None}, float("nan"), "image", 0]


def mutated(value, rng):
    """A copy in which one random place holds junk, is gone, doubled or renamed."""
    value = copy.deepcopy(value)
    holder = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return value
        key = rng.choice(keys)
        if isinstance(holder[key], (dict, list)) and holder[key] and rng.random() < 0.8:
            holder = holder[key]
            continue
        action = rng.randrange(4)
        if action == 0:
            del holder[key]
        elif action == 1 and isinstance(holder, dict):
            holder[rng.choice(["id", "text", "x", "groups", "é"])] = holder.pop(key)
        else:
            holder[key] = rng.choice(JUNK)
        return value


async def fuzz_rest(running, cases):
    rng = random.Random(1)
    async with running.http() as http:
        for _ in range(cases):
            value = SEED_BODY
            for _ in range(rng.randint(1, 4)):
                value = mutated(value, rng)
            content = json.dumps(value).encode()
            if rng.random() < 0.3:
                at = rng.randrange(len(content))
                content = content[:at] + rng.randbytes(rng.randint(0, 4)) + content[at + rng.randint(0, 4) :]
            path = rng.choice(["/v1/score", "/v1/score/stream"])
            reply = await http.post(path, content=content)
            assert reply.status_code in {200, 400}, (reply.status_code, content)
            if reply.status_code == 200:
                lines = reply.text.splitlines() if path.endswith("stream") else reply.json()["groups"]
                assert len(lines) == len(json.loads(content)["groups"])
                assert '"internal_error"' not in reply.text
            else:
                assert reply.json()["error"]["code"] == "invalid_input"


async def fuzz_grpc(running, cases):
    rng = random.Random(2)
    group = pb.ScoreRequest()
    group.options.recipe = "digest"
    one = group.groups.add(id="g", prompt="p", reference=b'{"a":1}', metadata=b"{}", expected=0)
    one.messages.add(role="user").parts.add(media=0)
    one.media.add(sha256="a" * 64)
    one.responses.add(text="r").signals["s"] = 1.0
    unary = group.SerializeToString()
    event = pb.ScoreStreamRequest(group=one).SerializeToString()
    async with grpc.aio.insecure_channel(running.grpc_addr) as channel:
        score = channel.unary_unary(f"/{rpc.SERVICE}/Score")
        for _ in range(cases):
            try:
                await score(noisy(unary, rng), timeout=10)
            except grpc.aio.AioRpcError as error:
                assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        stream = channel.stream_stream(f"/{rpc.SERVICE}/ScoreStream")
        events = [noisy(event, rng) for _ in range(cases)]
        replies = [pb.ScoreStreamResponse.FromString(each) async for each in stream(iter(events), timeout=60)]
    assert sum(len(each.groups) + each.HasField("error") for each in replies) > cases / 2
    assert {each.error.code for each in replies if each.HasField("error")} <= {"invalid_input", "quota_exceeded"}


def noisy(data, rng):
    content = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content[: rng.randint(1, len(content))] if rng.random() < 0.3 else content)


async def test_noise_is_never_a_fault(service):
    """Mutated bodies and messages are answered or refused as the caller's fault; the doors go on."""
    async with service() as running:
        await fuzz_rest(running, 250)
        await fuzz_grpc(running, 250)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_ten_thousand_cases_of_noise(service):
    """The same with 10^4 cases for each door."""
    async with service() as running:
        await fuzz_rest(running, 10_000)
        await fuzz_grpc(running, 10_000)


def test_many_bad_responses_are_cheap():
    """What is wrong with thousands of responses keeps no stacks; a group of too many is refused as a whole."""
    body = {
        "recipe": "digest",
        "groups": [{"id": "few", "responses": [0] * 10}, {"id": "many", "responses": [0] * 16_385}],
    }
    _, (few, many) = intake.from_json(json.dumps(body).encode(), Limits())
    assert [error.__traceback__ for error in few.errors.values()] == [None] * 10
    assert [error.field for error in few.errors.values()][9] == "groups[0].responses[9]"
    assert len(many) == 16_385
    assert set(many.total.statuses) == {Status.INVALID_INPUT}


async def test_responses_of_a_request_are_bounded(service):
    """Every response has an answer, a hundred times its size: more than a request may have are refused as a whole,
    over either door, and the connection goes on."""
    settings = ServerSettings(limits=Limits(responses=1_000))
    many = Group("many", responses=(Response(""),) * 600)
    options = proto.call_to_proto(Call("digest"))
    async with service(settings) as running, running.http() as http, running.stub() as stub:
        two = [{"id": name, "responses": [""] * 600} for name in "ab"]
        for path in ("/v1/score", "/v1/score/stream"):
            refused = await http.post(path, json={"recipe": "digest", "groups": two})
            assert refused.status_code == 413
            assert "1200 responses in one request, at most 1000" in refused.json()["error"]["message"]
        assert (await http.post("/v1/score", json={"recipe": "digest", "groups": two[:1]})).status_code == 200
        message = proto.group_to_proto(many)
        with pytest.raises(grpc.aio.AioRpcError, match="at most 1000"):
            await stub.Score(pb.ScoreRequest(options=options, groups=[message, message]))
        twice = proto.group_to_proto(many)
        twice.responses.extend(message.responses)
        talk = stub.ScoreStream()
        await talk.write(pb.ScoreStreamRequest(options=options))
        for event in (
            pb.ScoreStreamRequest(group=twice),
            pb.ScoreStreamRequest(open=pb.Open(group=twice)),
            pb.ScoreStreamRequest(add=pb.Add(id="many", responses=twice.responses)),
        ):
            await talk.write(event)
            assert "at most 1000" in (await talk.read()).error.message
        await talk.write(pb.ScoreStreamRequest(group=message))
        assert len((await talk.read()).groups[0].total.values) == 600
        await talk.done_writing()


async def test_bytes_of_messages_in_flight_are_bounded_and_given_back(service):
    """Over gRPC too: what passes the bytes of all is refused with a retry-after, whole groups, added responses and
    unary calls; answered, cancelled and left groups give theirs back."""
    settings = ServerSettings(limits=Limits(inflight_bytes=200_000))
    text = "x" * 60_000
    async with service(settings) as running, running.stub() as stub:
        for way in ("answered", "left"):
            running.hub.release.clear()
            talk = stub.ScoreStream()
            await talk.write(pb.ScoreStreamRequest(options=proto.call_to_proto(Call("hold"))))
            for n in range(3):
                await talk.write(pb.ScoreStreamRequest(group=request("hold", text, f"g{n}").groups[0]))
            await until(lambda: running.hub.running == 3)
            await talk.write(pb.ScoreStreamRequest(group=request("hold", text, "more").groups[0]))
            refused = (await talk.read()).groups[0]
            assert refused.id == "more" and refused.error.code == "unavailable" and refused.error.retry_after_ms > 0
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Score(request("hold", text))
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            if way == "left":
                talk.cancel()
                await until(lambda: running.hub.running == 0)
            else:
                running.hub.release.set()
                answered = []
                while len(answered) < 3:
                    answered += [scores.id for scores in (await talk.read()).groups]
                assert sorted(answered) == ["g0", "g1", "g2"]
                await talk.done_writing()
            await until(lambda: running.hub.running == 0)
        talk = stub.ScoreStream()
        await talk.write(pb.ScoreStreamRequest(options=proto.call_to_proto(Call("digest"))))
        await talk.write(pb.ScoreStreamRequest(open=pb.Open(group=types_pb2.Group(id="open"))))
        for n in range(4):
            part = pb.Add(id="open", responses=[types_pb2.Response(text=text)])
            await talk.write(pb.ScoreStreamRequest(add=part))
        rows, errors = 0, []
        while rows < 3 or not errors:
            reply = await talk.read()
            rows += sum(len(scores.total.values) for scores in reply.groups)
            errors += [reply.error.code] if reply.HasField("error") else []
        assert (rows, errors) == (3, ["unavailable"])
        await talk.write(pb.ScoreStreamRequest(cancel=pb.Cancel(id="open")))
        await talk.read()
        await talk.done_writing()
        assert len((await stub.Score(request("digest", text))).groups) == 1
        await until(lambda: running.doors._service.inflight.free_bytes == 200_000)
