"""A batch of 1,024 known scores: the hub against a service that asks Redis item by item.

Both answer over HTTP on one core, from the same Redis server, 1 kB responses hashed on the way. The hub's
memory tier is switched off, so that every hit comes from Redis; its own figure with memory is beside. Over gRPC the
batch comes in another order each time.

    .venv/bin/python -P tests/bench/cache.py
"""

import asyncio
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx

sys.path.append(str(Path(__file__).parent))
from hub_process import SETTLE_S, cores, hardware, report

COUNT = 1024
TEXTS = [f"{n} " + "word " * 200 for n in range(COUNT)]


def value_of(text: str) -> float:
    return len(text) / 10_000


def ours(redis_url: str, memory_mb: int) -> None:
    """A hub with one dear scorer, over REST."""
    import uvloop

    from rewardhub.assembly import make_hub
    from rewardhub.config import HubConfig
    from rewardhub.registry import Registry
    from rewardhub.scorer import ScorerInfo
    from rewardhub.server.serving import serve
    from rewardhub.types import Column, Status

    class Dear:
        info = ScorerInfo(name="dear", family="reward_model", lane="model", cost="dear")
        params: dict[str, object] = {}
        fingerprint = "dear-1"

        def bind(self, params):
            return self

        async def score_remote(self, group, indices, context):
            values = [value_of(group.responses[index].text) for index in indices]
            return Column(values, [Status.OK] * len(values), self.fingerprint)

    registry = Registry()
    registry.add(Dear())
    config = HubConfig(workers=1, redis=redis_url, cache_mb=memory_mb)
    uvloop.run(serve(make_hub(config, registry), "127.0.0.1:0", "127.0.0.1:0"))


def peer(redis_url: str) -> None:
    """A FastAPI service that GETs each item."""
    import redis.asyncio
    import uvicorn
    from fastapi import FastAPI, Request

    app = FastAPI()
    client = redis.asyncio.Redis.from_url(redis_url)

    @app.post("/score")
    async def score(request: Request) -> list[float]:
        values = []
        for text in (await request.json())["responses"]:
            key = "peer:" + hashlib.sha256(text.encode()).hexdigest()
            found = await client.get(key)
            if found is None:
                found = str(value_of(text))
                await client.set(key, found)
            values.append(float(found))
        return values

    config = uvicorn.Config(app, port=0, log_level="error")
    server = uvicorn.Server(config)
    original = server.startup

    async def startup(sockets=None):
        await original(sockets)
        print(f"http=http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", flush=True)

    server.startup = startup
    server.run()


def measure(url: str, path: str, body: bytes, read) -> tuple[float, float]:
    """Best and median seconds of one batch, answers checked."""
    expected = [value_of(text) for text in TEXTS]
    seconds = []
    with httpx.Client(timeout=60) as client:
        for _ in range(42):
            started = time.perf_counter()
            reply = client.post(url + path, content=body, headers={"content-type": "application/json"})
            seconds.append(time.perf_counter() - started)
            assert read(reply.json()) == expected
    ordered = sorted(seconds[2:])
    return ordered[0], ordered[len(ordered) // 2]


def measure_grpc(address: str) -> tuple[float, float]:
    """The same through the client library over gRPC, in another order each time."""
    from rewardhub.client import Client
    from rewardhub.types import Call, Group, Response

    texts = list(TEXTS)
    seconds = []
    with Client(f"grpc://{address}") as client:
        for _ in range(42):
            random.shuffle(texts)
            group = Group("g", "", tuple(map(Response, texts)))
            started = time.perf_counter()
            (scores,) = client.score([group], Call(recipe="dear", details=False))
            seconds.append(time.perf_counter() - started)
            assert scores.values == [value_of(text) for text in texts]
    ordered = sorted(seconds[2:])
    return ordered[0], ordered[len(ordered) // 2]


def read_ours(data: dict) -> list[float]:
    return [score["value"] for line in data["groups"] for score in line["scores"]]


def start(core: int, *arguments: str) -> tuple[subprocess.Popen, dict[str, str]]:
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    line = process.stdout.readline()
    time.sleep(SETTLE_S)
    return process, dict(word.split("=", 1) for word in line.split() if "=" in word)


def main() -> None:
    print(f"{hardware()}; {COUNT} hits of 1 kB, median of 40")
    server_core, client_core = cores()
    os.sched_setaffinity(0, {client_core})
    binary = shutil.which("redis-server")
    port = "17391"
    redis_server = subprocess.Popen(
        [binary, "--port", port, "--save", "", "--bind", "127.0.0.1"], stdout=subprocess.DEVNULL
    )  # fmt: skip
    time.sleep(0.5)
    url = f"redis://127.0.0.1:{port}/0"
    groups = [{"id": str(n), "responses": [text]} for n, text in enumerate(TEXTS)]
    many = json.dumps({"recipe": "dear", "groups": groups, "details": False}).encode()
    single = json.dumps({"recipe": "dear", "groups": [{"responses": TEXTS}], "details": False}).encode()
    plain = json.dumps({"responses": TEXTS}).encode()
    results = {}
    try:
        for name, arguments, path, body, read in (
            ("peer", ["--peer", url], "/score", plain, lambda data: data),
            ("redis_groups", ["--ours", url, "0"], "/v1/score", many, read_ours),
            ("redis_one_group", ["--ours", url, "0"], "/v1/score", single, read_ours),
            ("memory_one_group", ["--ours", url, "256"], "/v1/score", single, read_ours),
        ):
            process, address = start(server_core, *arguments)
            try:
                results[name] = measure(address["http"], path, body, read)[1]
                if name != "peer" and name != "redis_groups":
                    results[f"{name}_grpc"] = measure_grpc(address["grpc"])[1]
                    print(f"{name + '_grpc':<22}{1000 * results[name + '_grpc']:>9.1f} ms")
            finally:
                process.kill()
                process.wait()
                process.stdout.close()
            print(f"{name:<22}{1000 * results[name]:>9.1f} ms")
    finally:
        redis_server.kill()
        redis_server.wait()
    for name in sorted(set(results) - {"peer"}):
        report(f"cache.hits_{name}", results["peer"] / results[name], "per-item GET service")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        ours(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2])
    else:
        asyncio.run(asyncio.sleep(0))
        main()
