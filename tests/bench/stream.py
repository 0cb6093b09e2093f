"""Scored responses per second through the gRPC stream, beside a plain echo of the same messages.

Groups of 64, two terms and an expression, validation, deadlines and metrics on; the hub on one core, the
client on another. The echo server decodes each group and answers a reply of the same size.

    .venv/bin/python -P tests/bench/stream.py [GROUPS]
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import grpc

sys.path.append(str(Path(__file__).parent))
from hub_process import cores, hardware, hub, report

from rewardhub.client import AsyncClient
from rewardhub.types import Call, Column, Group, GroupScores, Response, Status
from rewardhub.v1 import reward_service_pb2 as service
from rewardhub.v1 import reward_service_pb2_grpc as stubs
from rewardhub.wire import proto

SIZE = 64
RECIPE = """
name: bench
terms: {a: {scorer: bench_short}, b: {scorer: bench_ends}}
value: "0.9 * a + 0.1 * b"
"""


def groups_of(count: int) -> list[Group]:
    return [
        Group(
            f"g{n}",
            f"What is {n} plus 7?",
            tuple(Response(f"I think that the answer is {n + k}") for k in range(SIZE)),
            {"answer": str(n + 7)},
        )
        for n in range(count)
    ]


class Echo(stubs.RewardServiceServicer):
    """Answers every group with the same columns."""

    async def ScoreStream(self, requests, context):
        column = Column([1.0] * SIZE, [Status.OK] * SIZE, "f" * 64)
        scores = GroupScores("g", column, {"a": column, "b": column}, list(range(SIZE)))
        async for request in requests:
            if request.WhichOneof("event") == "group":
                table = proto.Fingerprints()
                scores.id = request.group.id
                answer = proto.scores_to_proto(scores, table, details=False)
                yield service.ScoreStreamResponse(groups=[answer], fingerprints=table.table())


async def serve_echo() -> None:
    import uvloop

    server = grpc.aio.server()
    stubs.add_RewardServiceServicer_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"grpc=127.0.0.1:{port}", flush=True)
    assert uvloop
    await server.wait_for_termination()


async def measure_raw(address: str, groups: list[Group]) -> float:
    """Responses per second through the bare generated stub."""
    options = service.ScoreStreamRequest(options=proto.call_to_proto(Call(recipe_text=RECIPE, details=False)))
    messages = [options, *(service.ScoreStreamRequest(group=proto.group_to_proto(group)) for group in groups)]
    async with grpc.aio.insecure_channel(address) as channel:
        call = stubs.RewardServiceStub(channel).ScoreStream()
        done = 0
        started = time.perf_counter()

        async def send() -> None:
            for message in messages:
                await call.write(message)
            await call.done_writing()

        sending = asyncio.create_task(send())
        async for reply in call:
            assert not reply.HasField("error"), reply.error
            done += sum(len(scores.total.values) for scores in reply.groups)
        await sending
    assert done == SIZE * len(groups), done
    return done / (time.perf_counter() - started)


async def measure_client(address: str, groups: list[Group]) -> float:
    """Responses per second through the client library, values checked."""
    call = Call(recipe_text=RECIPE, details=False)
    async with AsyncClient(f"grpc://{address}") as client:
        started = time.perf_counter()
        found = {scores.id: scores async for scores in client.stream(groups, call)}
        seconds = time.perf_counter() - started
    for group in groups:
        expected = [
            0.9 * (len(r.text) <= 40) + 0.1 * r.text.endswith(group.reference["answer"]) for r in group.responses
        ]
        assert found[group.id].values == expected
    return SIZE * len(groups) / seconds


def main(count: int) -> None:
    print(f"{hardware()}; {count} groups of {SIZE}, best of 4")
    server_core, client_core = cores()
    os.sched_setaffinity(0, {client_core})
    groups = groups_of(count)
    plugin = str(Path(__file__).parent / "bench_verifiers.py")
    echo = subprocess.Popen(
        [sys.executable, "-P", __file__, "--echo"], stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {server_core}),
    )  # fmt: skip
    rates: dict[str, list[float]] = {"echo": [], "hub": [], "client": []}
    try:
        echo_address = echo.stdout.readline().split("=")[1].strip()
        with hub("--plugin", plugin, core=server_core) as addresses:
            for _ in range(4):
                rates["echo"].append(asyncio.run(measure_raw(echo_address, groups)))
                rates["hub"].append(asyncio.run(measure_raw(addresses["grpc"], groups)))
                rates["client"].append(asyncio.run(measure_client(addresses["grpc"], groups)))
    finally:
        echo.kill()
        echo.wait()
        echo.stdout.close()
    best = {name: max(values) for name, values in rates.items()}
    for name, rate in best.items():
        print(f"{name:<8}{rate:>12,.0f} responses/s")
    report("stream.hub_per_second", best["hub"], "responses/s, bare stub")
    report("stream.client_per_second", best["client"], "responses/s, client library")
    report("stream.hub_groups_of_64", best["hub"] / best["echo"], "echo")
    report("stream.client_groups_of_64", best["client"] / best["echo"], "echo")


if __name__ == "__main__":
    if sys.argv[1:] == ["--echo"]:
        asyncio.run(serve_echo())
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 1500)
