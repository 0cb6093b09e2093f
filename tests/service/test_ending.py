"""How a hub ends, as a process over sockets with real scorers: drained, crashed, killed; and what it leaves: nothing."""

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rewardhub.types import Call, Group, Response
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import reward_service_pb2_grpc
from rewardhub.wire import proto

SLOW = "name: slow\nterms: {t: {scorer: pooled_nonce, with: {wait_ms: 100}}}\nvalue: t"
ENDLESS = "name: endless\nterms: {t: {scorer: endless}}\nvalue: t"
FATAL = """
import os, sys
from rewardhub.registry import verifier

doors = []
if "serve" in sys.orig_argv:
    import uvicorn
    real = uvicorn.Server.__init__
    uvicorn.Server.__init__ = lambda self, config: (doors.append(self), real(self, config))[1]

@verifier("endless", lane="pool", time_limit_s=60)
def endless(response, reference) -> float:
    while True:
        pass

@verifier("fatal")
def fatal(response, reference) -> float:
    if response.text == "abort":
        os.abort()
    doors[0].should_exit = True
    return 0.0
"""
BUSY = """
import os, sys, time
if "rewardhub.scheduler.model_worker" in sys.orig_argv:
    from rewardhub.wire import proto
    real = proto.group_from_proto
    def group_from_proto(message):
        while message.id == "busy":
            time.sleep(0.1)
        return real(message)
    proto.group_from_proto = group_from_proto
"""


def group_of(name, text="r"):
    return Group(name, f"prompt {name}", (Response(text), Response(f"{text}2")))


def oracle_of(name):
    from hashlib import sha256

    texts = (f"prompt {name}|{text}".encode() for text in ("r", "r2"))
    return [int.from_bytes(sha256(text).digest()[:6], "big") / 2**48 for text in texts]


def descendants(pid):
    """Every process below ``pid`` that lives."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    found = {int(child) for each in lists for child in each.read_text().split()}
    return found.union(*map(descendants, found)) if found else found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def all_gone(pids, within_s=30.0):
    until = time.monotonic() + within_s
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < until:
        time.sleep(0.02)
    return not left


def ports_free(*addresses):
    for address in addresses:
        with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
            pass
    return True


async def test_sigterm_under_load_with_real_scorers(serve):
    """T20: NOT_SERVING at once, new work refused, all in flight over both doors and a stream answered rightly, exit 0,
    no process left."""
    with serve(REWARDHUB_WORKERS="2") as hub:
        pids = descendants(hub.pid)
        async with (
            grpc.aio.insecure_channel(hub.grpc) as channel,
            httpx.AsyncClient(base_url=hub.url, timeout=30) as http,
        ):
            stub = reward_service_pb2_grpc.RewardServiceStub(channel)
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            options = proto.call_to_proto(Call(recipe_text=SLOW, deadline_ms=30_000))

            def unary(name):
                return stub.Score(pb.ScoreRequest(options=options, groups=[proto.group_to_proto(group_of(name))]))

            def body(name):
                groups = [{"id": name, "prompt": f"prompt {name}", "responses": ["r", "r2"]}]
                return {"recipe_text": SLOW, "groups": groups}

            await unary("warm")
            by_grpc = {f"g{n}": asyncio.ensure_future(unary(f"g{n}")) for n in range(20)}
            by_rest = {f"r{n}": asyncio.create_task(http.post("/v1/score", json=body(f"r{n}"))) for n in range(20)}
            talk = stub.ScoreStream()
            await talk.write(pb.ScoreStreamRequest(options=options))
            for n in range(10):
                await talk.write(pb.ScoreStreamRequest(group=proto.group_to_proto(group_of(f"s{n}"))))
            taken = ('rewardhub_queued_responses{lane="pool"} ', 'rewardhub_scorer_scores_total{scorer="pooled_nonce"')
            while True:  # until all of it is there, or answered already
                lines = (await http.get("/metrics")).text.splitlines()
                if sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(taken)) >= 102:
                    break
                await asyncio.sleep(0.02)
            os.kill(hub.pid, signal.SIGTERM)
            assert (await asyncio.wait_for(watch.read(), 20)).status == health_pb2.HealthCheckResponse.NOT_SERVING
            try:
                late = await http.post("/v1/score", json=body("late"))
                assert late.status_code == 503 and int(late.headers["retry-after"]) > 0
                assert (await http.get("/readyz")).status_code == 503
            except httpx.TransportError:  # a slow machine asks when the door is closed already
                pass
            for name, call in by_grpc.items():
                assert list((await call).groups[0].total.values) == oracle_of(name)
            for name, call in by_rest.items():
                scores = (await call).json()["groups"][0]["scores"]
                assert [score["value"] for score in scores] == oracle_of(name)
            streamed = {}
            while (reply := await talk.read()) is not grpc.aio.EOF:
                streamed |= {scores.id: list(scores.total.values) for scores in reply.groups}
                if len(streamed) == 10:
                    break
            assert streamed == {f"s{n}": oracle_of(f"s{n}") for n in range(10)}
        assert await asyncio.to_thread(hub.process.wait, 60) == 0
    assert pids and all_gone(pids)
    assert ports_free(hub.url, hub.grpc)


@pytest.fixture
def doomed(serve, tmp_path, tiny_card, monkeypatch):
    """A hub with a busy verifier, a busy model, a sandbox, and a scorer that ends it."""
    plugin = tmp_path / "fatal.py"
    plugin.write_text(FATAL)
    (tmp_path / "sitecustomize.py").write_text(BUSY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    return serve("--plugin", str(plugin), "--card", str(tiny_card), code=None)


def occupied(http, recipe_or_text, name):
    """A call that is under way, whose response is its group's name."""
    call = {"recipe_text": recipe_or_text} if "\n" in recipe_or_text else {"recipe": recipe_or_text}
    return asyncio.create_task(http.post("/v1/score", json=call | {"groups": [{"id": name, "responses": [name]}]}))


@pytest.mark.parametrize("how", ["abort", *(pytest.param(how, marks=pytest.mark.slow) for how in ("door", "kill"))])
async def test_a_crash_leaves_nothing_behind(doomed, how):
    """T21: whatever ends the hub, its exit code is not 0, no process lives on, busy ones neither, and its ports are
    free."""
    with doomed as hub:
        async with httpx.AsyncClient(base_url=hub.url, timeout=60) as http:
            program = {"id": "p", "responses": ["print(1)"], "reference": {"tests": [{"input": "", "output": "1"}]}}
            assert (await http.post("/v1/score", json={"recipe": "code", "groups": [program]})).status_code == 200
            calls = [occupied(http, ENDLESS, "endless"), occupied(http, "tiny", "busy")]
            for lane in ("pool", "tiny"):
                while f'rewardhub_queued_responses{{lane="{lane}"}} 1.0' not in (await http.get("/metrics")).text:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.2)
            pids = descendants(hub.pid)
            assert len(pids) >= 3 and not any(call.done() for call in calls)
            if how == "kill":
                os.kill(hub.pid, signal.SIGKILL)
            else:
                calls.append(occupied(http, "fatal", "x") if how == "door" else None)
                if how == "abort":
                    calls[-1] = asyncio.create_task(
                        http.post(
                            "/v1/score", json={"recipe": "fatal", "groups": [{"id": "x", "responses": ["abort"]}]}
                        )
                    )
            code = await asyncio.to_thread(hub.process.wait, 60)
            await asyncio.gather(*calls, return_exceptions=True)
    assert code != 0
    assert all_gone(pids), [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids if alive(pid)]
    assert ports_free(hub.url, hub.grpc)


@pytest.mark.slow
async def test_a_program_that_outlasts_the_grace_ends_with_the_hub(serve):
    """T20: what still runs in the sandbox when the grace is over is killed: the hub exits, and nothing is left."""
    sleeper = {"code": "import time\ntime.sleep(45)", "language": "python", "run_timeout": 45}
    with serve(REWARDHUB_GRACE_S="1") as hub:
        async with httpx.AsyncClient(base_url=hub.url, timeout=60) as http:
            first = await http.post("/run_code", json={"code": "print(1)", "language": "python"})
            assert first.json()["run_result"]["stdout"] == "1\n"
            before = descendants(hub.pid)
            running = asyncio.create_task(http.post("/run_code", json=sleeper))
            while not (pids := descendants(hub.pid)) - before:
                await asyncio.sleep(0.02)
            os.kill(hub.pid, signal.SIGTERM)
            since = time.monotonic()
            assert await asyncio.to_thread(hub.process.wait, 60) == 0
            assert time.monotonic() - since < 10
            (answer,) = await asyncio.gather(running, return_exceptions=True)
            assert isinstance(answer, httpx.TransportError) or answer.status_code == 504
    assert all_gone(pids)
