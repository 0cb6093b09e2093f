"""Both doors of a served hub under generated and damaged requests: no 5xx, no crash, and it still scores (R15).

One case is one request, or one event of a stream. By hand, with other seeds and more of them:
``FUZZ_SEED=1 FUZZ_TIMES=3 .venv/bin/python -P -m pytest tests/service/test_fuzz.py tests/service/test_fuzz_bodies.py``.
"""

import os
import random
from contextlib import suppress

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable

from rewardhub.client import Client
from rewardhub.types import Call, Group, Media, Response
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.wire import proto

schemathesis = pytest.importorskip("schemathesis", reason="the fuzz extra is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore"),
]
RECIPES = ("nonce", "pooled_nonce", "math", "mcq", "box_iou", "no such recipe")
SEED, TIMES = int(os.environ.get("FUZZ_SEED", "0")), int(os.environ.get("FUZZ_TIMES", "1"))
EXAMPLES = {"/v1/score": 150, "/v1/score/stream": 60, "/v1/media": 200, "/v1/reload": 2}
FEW = 20
MUTATIONS, STREAMS, EVENTS = 5_000, 300, 12


def still_scores(served) -> None:
    """The hub is the same process and gives the oracle's value."""
    from tests.chaos.chaos_verifiers import oracle

    assert served.process.poll() is None
    with Client(f"grpc://{served.grpc}") as client:
        (scores,) = client.score([Group("g", "p", (Response("r"),))], Call(recipe="pooled_nonce"))
        assert scores.values == [oracle("p", "r")]


def check(reply: httpx.Response, content: bytes = b"") -> None:
    """No fault of ours; an error says in one shape what was wrong."""
    assert reply.status_code < 500, (reply.text, content[:2000])
    if reply.status_code >= 400:
        error = reply.json()["error"]
        assert error["code"] and error["message"]


def fuzzed(http: httpx.Client, operation, mode) -> int:
    """Sends generated requests of one operation; how many."""
    count = TIMES * EXAMPLES.get(operation.path, FEW)
    rng, sent = random.Random(f"{SEED}{operation.path}"), 0

    @seed(SEED)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case):
        nonlocal sent
        if isinstance(case.body, dict) and rng.random() < 0.7:
            case.body["recipe"] = rng.choice(RECIPES)
        with suppress(httpx.LocalProtocolError):  # a header that no client can send
            check(requests_like(http, case.as_transport_kwargs(base_url=str(http.base_url))))
            sent += 1

    run()
    return sent


def test_rest_by_its_own_document(serve):
    """Every route by valid and by invalid requests made from the OpenAPI document; 500 cases and more."""
    from schemathesis import GenerationMode

    with serve() as hub, httpx.Client(base_url=hub.url, timeout=60) as http:
        schema = schemathesis.openapi.from_dict(http.get("/openapi.json").json())
        schema.config.update(base_url=hub.url)
        sent = 0
        for found in schema.get_all_operations():
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                try:
                    sent += fuzzed(http, found.ok(), mode)
                except Unsatisfiable:
                    continue  # a route without parameters has no invalid request
        print(f"{sent} requests from the document")
        assert sent >= 500 * TIMES
        still_scores(hub)


def requests_like(http: httpx.Client, arguments: dict) -> httpx.Response:
    """Sends what Schemathesis wants to send."""
    body = {"json": arguments["json"]} if "json" in arguments else {"content": _bytes(arguments.get("data"))}
    headers = {key: value for key, value in dict(arguments.get("headers") or {}).items() if value is not None}
    return http.request(
        arguments["method"], arguments["url"], params=arguments.get("params"), headers=headers, **body
    )  # fmt: skip


def _bytes(data: object) -> bytes | None:
    return data if data is None or isinstance(data, bytes) else str(data).encode("utf-8", "surrogatepass")


def seeds() -> list[bytes]:
    """Valid requests, whose damaged copies are sent."""
    call = Call(recipe="nonce", run="r", inputs={"x": 1.0}, deadline_ms=2000)
    chat = ({"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "image", "media": 0}]},)
    groups = [
        Group("a", "p", (Response("x"), Response("y", tokens=3, signals={"s": 0.5}, steps=((0, 1),)))),
        Group("b", chat, (Response("z"),), {"answer": "1", "box": [0, 0, 1, 1]}, (Media(sha256="0" * 64),)),
        Group("c", "p", (Response("", messages=({"role": "user", "content": "t"},)),), recipe="math"),
    ]
    request = pb.ScoreRequest(options=proto.call_to_proto(call), groups=map(proto.group_to_proto, groups))
    one = pb.ScoreRequest(options=proto.call_to_proto(call), groups=[proto.group_to_proto(groups[0])])
    return [request.SerializeToString(), one.SerializeToString()]


def events() -> list[bytes]:
    """Valid events of a stream."""
    group = proto.group_to_proto(Group("s", "p", (Response("x"),)))
    opened = proto.group_to_proto(Group("o", "p", expected=2))
    made = [
        pb.ScoreStreamRequest(options=proto.call_to_proto(Call("nonce", deadline_ms=1000))),
        pb.ScoreStreamRequest(group=group),
        pb.ScoreStreamRequest(open=pb.Open(group=opened)),
        pb.ScoreStreamRequest(add=pb.Add(id="o", responses=group.responses)),
        pb.ScoreStreamRequest(close=pb.Close(id="o")),
        pb.ScoreStreamRequest(cancel=pb.Cancel(id="o")),
    ]
    return [each.SerializeToString() for each in made]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A copy with bytes changed, lost, doubled or cut off."""
    copy = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(copy) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(copy):
            copy[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            copy[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == 2:
            del copy[at : at + rng.randint(1, 8)]
        elif kind == 3:
            start = rng.randrange(len(copy) + 1)
            copy[at:at] = copy[start : start + rng.randint(1, 32)]
        else:
            del copy[at:]
    return bytes(copy)


ALLOWED = {
    grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.FAILED_PRECONDITION,
}  # fmt: skip


def test_grpc_by_damaged_messages(serve):
    """5,000 damaged requests, 300 streams of 12 events of which most are damaged: a client's error or an answer."""
    rng = random.Random(SEED)
    with serve() as hub, grpc.insecure_channel(hub.grpc) as channel:
        score = channel.unary_unary("/rewardhub.v1.RewardService/Score", None, pb.ScoreResponse.FromString)
        stream = channel.stream_stream("/rewardhub.v1.RewardService/ScoreStream")
        codes = set()
        for _ in range(MUTATIONS * TIMES):
            try:
                score(damaged(rng.choice(seeds()), rng), timeout=30)
            except grpc.RpcError as error:
                codes.add(error.code())
                assert error.code() in ALLOWED, error
        for _ in range(STREAMS * TIMES):
            sent = [damaged(each, rng) if rng.random() < 0.7 else each for each in rng.choices(events(), k=EVENTS)]
            try:
                list(stream(iter(sent), timeout=30))
            except grpc.RpcError as error:
                codes.add(error.code())
                assert error.code() in ALLOWED, error
        assert grpc.StatusCode.INVALID_ARGUMENT in codes
        still_scores(hub)
