"""Traces of OpenTelemetry: a caller's trace goes through the door to the terms, and holds no text."""

import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rewardhub import tracing
from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import Unavailable
from rewardhub.registry import Registry, verifier
from rewardhub.scorer import ScorerInfo
from rewardhub.types import Call, Group, Response
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import reward_service_pb2_grpc as stubs
from rewardhub.wire import proto

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
RECIPE = "name: both\nterms: {a: {scorer: short}, b: {scorer: short}}\nvalue: a + b"


@verifier("short")
def short(response, reference) -> float:
    """1 for at most 20 characters."""
    return float(len(response.text) <= 20)


@pytest.fixture
def exporter():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)
    provider.shutdown()


async def test_a_callers_trace_reaches_the_terms(service, exporter):
    """REST and gRPC: a span for the group under the caller's span, one per term below it; no prompt, no response."""
    registry = Registry()
    registry.add(short)
    hub = make_hub(HubConfig(workers=1), registry)
    hub.release = type("None", (), {"set": lambda self: None})()  # what the fixture does to a fake hub
    await hub.start()
    group = Group("g", "a secret prompt", (Response("a secret response"),))
    try:
        async with service(hub=hub) as running, running.http(headers={"traceparent": TRACEPARENT}) as http:
            body = {"recipe_text": RECIPE, "groups": [{"prompt": group.prompt, "responses": [group.responses[0].text]}]}
            assert (await http.post("/v1/score", json=body)).json()["groups"][0]["scores"][0]["value"] == 2.0
            by_rest = exporter.get_finished_spans()
            exporter.clear()
            async with grpc.aio.insecure_channel(running.grpc_addr) as channel:
                request = pb.ScoreRequest(
                    options=proto.call_to_proto(Call(recipe_text=RECIPE)), groups=[proto.group_to_proto(group)]
                )
                await stubs.RewardServiceStub(channel).Score(request, metadata=(("traceparent", TRACEPARENT),))
            by_grpc = exporter.get_finished_spans()
    finally:
        await hub.aclose()
    for spans in (by_rest, by_grpc):
        (whole,) = [span for span in spans if span.name == "rewardhub.group"]
        terms = [span for span in spans if span.name == "rewardhub.term"]
        assert f"{whole.context.trace_id:032x}" == TRACE
        assert [f"{span.parent.span_id:016x}" for span in spans].count(PARENT) == 1
        assert whole.attributes["status.ok"] == 1
        assert [(term.attributes["scorer"], term.parent.span_id) for term in terms] == [
            ("short", whole.context.span_id)
        ] * 2
        assert "secret" not in "".join(span.to_json() for span in spans)


@verifier("slow", lane="pool")
def slow(response, reference) -> float:
    """1 for whatever comes."""
    return 1.0


@dataclass
class Refusing:
    """A remote scorer whose error quotes what it was asked."""

    info: ScorerInfo = field(
        default_factory=lambda: ScorerInfo("refusing", "reward_model", "model", cost="dear", deterministic=False)
    )
    params: dict = field(default_factory=dict)
    fingerprint = "refusing"

    def bind(self, params):
        return self

    async def score_remote(self, group, indices, context):
        raise Unavailable(f"no answer to {group.prompt}")


async def test_a_trace_holds_only_names_of_the_operators(exporter, tmp_path):
    """One span per term, on whatever lane; no recipe that a caller made up, and nothing that an error quotes."""
    registry = Registry()
    for scorer in (short, slow, Refusing()):
        registry.add(scorer)
    hub = make_hub(HubConfig(workers=1), registry)
    call = Call(deadline_ms=500)
    try:
        for recipe in ("short", "slow", "refusing", "a secret recipe"):
            await hub.score([Group("g", "a secret prompt", (Response("a secret response"),), recipe=recipe)], call)
    finally:
        await hub.aclose()
    spans = exporter.get_finished_spans()
    assert [span.attributes["scorer"] for span in spans if span.name == "rewardhub.term"] == [
        "short",
        "slow",
        "refusing",
    ]
    assert [span.attributes["recipe"] for span in spans if span.name == "rewardhub.group"] == [
        "short",
        "slow",
        "refusing",
        "unknown",
    ]
    (failed,) = [span for span in spans if span.attributes.get("scorer") == "refusing"]
    assert (failed.status.status_code.name, failed.status.description) == ("ERROR", "Unavailable")
    assert "secret" not in "".join(span.to_json() for span in spans)


def test_without_a_destination_nothing_is_traced(monkeypatch):
    """Off by default: a span is nothing at all."""
    monkeypatch.delenv(tracing.ENDPOINT, raising=False)
    tracing.configure()
    with tracing.span("group", recipe="r") as span, tracing.caller([("traceparent", TRACEPARENT)]):
        assert span is None


async def test_only_the_trace_of_a_caller_is_read(service, exporter, caplog):
    """A caller's baggage, malformed and long, comes into no log; a trace that is none starts another."""
    headers = {"traceparent": "00-zz", "tracestate": "=", "baggage": "note=a secret" + "\\" * 9_000}
    async with service() as running, running.http(headers=headers) as http:
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.post("/v1/score", json={"recipe": "digest", "groups": []})).status_code == 200
    assert "secret" not in caplog.text


TRACED = """
from rewardhub import tracing
tracing.configure()
with tracing.span("group"):
    pass
"""


@pytest.mark.parametrize("answers", [True, False])
def test_a_dead_collector_does_not_hold_up_the_end(answers):
    """The last spans reach a collector that answers; one that does not costs the end of the process 2 s at most."""
    asked, over = [], threading.Event()

    def handle(listening):
        connection, _ = listening.accept()
        with connection:
            asked.append(connection.recv(1 << 16))
            if answers:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            over.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        collector = threading.Thread(target=handle, args=(listening,))
        collector.start()
        environ = os.environ | {tracing.ENDPOINT: f"http://127.0.0.1:{listening.getsockname()[1]}"}
        since = time.monotonic()
        subprocess.run([sys.executable, "-P", "-c", TRACED], env=environ, check=True, timeout=60)
        took_s = time.monotonic() - since
        over.set()
        collector.join()
    assert asked[0].startswith(b"POST /v1/traces")
    assert took_s < tracing.LAST_SPANS_S + 4
