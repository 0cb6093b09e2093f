"""A group of eight responses with one 264 kB image: one group by hash, against a REST call per sample.

The peer is what trainers do: a FastAPI service, one request per response, the image as base64 in each. Both
score the length of the response; the image is checked for its hash on both sides.

    .venv/bin/python -P tests/bench/wire.py
"""

import asyncio
import base64
import hashlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

sys.path.append(str(Path(__file__).parent))
from hub_process import cores, hardware, hub, report

from rewardhub.client import AsyncClient
from rewardhub.types import Call, Group, Media, Response

TEXTS = [f"response number {k} " * 20 for k in range(8)]
ROUNDS = 60


def image() -> bytes:
    """A PNG of about 264 kB that does not compress."""
    import random

    from PIL import Image

    pixels = random.Random(0).randbytes(297 * 297 * 3)
    data = io.BytesIO()
    Image.frombytes("RGB", (297, 297), pixels).save(data, "PNG")
    return data.getvalue()


def peer() -> None:
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Sample(BaseModel):
        prompt: str
        response: str
        image: str

    app = FastAPI()

    @app.post("/score")
    async def score(sample: Sample) -> dict[str, object]:
        data = base64.b64decode(sample.image)
        return {"score": float(len(sample.response) <= 40), "sha256": hashlib.sha256(data).hexdigest()}

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    original = server.startup

    async def startup(sockets=None):
        await original(sockets)
        print(f"http=http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", flush=True)

    server.startup = startup
    server.run()


async def per_sample(url: str, data: bytes) -> list[float]:
    """Seconds per group, eight requests at once, base64 each."""
    digest = hashlib.sha256(data).hexdigest()
    seconds = []
    async with httpx.AsyncClient(timeout=60) as client:

        async def one(text: str) -> float:
            body = {"prompt": "what?", "response": text, "image": base64.b64encode(data).decode()}
            reply = (await client.post(f"{url}/score", json=body)).json()
            assert reply["sha256"] == digest
            return reply["score"]

        for _ in range(ROUNDS):
            started = time.perf_counter()
            values = await asyncio.gather(*map(one, TEXTS))
            seconds.append(time.perf_counter() - started)
            assert values == [0.0] * 8
    return seconds


async def by_hash(address: str, data: bytes) -> list[float]:
    """Seconds per group: the image was sent with the first one."""
    media = Media.from_bytes(data)
    seconds = []
    async with AsyncClient(address) as client:
        for n in range(ROUNDS):
            group = Group(str(n), "what?", tuple(map(Response, TEXTS)), media=(media,))
            started = time.perf_counter()
            (scores,) = await client.score([group], Call(recipe="bench_short", details=False))
            seconds.append(time.perf_counter() - started)
            assert scores.values == [0.0] * 8
    return seconds


def median(seconds: list[float]) -> float:
    ordered = sorted(seconds[5:])
    return ordered[len(ordered) // 2]


def main() -> None:
    print(f"{hardware()}; groups of 8 with one image, median of {ROUNDS - 5}")
    server_core, client_core = cores()
    os.sched_setaffinity(0, {client_core})
    data = image()
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, "--peer"], stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {server_core}),
    )  # fmt: skip
    try:
        url = process.stdout.readline().split("=", 1)[1].strip()
        slow = median(asyncio.run(per_sample(url, data)))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with hub("--plugin", str(Path(__file__).parent / "bench_verifiers.py"), core=server_core) as addresses:
        grpc = median(asyncio.run(by_hash(f"grpc://{addresses['grpc']}", data)))
        rest = median(asyncio.run(by_hash(addresses["http"], data)))
    print(
        f"image {len(data)} bytes; per sample {1000 * slow:.2f} ms, hub gRPC {1000 * grpc:.2f} ms, REST {1000 * rest:.2f} ms"
    )
    report("wire.group_grpc", slow / grpc, "REST per sample with base64")
    report("wire.group_rest", slow / rest, "REST per sample with base64")


if __name__ == "__main__":
    peer() if sys.argv[1:] == ["--peer"] else main()
