"""Proxies end what idles: neither a stream nor its caller is silent for long, and a call that one ended goes by a stream."""

import asyncio
import json

import pytest

from rewardhub.client import AsyncClient, rpc
from rewardhub.server import session
from rewardhub.types import Call, Group, Response
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.wire import proto
from tests.chaos.fault_proxy import FaultProxy

GROUP = Group("g", responses=(Response("a"),))
BODY = {"recipe": "slow", "groups": [{"id": "g", "responses": ["a"]}]}


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """A twentieth of a second counts as long; ``slow`` takes 0.3 s."""
    monkeypatch.setattr(session, "QUIET_S", 0.05)
    monkeypatch.setattr(rpc, "BEAT_S", 0.05)


async def test_a_rest_stream_is_never_silent(service):
    """What is sent meanwhile is white space before the line, which any JSON parser takes."""
    async with (
        service() as running,
        running.http() as http,
        http.stream("POST", "/v1/score/stream", json=BODY) as reply,
    ):
        pieces = [piece async for piece in reply.aiter_bytes()]
    text = b"".join(pieces)
    assert pieces[0] == b" "
    assert text.count(b" ") >= 3
    assert [json.loads(line)["id"] for line in text.decode().splitlines()] == ["g"]


async def test_a_grpc_stream_is_never_silent(service):
    """What is sent meanwhile is a reply without groups."""
    options = pb.ScoreStreamRequest(options=proto.call_to_proto(Call("slow")))
    async with service() as running, running.stub() as stub:
        events = [options, pb.ScoreStreamRequest(group=proto.group_to_proto(GROUP))]
        replies = [reply async for reply in stub.ScoreStream(iter(events))]
    assert len(replies) >= 4
    assert [len(reply.groups) for reply in replies] == [0] * (len(replies) - 1) + [1]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_a_call_that_a_proxy_ends_goes_by_a_stream(service, scheme):
    """Longer than the proxy lets a call be silent: asked again in the same way it would never be answered."""
    async with service() as running:
        address = running.url if scheme == "http" else running.grpc_addr
        async with FaultProxy(int(address.rpartition(":")[2])) as proxy:
            proxy.faults.idle_s = 0.15
            async with AsyncClient(f"{scheme}://127.0.0.1:{proxy.port}", retries=1) as client:
                (scores,) = await client.score([GROUP], Call("slow"))
                assert client.stats.retries == 1
    assert scores.values != [None]


async def test_an_open_group_survives_a_long_generation(service):
    """Half a second without a response, where a proxy ends after 0.2 s what its caller says nothing on."""
    async with service() as running, FaultProxy(int(running.grpc_addr.rpartition(":")[2])) as proxy:
        proxy.faults.mute_s = 0.2
        async with AsyncClient(f"grpc://127.0.0.1:{proxy.port}") as client:
            async with await client.open(Group("g"), Call("digest")) as opened:
                await opened.add("a")
                await asyncio.sleep(0.5)
                await opened.add("b")
                scores = await opened.result()
    assert len(scores) == 2
    assert None not in scores.values
