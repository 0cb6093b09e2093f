"""The service as a process: ready line, signals, drain, exit codes, TLS."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rewardhub.errors import ConfigError
from rewardhub.server.serving import serve
from rewardhub.types import Call, Group, Response, Status
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import reward_service_pb2_grpc
from rewardhub.wire import proto

CHILD = """
import importlib.util, sys, uvloop
spec = importlib.util.spec_from_file_location("fakes", sys.argv[1])
fakes = importlib.util.module_from_spec(spec)
sys.modules["fakes"] = fakes
spec.loader.exec_module(fakes)
from rewardhub.server.serving import serve
async def main():
    await serve(fakes.FakeHub(), "127.0.0.1:0", "127.0.0.1:0", grace_s=float(sys.argv[2]))
uvloop.run(main())
"""


@pytest.fixture
def process():
    """Starts the service as a child; gives it with its addresses."""
    children = []

    def start(grace_s=10.0):
        fakes = str(Path(__file__).with_name("conftest.py"))
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, fakes, str(grace_s)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        line = child.stdout.readline()
        assert line.startswith("rewardhub ready http="), line + child.stderr.read()
        fields = dict(part.split("=", 1) for part in line.split()[2:])
        assert int(fields["pid"]) == child.pid
        return child, fields["http"], fields["grpc"]

    yield start
    for child in children:
        child.kill()
        child.communicate()


def hold(name="g"):
    return pb.ScoreRequest(
        options=proto.call_to_proto(Call("slow")),
        groups=[proto.group_to_proto(Group(name, responses=(Response("r"),)))],
    )


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_sigterm_under_load_drops_nothing(process, stop):
    """T20: NOT_SERVING at once, all in flight is answered, new work refused or unreachable, exit 0."""
    child, url, address = process()
    async with grpc.aio.insecure_channel(address) as channel, httpx.AsyncClient(base_url=url, timeout=10) as http:
        stub = reward_service_pb2_grpc.RewardServiceStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        body = {"recipe": "slow", "groups": [{"id": "g", "responses": ["r"]}]}
        by_grpc = [asyncio.ensure_future(stub.Score(hold(f"g{index}"))) for index in range(20)]
        by_rest = [asyncio.create_task(http.post("/v1/score", json=body)) for _ in range(20)]
        talk = stub.ScoreStream()
        await talk.write(pb.ScoreStreamRequest(options=proto.call_to_proto(Call("slow"))))
        await talk.write(pb.ScoreStreamRequest(group=hold().groups[0]))
        await asyncio.sleep(0.15)
        os.kill(child.pid, stop)
        assert (await asyncio.wait_for(watch.read(), 1)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        late = await http.post("/v1/score", json=body)
        assert (late.status_code, late.headers["retry-after"]) == (503, "2")
        assert (await http.get("/readyz")).status_code == 503
        for reply in await asyncio.gather(*by_grpc):
            assert reply.groups[0].total.present == [] and reply.groups[0].total.values[0] > 0
        for reply in await asyncio.gather(*by_rest):
            assert reply.json()["groups"][0]["scores"][0]["status"] == "ok"
        answer = await asyncio.wait_for(talk.read(), 5)
        assert answer.groups[0].id == "g" and answer.groups[0].total.values[0] > 0
        assert await asyncio.wait_for(talk.code(), 5) == grpc.StatusCode.UNAVAILABLE
    assert await asyncio.to_thread(child.wait, 10) == 0


async def test_a_second_signal_ends_the_wait(process):
    """Work that never ends is given up at the second signal, which its caller is told; the exit code is still 0."""
    child, url, _ = process(60)
    async with httpx.AsyncClient(base_url=url, timeout=10) as http:
        body = {"recipe": "hold", "groups": [{"id": "g", "responses": ["r"]}]}
        held = asyncio.create_task(http.post("/v1/score", json=body))
        await asyncio.sleep(0.2)
        os.kill(child.pid, signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert child.poll() is None
        os.kill(child.pid, signal.SIGTERM)
        assert await asyncio.to_thread(child.wait, 10) == 0
        given_up = await held
        assert (given_up.status_code, given_up.json()["error"]["code"]) == (503, "unavailable")


async def test_open_groups_are_answered_beside_work_that_does_not_end(process):
    """R8: a stream's open group ends with the drain, and not after whatever else has to end."""
    child, url, address = process(2.0)
    group = proto.group_to_proto(Group("open", responses=(Response("r"),)))
    async with grpc.aio.insecure_channel(address) as channel, httpx.AsyncClient(base_url=url, timeout=10) as http:
        held = asyncio.create_task(http.post("/v1/score", json={"recipe": "hold", "groups": [{"responses": ["r"]}]}))
        talk = reward_service_pb2_grpc.RewardServiceStub(channel).ScoreStream()
        await talk.write(pb.ScoreStreamRequest(options=proto.call_to_proto(Call("echo"))))
        await talk.write(pb.ScoreStreamRequest(open=pb.Open(group=group)))
        assert not (await asyncio.wait_for(talk.read(), 5)).groups[0].complete
        os.kill(child.pid, signal.SIGTERM)
        assert (await asyncio.wait_for(talk.read(), 1)).groups[0].complete
        assert (await held).status_code == 503
    assert await asyncio.to_thread(child.wait, 10) == 0


async def test_a_draining_stream_answers_what_it_took(service, fake_hub):
    """Drain answers every group that the stream took, then ends it with UNAVAILABLE."""
    async with service() as running, running.stub() as stub:
        talk = stub.ScoreStream()
        await talk.write(pb.ScoreStreamRequest(options=proto.call_to_proto(Call("hold"))))
        for index in range(50):
            await talk.write(pb.ScoreStreamRequest(group=hold(f"g{index}").groups[0]))
        while running.hub.running < 50:
            await asyncio.sleep(0.01)
        running.stop.now()
        running.hub.release.set()
        scores = {}
        with pytest.raises(grpc.aio.AioRpcError):
            while True:
                reply = await asyncio.wait_for(talk.read(), 5)
                for each in reply.groups:
                    scores[each.id] = proto.scores_from_proto(each, list(reply.fingerprints)).total.statuses
        assert scores == {f"g{index}": [Status.OK] for index in range(50)}
        assert await talk.code() == grpc.StatusCode.UNAVAILABLE
        await running.task
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", int(running.url.rsplit(":", 1)[1]))


async def test_a_taken_port_is_refused(fake_hub):
    """A port in use, for either door, is a ConfigError, and the hub is closed where it was started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="http: REST cannot listen on [0-9.:]+: Address already in use$"):
            await serve(fake_hub(), address, "127.0.0.1:0")
        hub = fake_hub()
        with pytest.raises(ConfigError, match="grpc: gRPC cannot listen on [0-9.:]+: Address already in use$"):
            await serve(hub, "127.0.0.1:0", address)
        assert hub.closed


async def test_another_address_without_keys_does_not_start(fake_hub):
    """The refusal comes before anything is bound."""
    for addresses in (("0.0.0.0:0", "127.0.0.1:0"), ("127.0.0.1:0", "0.0.0.0:0")):
        with pytest.raises(ConfigError, match="configure keys"):
            await serve(fake_hub(), *addresses)


async def test_a_hub_that_does_not_start_ends_the_service(fake_hub):
    """The hub's own error reaches the caller, who exits with another code than 0."""

    class Broken(fake_hub):
        async def start(self):
            raise ConfigError("the model is missing")

    hub = Broken()
    with pytest.raises(ConfigError, match="the model is missing"):
        await serve(hub, "127.0.0.1:0", "127.0.0.1:0")
    assert hub.closed
