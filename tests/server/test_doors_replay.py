"""T08: a request sent twice under one idempotency key, over both doors."""

import asyncio

import grpc
import pytest

from rewardhub.errors import Unavailable
from rewardhub.server.inflight import Inflight
from rewardhub.server.replay import MAX_KEYS, TTL_S, Replays
from rewardhub.types import Call, Column, Group, GroupScores, Response, Status
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.wire import proto

BODY = {"recipe": "slow", "groups": [{"id": "g", "responses": ["r"]}]}
OTHER = {"recipe": "slow", "groups": [{"id": "g", "responses": ["another"]}]}


async def test_rest_answers_once_for_one_key(service):
    """T08: twins at once and afterwards are one call of the hub; another body is 409; no key is no promise."""
    async with service() as running, running.http(headers={"idempotency-key": "k1"}) as http:
        first, twin = await asyncio.gather(http.post("/v1/score", json=BODY), http.post("/v1/score", json=BODY))
        later = await http.post("/v1/score", json=BODY)
        assert first.content == twin.content == later.content
        assert len(running.hub.calls) == 1
        reused = await http.post("/v1/score", json=OTHER)
        assert (reused.status_code, reused.json()["error"]["code"]) == (409, "key_reused")
        assert (await http.post("/v1/score", json=OTHER, headers={"idempotency-key": "k2"})).status_code == 200
        assert (await http.post("/v1/score", json=BODY, headers={"idempotency-key": ""})).status_code == 400
        assert len(running.hub.calls) == 2


async def test_a_caller_that_went_away_finds_its_answer(service):
    """T08: the work goes on when its caller is gone, and the next sending gets what came of it."""
    async with service() as running, running.http(headers={"idempotency-key": "k"}) as http:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(http.post("/v1/score", json=BODY), 0.1)
        assert (await http.post("/v1/score", json=BODY)).json()["groups"][0]["scores"][0]["status"] == "ok"
        assert (len(running.hub.calls), running.hub.cancelled) == (1, 0)


async def test_grpc_answers_once_for_one_key(service):
    """T08: the same by metadata; another message is ALREADY_EXISTS."""

    def request(text):
        group = proto.group_to_proto(Group("g", responses=(Response(text),)))
        return pb.ScoreRequest(options=proto.call_to_proto(Call("slow")), groups=[group])

    async with service() as running, running.stub() as stub:
        key = (("idempotency-key", "k"),)
        first, twin = await asyncio.gather(*(stub.Score(request("r"), metadata=key) for _ in range(2)))
        assert first.groups[0].total.values == twin.groups[0].total.values
        assert len(running.hub.calls) == 1
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Score(request("other"), metadata=key)
        assert error.value.code() == grpc.StatusCode.ALREADY_EXISTS


def scores(status=Status.OK):
    return [GroupScores("g", Column([None], [status]), {}, [0])]


async def test_what_may_yet_succeed_is_not_kept():
    """A timeout or an exception is tried anew; tenants do not share keys; old keys are forgotten."""
    now, calls = 0.0, []
    share = Inflight(1, 2**20).of("t")
    replays = Replays(lambda: now)

    def work(status):
        async def run():
            calls.append(status)
            return scores(status)

        return run

    await replays.once("t", "k", b"x", work(Status.TIMEOUT), share)
    await replays.once("t", "k", b"x", work(Status.OK), share)
    await replays.once("t", "k", b"x", work(Status.OK), share)
    await replays.once("u", "k", b"y", work(Status.OK), share)
    assert calls == [Status.TIMEOUT, Status.OK, Status.OK]
    now = TTL_S + 1
    await replays.once("t", "k", b"z", work(Status.OK), share)
    for n in range(2 * MAX_KEYS):
        await replays.once("t", f"k{n}", b"x", work(Status.OK), share)
    assert len(replays._kept) <= MAX_KEYS
    assert replays._bytes == sum(entry.size for entry in replays._kept.values())


async def test_work_that_runs_is_joined_however_many_keys_come():
    """Answers of later calls push kept ones out, never one that is being made."""
    going, runs = asyncio.Event(), []
    share = Inflight(1, 2**20).of("t")
    replays = Replays()

    async def slow():
        runs.append("slow")
        await going.wait()
        return scores()

    async def quick():
        return scores()

    first = asyncio.create_task(replays.once("t", "slow", b"x", slow, share))
    await asyncio.sleep(0)
    for n in range(2 * MAX_KEYS):
        await replays.once("t", f"k{n}", b"x", quick, share)
    second = asyncio.create_task(replays.once("t", "slow", b"x", slow, share))
    await asyncio.sleep(0)
    going.set()
    assert await first is await second
    assert runs == ["slow"]


async def test_work_that_nobody_waits_for_counts_as_in_flight():
    """A caller who sends large bodies under new keys and goes away does not fill the memory."""
    going = asyncio.Event()
    share = Inflight(1, 25).of("t")
    replays = Replays()

    async def run():
        await going.wait()
        return scores()

    for key in ("a", "b"):
        task = asyncio.create_task(replays.once("t", key, b"x" * 10, run, share))
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(Unavailable, match="bytes in flight"):
        await replays.once("t", "c", b"x" * 10, run, share)
    going.set()
    await asyncio.sleep(0.01)
    await replays.once("t", "c", b"x" * 10, run, share)
    share.take(25)
