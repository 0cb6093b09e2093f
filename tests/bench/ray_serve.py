"""A cheap verifier behind the hub and behind Ray Serve's ``@serve.batch``, on the same cores.

Both call the same function for one response a request, over HTTP, asked by the same clients in turns: 64, which
each wait for their answer, and one by itself. Values are compared first. What the hub does over gRPC, and with
64 responses in one call, stands beside. Nothing is pinned: Ray has a dozen processes.

    .venv/bin/python -P tests/bench/ray_serve.py [SECONDS]

REWARDHUB_RAY_PYTHON names the interpreter of an environment that holds Ray (``make bench-ray``).
"""

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import httpx

sys.path.append(str(Path(__file__).parent))
from hub_process import hardware, hub, report
from singles import CLIENTS, Service, descendants, rate, spent

import rewardhub
from rewardhub.types import Call, Group, Response
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.wire.proto import call_to_proto, group_to_proto

FIGURES = ("ray_serve.requests", "ray_serve.p50", "ray_serve.lone_p50")
HERE = Path(__file__).parent
TURNS = 3
REFERENCE = {"answer": "7"}
RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
}  # fmt: skip
"""Without a cluster Ray listens on the loopback, but for the port between its deployments, which the shim puts there."""

SHIM = """
from grpc.aio._server import Server
plain = Server.add_insecure_port
Server.add_insecure_port = lambda self, address: plain(self, address.replace("[::]", "127.0.0.1"))
"""


def sample(client: int, turn: int) -> tuple[str, str]:
    """A prompt and a response, every other one right."""
    return f"What is {client} plus {turn}?", f"I have thought about it and say {turn}: it is {7 + turn % 2}"


def ours(prompt: str, response: str) -> bytes:
    group = {"prompt": prompt, "responses": [response], "reference": REFERENCE}
    return json.dumps({"recipe": "bench_ends", "details": False, "groups": [group]}).encode()


def theirs(_: str, response: str) -> bytes:
    return json.dumps({"response": response, "reference": REFERENCE}).encode()


def values(service: Service, count: int = 20) -> list[float]:
    """The values of a few samples, one by one."""
    url, path, encode = service
    with httpx.Client(timeout=60) as client:
        replies = [client.post(url + path, content=encode(*sample(0, n))).json() for n in range(count)]
    return [reply["score"] if "score" in reply else reply["groups"][0]["scores"][0]["value"] for reply in replies]


def end(process: subprocess.Popen) -> None:
    """Has Ray shut down, then kills what is left of its processes, each by a handle that means no other one."""
    handles = []
    for pid in (process.pid, *descendants(process.pid)):
        with suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=60)
    for handle in handles:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
    process.wait()


@contextmanager
def ray_serve(python: str) -> Iterator[str]:
    """Ray Serve's URL; in the end its processes and its files are gone."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        (Path(folder) / "sitecustomize.py").write_text(SHIM)
        paths = f"{folder}:{Path(rewardhub.__file__).parents[1]}"
        process = subprocess.Popen(
            [python, "-P", HERE / "peer_ray.py", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, cwd=folder, env=os.environ | RAY_SETTINGS | {"PYTHONPATH": paths},
        )  # fmt: skip
        try:
            line = process.stdout.readline()
            if not line.startswith("http="):
                raise SystemExit("Ray Serve did not start")
            url, version = (word.split("=", 1)[1] for word in line.split())
            print(f"Ray {version}, {len(descendants(process.pid)) + 1} processes")
            yield url
        finally:
            end(process)


def in_turns(services: dict[str, Service], seconds: float) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """Requests per second and p50 in milliseconds of each service for so many clients, turn by turn."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for turn in range(TURNS + 1):
        for clients in (CLIENTS, 1):
            for kind, service in services.items():
                before = spent()
                count, per_second, p50 = asyncio.run(rate(*service, sample, seconds / TURNS, clients))
                each_ms = 1000 * (spent() - before) / count
                print(
                    f"{kind:<6}{clients:3} clients {per_second:8.0f} requests/s, p50 {p50:6.2f} ms,"
                    f" {each_ms:5.2f} ms of processor time each"
                )
                if turn:  # The first warms up.
                    found.setdefault((kind, clients), []).append((per_second, p50))
    return found


async def over_grpc(address: str, seconds: float) -> tuple[float, float]:
    """Calls per second over one channel, and p50 in milliseconds."""
    options, latencies = call_to_proto(Call(recipe="bench_ends", details=False)), []
    started = time.perf_counter()
    async with grpc.aio.insecure_channel(address) as channel:
        ask = channel.unary_unary("/rewardhub.v1.RewardService/Score", None, pb.ScoreResponse.FromString)

        async def client(k: int) -> None:
            n = 0
            while time.perf_counter() < started + seconds:
                prompt, text = sample(k, n)
                group, sent = Group("g", prompt, (Response(text),), REFERENCE), time.perf_counter()
                request = pb.ScoreRequest(options=options, groups=[group_to_proto(group)])
                await ask(request.SerializeToString())
                latencies.append(time.perf_counter() - sent)
                n += 1

        await asyncio.gather(*map(client, range(CLIENTS)))
    return len(latencies) / (time.perf_counter() - started), 1000 * statistics.median(latencies)


def whole(prompt: str, response: str) -> bytes:
    """64 responses in one call."""
    group = {"prompt": prompt, "responses": [f"{k} {response}" for k in range(64)], "reference": REFERENCE}
    return json.dumps({"recipe": "bench_ends", "details": False, "groups": [group]}).encode()


def main(seconds: float) -> None:
    # The hub refuses variables of its own that it does not know.
    python = os.environ.pop("REWARDHUB_RAY_PYTHON", "")
    if not python:
        for figure in FIGURES:
            print(f"{figure} skipped Ray Serve (REWARDHUB_RAY_PYTHON is not set)")
        return
    print(f"{hardware()}; {seconds:g} s each in {TURNS} turns")
    with hub("--plugin", str(HERE / "bench_verifiers.py")) as addresses, ray_serve(python) as url:
        services: dict[str, Service] = {"hub": (addresses["http"], "/v1/score", ours), "ray": (url, "/", theirs)}
        found, wanted = map(values, services.values())
        assert found == wanted, (found, wanted)
        assert set(wanted) == {0.0, 1.0}, wanted
        measured = in_turns(services, seconds)
        per_second, p50 = asyncio.run(over_grpc(addresses["grpc"], seconds / TURNS))
        print(f"hub over gRPC, {CLIENTS} calls at once {per_second:.0f} requests/s, p50 {p50:.2f} ms")
        _, per_second, p50 = asyncio.run(rate(addresses["http"], "/v1/score", whole, sample, seconds / TURNS, 1))
        print(f"hub, 64 responses a call, one client {64 * per_second:.0f} responses/s, p50 {p50:.2f} ms")
    many = list(zip(measured["hub", CLIENTS], measured["ray", CLIENTS], strict=True))
    lone = list(zip(measured["hub", 1], measured["ray", 1], strict=True))
    report(FIGURES[0], statistics.median(a / b for (a, _), (b, _) in many), "Ray Serve @serve.batch, 64 clients")
    report(FIGURES[1], statistics.median(b / a for (_, a), (_, b) in many), "Ray Serve @serve.batch, 64 clients")
    report(FIGURES[2], statistics.median(b / a for (_, a), (_, b) in lone), "Ray Serve @serve.batch, one client")


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else 6.0)
