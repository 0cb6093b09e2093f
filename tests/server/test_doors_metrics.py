"""What an operator sees: the figures of the doors tell what callers got, in the format that Prometheus reads."""

import asyncio
import hashlib

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.registry import Registry
from rewardhub.server.settings import ApiKey, ServerSettings
from rewardhub.v1 import reward_service_pb2 as pb

KEYS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("scorer", "watcher")}
SETTINGS = ServerSettings(
    keys=(
        ApiKey(key_sha256=KEYS["scorer"], tenant="a"),
        ApiKey(key_sha256=KEYS["watcher"], tenant="b", scopes=["metrics"]),
    )
)
WATCHER = {"x-api-key": "watcher"}


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and values of labels, which are in the order of their names; raises where the text is no exposition or has a family twice."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


async def test_refused_calls_of_either_door_are_counted(service):
    """Keys that are not known or lack the scope, by route; a method that there is not has no label of its own."""
    async with service(SETTINGS) as running, running.http() as http, running.stub() as stub:
        for key in ("nobody", "watcher"):
            assert (await http.post("/v1/score", headers={"x-api-key": key})).status_code in {401, 403}
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Score(pb.ScoreRequest(), metadata=[("x-api-key", key)])
        async with grpc.aio.insecure_channel(running.grpc_addr) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary("/secret.Service/Method")(b"")
        seen = samples((await http.get("/metrics", headers=WATCHER)).text)
    counted = {labels: value for (name, labels), value in seen.items() if name == "rewardhub_door_requests_total"}
    assert counted == {
        ("401", "rest", "/v1/score"): 1.0,
        ("403", "rest", "/v1/score"): 1.0,
        ("UNAUTHENTICATED", "grpc", "Score"): 1.0,
        ("PERMISSION_DENIED", "grpc", "Score"): 1.0,
        ("UNAUTHENTICATED", "grpc", "other"): 1.0,
    }


async def test_a_stream_of_either_door_is_open_until_it_ends(service):
    """And what the media store lost only grows: it is a counter."""
    async with service() as running, running.http() as http:
        body = {"recipe": "hold", "groups": [{"id": "g", "responses": ["r"]}]}
        reading = asyncio.create_task(http.post("/v1/score/stream", json=body))
        while not running.hub.running:
            await asyncio.sleep(0.01)
        seen = samples((await http.get("/metrics")).text)
        assert seen["rewardhub_door_streams", ()] == 1.0
        assert seen["rewardhub_media_evictions_total", ()] == 0.0
        running.hub.release.set()
        await reading
        assert samples((await http.get("/metrics")).text)["rewardhub_door_streams", ()] == 0.0


async def test_programs_of_the_doors_keep_to_the_slots_of_the_sandbox(service):
    """With one slot two programs of ``/run_code`` run one after the other; the lane's figures count both."""
    hub = make_hub(HubConfig(workers=1, sandbox_slots=1), Registry())
    hub.release = asyncio.Event()  # what the fixture does to a fake hub
    running_at_once = []
    program = {"code": "import time; time.sleep(0.4)", "language": "python", "run_timeout": 5}
    async with service(hub=hub) as running, running.http() as http:
        calls = [asyncio.create_task(http.post("/run_code", json=program)) for _ in range(2)]
        while not all(call.done() for call in calls):
            seen = samples((await http.get("/metrics")).text)
            running_at_once.append(seen["rewardhub_queued_responses", ("sandbox",)])
            await asyncio.sleep(0.02)
        seen = samples((await http.get("/metrics")).text)
    await hub.aclose()
    assert [call.result().json()["status"] for call in calls] == ["Success", "Success"]
    assert max(running_at_once) == 2.0
    assert seen["rewardhub_run_seconds_count", ("sandbox",)] == 2.0
    assert seen["rewardhub_queue_wait_seconds_count", ("sandbox",)] == 2.0
    assert seen["rewardhub_queue_wait_seconds_sum", ("sandbox",)] > 0.3
