"""A cheap verifier behind the hub and behind Ray Serve's ``@serve.batch``, on the same cores.

Both call the same function for one response a request, over HTTP, asked by the same clients in turns: 64, which
each wait for their answer, and one by itself. Values are compared first. What the hub does over gRPC, and with
64 responses in one call, stands beside. Nothing is pinned: Ray has a dozen processes. Two ways lead to a replica of
Ray's, the default by its proxy actor and, switched on, by HAProxy. All run in a network of their own, for Ray and
HAProxy open ports to other machines.

    .venv/bin/python -P tests/bench/ray_serve.py [SECONDS]

REWARDHUB_RAY_PYTHON names the interpreter of an environment that holds Ray (``make bench-ray``).
"""

import asyncio
import fcntl
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc

sys.path.append(str(Path(__file__).parent))
from hub_process import hardware, hub, report
from singles import CLIENTS, Connection, Service, descendants, rate, spent

import rewardhub
from rewardhub.types import Call, Group, Response
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.wire.proto import call_to_proto, group_to_proto

FIGURES = ("requests", "p50", "lone_p50")
HERE = Path(__file__).parent
TURNS = 3
REFERENCE = {"answer": "7"}
RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
}  # fmt: skip
"""Without a cluster Ray's address is that of the loopback; the last is Ray's own choice of settings for throughput."""

HAPROXY = {
    "ENABLE_HA_PROXY": "1", "HAPROXY_CONFIG_FILE_LOC": "{}/haproxy.cfg", "HAPROXY_SOCKET_PATH": "{}/admin.sock",
    "HAPROXY_SERVER_STATE_BASE": "{}", "HAPROXY_SERVER_STATE_FILE": "{}/state",
    "HAPROXY_METRICS_SOCKET_PATH": "{}/metrics.sock",
}  # fmt: skip
WAYS: dict[str, dict[str, str]] = {"ray_serve": {}, "ray_serve.haproxy": HAPROXY}


def sample(client: int, turn: int) -> tuple[str, str]:
    """A prompt and a response, every other one right."""
    return f"What is {client} plus {turn}?", f"I have thought about it and say {turn}: it is {7 + (client + turn) % 2}"


def ours(prompt: str, response: str) -> bytes:
    group = {"prompt": prompt, "responses": [response], "reference": REFERENCE}
    return json.dumps({"recipe": "bench_ends", "details": False, "groups": [group]}).encode()


def theirs(_: str, response: str) -> bytes:
    return json.dumps({"response": response, "reference": REFERENCE}).encode()


async def values(url: str, path: str, encode: Callable[[str, str], bytes]) -> list[float]:
    """The values of five samples of each of 64 clients at once, so that batches are full."""

    async def client(k: int) -> list[float]:
        connection = await Connection(url, path).open()
        replies = [await connection.post(encode(*sample(k, n))) for n in range(5)]
        connection.close()
        return [reply["score"] if "score" in reply else reply["groups"][0]["scores"][0]["value"] for reply in replies]

    return [value for found in await asyncio.gather(*map(client, range(CLIENTS))) for value in found]


def end(process: subprocess.Popen) -> None:
    """Kills Ray's processes, each by a handle that means no other one."""
    handles = []
    for pid in (process.pid, *descendants(process.pid)):
        with suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    for handle in handles:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)
    process.wait()
    process.stdin.close()
    process.stdout.close()


@contextmanager
def ray_serve(python: str, way: dict[str, str]) -> Iterator[str]:
    """Ray Serve's URL; in the end its processes and its files are gone."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        given = {f"RAY_SERVE_{name}": value.format(folder) for name, value in way.items()}
        process = subprocess.Popen(
            [python, "-P", HERE / "peer_ray.py", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, cwd=folder,
            env=os.environ | RAY_SETTINGS | given | {"PYTHONPATH": str(Path(rewardhub.__file__).parents[1])},
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


def against(name: str, python: str, url: str, seconds: float) -> None:
    """Prints the figures of one way to Ray's replica."""
    with ray_serve(python, WAYS[name]) as theirs_url:
        services: dict[str, Service] = {"hub": (url, "/v1/score", ours), "ray": (theirs_url, "/", theirs)}
        found, wanted = (asyncio.run(values(*service)) for service in services.values())
        assert found == wanted, (found, wanted)
        assert wanted[:5] == [1.0, 0.0, 1.0, 0.0, 1.0], wanted
        measured = in_turns(services, seconds)
    many = list(zip(measured["hub", CLIENTS], measured["ray", CLIENTS], strict=True))
    lone = list(zip(measured["hub", 1], measured["ray", 1], strict=True))
    ratios = [a / b for (a, _), (b, _) in many], [b / a for (_, a), (_, b) in many], [b / a for (_, a), (_, b) in lone]
    for figure, found, clients in zip(FIGURES, ratios, ("64 clients", "64 clients", "one client"), strict=True):
        report(f"{name}.{figure}", statistics.median(found), f"Ray Serve @serve.batch, {clients}")


def by_themselves() -> None:
    """Goes on in a network that has nothing but a loopback."""
    if sys.argv[1:2] != ["--inside"]:
        command = ["unshare", "--map-root-user", "--net", sys.executable, "-P", __file__, "--inside", *sys.argv[1:]]
        os.execvp(command[0], command)
    with socket.socket() as any_socket:
        up = struct.pack("16sh14x", b"lo", 1)
        fcntl.ioctl(any_socket, 0x8914, up)  # SIOCSIFFLAGS, IFF_UP


def main() -> None:
    python = os.environ.get("REWARDHUB_RAY_PYTHON", "")
    if not python:
        for name in (f"{way}.{figure}" for way in WAYS for figure in FIGURES):
            print(f"{name} skipped Ray Serve (REWARDHUB_RAY_PYTHON is not set)")
        return
    by_themselves()
    # The hub refuses variables of its own that it does not know.
    del os.environ["REWARDHUB_RAY_PYTHON"]
    seconds = float(sys.argv[2]) if sys.argv[2:] else 6.0
    print(f"{hardware()}; {seconds:g} s each in {TURNS} turns")
    with hub("--plugin", str(HERE / "bench_verifiers.py")) as addresses:
        for name in WAYS:
            against(name, python, addresses["http"], seconds)
        per_second, p50 = asyncio.run(over_grpc(addresses["grpc"], seconds / TURNS))
        print(f"hub over gRPC, {CLIENTS} calls at once {per_second:.0f} requests/s, p50 {p50:.2f} ms")
        _, per_second, p50 = asyncio.run(rate(addresses["http"], "/v1/score", whole, sample, seconds / TURNS, 1))
        print(f"hub, 64 responses a call, one client {64 * per_second:.0f} responses/s, p50 {p50:.2f} ms")


if __name__ == "__main__":
    main()
