"""Single responses of mixed length from 64 clients: the hub beside what people put in front of a reward model.

The peers are a FastAPI service that scores each request by itself, and one that gathers requests by count
and timeout (32 or 10 ms, the rule of Ray Serve's ``@serve.batch``) and scores them as one right-padded
batch of the stock model. All three serve the same checkpoint, a tiny model with random weights, over HTTP
to the same client, in turns; scores are compared first. Beside each rate stands the processor time of the service
per request, which others on the machine change less. Two kinds of traffic: unrelated prompts of a few tokens, of
which nothing can be shared, and what a trainer sends that scores sample by sample, members of groups of
8 with a prompt of 300 tokens in common. At the end, 64 single calls for 8 prompts beside 8 calls with
whole groups, both to the hub: with the model of 34 million parameters of ``prefix.py``, and with the tiny one, whose passes
take so little that the calls themselves are seen.

On a CPU a single row of 300 tokens already keeps the multipliers busy, so for unrelated prompts a batch
saves the calls' overhead and no arithmetic. With ``cuda`` the model has the shape of Qwen2.5-VL-3B, in bf16, and
figures are called ``singles_gpu``.

    .venv/bin/python -P tests/bench/singles.py [SECONDS [DEVICE]]
"""

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import grpc
import httpx

sys.path.append(str(Path(__file__).parent))
from hub_process import hardware, hub, report
from prefix_model import THREE_BILLION, build_classifier

from rewardhub.types import Call, Group, Response
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.wire.proto import call_to_proto, group_to_proto

CLIENTS = 64
TURNS = 4
SETTINGS = {"OMP_WAIT_POLICY": "passive", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""What serves the peers best: threads that wait busily get in the way of the client and the hub."""

ROUNDS, ROUNDS_TINY = 4, 24
"""How often single calls and whole groups take turns, behind a round that warms up."""

MAX_BATCH, WAIT_S = 32, 0.01
TOLERANCE = {"cpu": 1e-4, "cuda": 0.25}
"""The most by which scores may differ, on a GPU as a share of their deviation."""

Service = tuple[str, str, Callable[[str, str], bytes]]
"""Address, path, and how a prompt and a response are written to it."""

CARD = 'name = "tiny"\nkind = "scalar"\npath = "checkpoint"\nsystem = ""\ndevice = "{}"\ndtype = "{}"\n'
DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
BODY = {"recipe": "tiny", "details": False, "cache": "bypass"}


def sample(seed: int) -> tuple[str, str]:
    """A short prompt and a response of 30 to 600 tokens, which are bytes here."""
    rng = random.Random(seed)
    text = "".join(chr(rng.randrange(97, 123)) for _ in range(rng.randint(30, 600)))
    return f"question {seed}?", text


def unrelated(client: int, turn: int) -> tuple[str, str]:
    return sample(1000 * client + turn)


def member(client: int, turn: int) -> tuple[str, str]:
    """The response of one of 8 clients that have a group's prompt of 300 tokens in common."""
    rng = random.Random(f"{client // 8}/{turn}")
    prompt = "".join(chr(rng.randrange(97, 123)) for _ in range(300))
    return prompt, unrelated(client, turn)[1]


TRAFFIC = {"unrelated": unrelated, "members": member}


def build(folder: Path, device: str) -> None:
    """The checkpoint and its card."""
    import torch

    from rewardhub.models.backbone import load_headless
    from rewardhub.models.checkpoint import save_classifier
    from rewardhub.models.head import new_head
    from rewardhub.models.tiny import build_tiny

    (folder / "tiny.toml").write_text(CARD.format(device, DTYPES[device]))
    if device == "cuda":
        build_classifier(folder, 1, THREE_BILLION, device, torch.bfloat16)
        return
    base = build_tiny(folder / "base", seed=1)
    backbone = load_headless(base)
    save_classifier(
        backbone.base, new_head(backbone.hidden_size, "none", 5).named_tensors(), base, folder / "checkpoint"
    )


def peer(folder: Path, gathered: bool) -> None:
    """Serves POST /score {prompt, response} on a free port, and prints it."""
    import torch
    import uvicorn
    from fastapi import FastAPI, Request
    from prefix import Rows

    from rewardhub.models import load
    from rewardhub.models.card import load_card

    card = load_card(folder / "tiny.toml")
    model = load(card)
    rows = Rows(folder / "checkpoint", card.device, getattr(torch, card.dtype))
    app = FastAPI()
    gather = Gather(lambda batch: asyncio.to_thread(score_all, batch))

    def score_all(batch: list[tuple[str, str]]) -> list[float]:
        encoded = [row for p, r in batch for row in model.encode(Group("g", p, (Response(r),)))]
        width = max(map(len, encoded))
        inputs = {
            "input_ids": torch.zeros(len(encoded), width, dtype=torch.long),
            "attention_mask": torch.zeros(len(encoded), width, dtype=torch.long),
        }
        for index, row in enumerate(encoded):
            inputs["input_ids"][index, : len(row)] = torch.from_numpy(row.ids)
            inputs["attention_mask"][index, : len(row)] = 1
        return rows.score({name: tensor.to(card.device) for name, tensor in inputs.items()})

    @app.post("/score")
    async def score(request: Request) -> dict[str, float]:
        data = await request.json()
        item = (data["prompt"], data["response"])
        value = await gather(item) if gathered else (await asyncio.to_thread(score_all, [item]))[0]
        return {"score": value}

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    original = server.startup

    async def startup(sockets=None):
        await original(sockets)
        print(f"http=http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", flush=True)

    server.startup = startup
    server.run()


class Gather:
    """Count-and-timeout batching: a batch leaves when it is full or its first item has waited long enough."""

    def __init__(self, score: Callable[[list[tuple[str, str]]], Awaitable[list[float]]]) -> None:
        self._score = score
        self._items: asyncio.Queue[tuple[tuple[str, str], asyncio.Future[float]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, item: tuple[str, str]) -> float:
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._items.put_nowait((item, future))
        return await future

    async def _run(self) -> None:
        while True:
            batch = [await self._items.get()]
            until = time.perf_counter() + WAIT_S
            while len(batch) < MAX_BATCH and (left := until - time.perf_counter()) > 0:
                try:
                    batch.append(await asyncio.wait_for(self._items.get(), left))
                except TimeoutError:
                    break
            values = await self._score([item for item, _ in batch])
            for (_, future), value in zip(batch, values, strict=True):
                future.set_result(value)


class Connection:
    """One kept-alive HTTP connection, as little of it as a fair client needs."""

    def __init__(self, url: str, path: str) -> None:
        self._address = url.removeprefix("http://")
        self._head = f"POST {path} HTTP/1.1\r\nhost: {self._address}\r\ncontent-type: application/json\r\n"

    async def open(self) -> "Connection":
        host, port = self._address.rsplit(":", 1)
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        return self

    async def post(self, body: bytes) -> dict:
        self._writer.write(f"{self._head}content-length: {len(body)}\r\n\r\n".encode() + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        return json.loads(await self._reader.readexactly(length))

    def close(self) -> None:
        self._writer.close()


def ours(prompt: str, responses: list[str]) -> bytes:
    return json.dumps({**BODY, "groups": [{"prompt": prompt, "responses": responses}]}).encode()


async def rate(
    url: str,
    path: str,
    encode: Callable[[str, str], bytes],
    draw: Callable[[int, int], tuple[str, str]],
    seconds: float,
    clients: int = CLIENTS,
) -> tuple[int, float, float]:
    """Requests, requests per second and p50 in milliseconds with clients that each wait for their answer."""
    latencies: list[float] = []
    started = time.perf_counter()

    async def client(k: int) -> None:
        connection = await Connection(url, path).open()
        n = 0
        while time.perf_counter() < started + seconds:
            body, sent = encode(*draw(k, n)), time.perf_counter()
            await connection.post(body)
            latencies.append(time.perf_counter() - sent)
            n += 1
        connection.close()

    await asyncio.gather(*map(client, range(clients)))
    seconds = time.perf_counter() - started
    return len(latencies), len(latencies) / seconds, 1000 * statistics.median(latencies)


def scores_of(url: str, path: str, encode: Callable[[str, str], bytes]) -> list[float]:
    """The scores of a few samples, one by one."""
    with httpx.Client(timeout=60) as client:
        replies = [client.post(url + path, content=encode(*sample(n))).json() for n in range(5)]
    return [reply["score"] if "score" in reply else reply["groups"][0]["scores"][0]["value"] for reply in replies]


async def together(url: str, bodies: list[bytes]) -> float:
    """Seconds until all requests, sent at once, are answered with values."""
    connections = [await Connection(url, "/v1/score").open() for _ in bodies]
    started = time.perf_counter()
    replies = await asyncio.gather(*(each.post(body) for each, body in zip(connections, bodies, strict=True)))
    seconds = time.perf_counter() - started
    for connection in connections:
        connection.close()
    assert all(score["value"] is not None for reply in replies for score in reply["groups"][0]["scores"])
    return seconds


async def together_grpc(address: str, requests: list[bytes]) -> float:
    """The same over gRPC, by calls on one channel."""
    async with grpc.aio.insecure_channel(address) as channel:
        ask = channel.unary_unary("/rewardhub.v1.RewardService/Score", None, pb.ScoreResponse.FromString)
        await channel.channel_ready()
        started = time.perf_counter()
        replies = await asyncio.gather(*map(ask, requests))
        seconds = time.perf_counter() - started
    columns = [reply.groups[0].total for reply in replies]
    assert all(column.values and not column.statuses for column in columns)
    return seconds


def ours_grpc(prompt: str, responses: list[str]) -> bytes:
    group = group_to_proto(Group("g", prompt, tuple(map(Response, responses))))
    options = call_to_proto(Call(recipe="tiny", details=False, cache="bypass"))
    return pb.ScoreRequest(options=options, groups=[group]).SerializeToString()


def singles_for_groups(
    door: str, send: Callable[[list[bytes]], Awaitable[float]], encode: Callable[[str, list[str]], bytes], rounds: int
) -> float:
    """How many times longer 64 single calls for 8 prompts of 1,200 tokens take than 8 calls with groups."""
    ratios = []
    for turn in range(rounds + 1):
        prompts = [f"{door}/{turn}/{g} {sample(g)[1] * 4}"[:1200] for g in range(8)]
        texts = [[sample(100 * g + k)[1] for k in range(8)] for g in range(8)]
        whole = [encode(*group) for group in zip(prompts, texts, strict=True)]
        single = [encode(f"again {p}"[:1200], [text]) for p, each in zip(prompts, texts, strict=True) for text in each]
        first, second = (whole, single) if turn % 2 else (single, whole)
        ratio = asyncio.run(send(first)) / asyncio.run(send(second))
        ratios.append(1 / ratio if first is whole else ratio)
    return statistics.median(ratios[1:])


def by_door(address: dict[str, str], rounds: int) -> tuple[float, float]:
    """That ratio over REST and over gRPC."""
    over_rest = singles_for_groups("rest", partial(together, address["http"]), ours, rounds)
    return over_rest, singles_for_groups("grpc", partial(together_grpc, address["grpc"]), ours_grpc, rounds)


@contextmanager
def serving(folder: Path, kind: str):
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, kind, str(folder)], stdout=subprocess.PIPE, text=True, env=SETTINGS | os.environ,
    )  # fmt: skip
    try:
        yield process.stdout.readline().removeprefix("http=").strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def plain(prompt: str, response: str) -> bytes:
    return json.dumps({"prompt": prompt, "response": response}).encode()


def descendants(pid: int) -> dict[int, list[str]]:
    """What /proc tells, behind their names, of the processes that one has started, and of those of theirs."""
    stats: dict[int, list[str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # It has ended.
            stats[int(folder.name)] = (folder / "stat").read_text().rsplit(")", 1)[1].split()
    own, more = {pid}, True
    while more:
        more = {each for each, stat in stats.items() if int(stat[1]) in own} - own
        own |= more
    return {each: stats[each] for each in own - {pid}}


def spent() -> float:
    """Seconds of processor time of the processes that this one has started, and those of theirs."""
    ticks = sum(int(stat[11]) + int(stat[12]) for stat in descendants(os.getpid()).values())
    return ticks / os.sysconf("SC_CLK_TCK")


def in_turns(services: dict[str, Service], seconds: float) -> dict[tuple[str, str], list[float]]:
    """Requests per second of each service on each traffic, turn by turn."""
    rates: dict[tuple[str, str], list[float]] = {}
    for turn in range(TURNS + 1):
        for traffic, draw in TRAFFIC.items():
            for kind, service in services.items():

                def fresh(client: int, n: int) -> tuple[str, str]:
                    return draw(client, 100_000 * turn + n)

                before = spent()
                count, per_second, p50 = asyncio.run(rate(*service, fresh, seconds / TURNS))
                each_ms = 1000 * (spent() - before) / count
                print(
                    f"{kind:<10}{traffic:<10}{per_second:8.0f} requests/s, p50 {p50:7.1f} ms,"
                    f" {each_ms:6.2f} ms of processor time each"
                )
                if turn:  # The first warms up.
                    rates.setdefault((kind, traffic), []).append(per_second)
    return rates


def agree(found: list[float], wanted: list[float], device: str) -> None:
    """Ends the run where the services do not give the same scores."""
    most = TOLERANCE[device] * (statistics.stdev(wanted) if device == "cuda" else 1)
    assert all(abs(a - b) < most for a, b in zip(found, wanted, strict=True)), (found, wanted)


def main(seconds: float, device: str) -> None:
    print(
        f"{hardware()}; {CLIENTS} clients, one response of 30 to 600 tokens a call, {seconds:g} s each in {TURNS} turns"
    )
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        build(folder, device)
        os.environ["REWARDHUB_CARDS"] = json.dumps([str(folder / "tiny.toml")])
        with hub() as address, serving(folder, "--alone") as alone, serving(folder, "--gathered") as gathered:
            url = address["http"]
            services: dict[str, Service] = {
                "hub": (url, "/v1/score", lambda p, r: ours(p, [r])),
                "alone": (alone, "/score", plain),
                "gathered": (gathered, "/score", plain),
            }
            expected, *others = (scores_of(*service) for service in services.values())
            for values in others:
                agree(values, expected, device)
            rates = in_turns(services, seconds)
            ratios_of = {"for_groups" if device == "cuda" else "for_groups_tiny": by_door(address, ROUNDS_TINY)}
        if device == "cpu":
            build_classifier(folder)  # in place of the tiny one
            with hub() as address:
                ratios_of["for_groups"] = by_door(address, ROUNDS)
    name = "singles" if device == "cpu" else "singles_gpu"
    for traffic, figure in (("unrelated", name), ("members", f"{name}.of_groups")):
        for kind, peer_name, text in (
            ("alone", "vs_batch_of_one", "batch-of-one FastAPI service"),
            ("gathered", "vs_count_and_timeout", "count-and-timeout batcher"),
        ):
            ratios = [a / b for a, b in zip(rates["hub", traffic], rates[kind, traffic], strict=True)]
            report(f"{figure}.{peer_name}", statistics.median(ratios), text)
    for figure, (over_rest, over_grpc) in ratios_of.items():
        report(f"{name}.{figure}", over_rest, "eight calls with whole groups (time; below is better)")
        report(f"{name}.{figure}_grpc", over_grpc, "the same over gRPC")


if __name__ == "__main__":
    if sys.argv[1:2] in (["--alone"], ["--gathered"]):
        peer(Path(sys.argv[2]), sys.argv[1] == "--gathered")
    else:
        main(float(sys.argv[1]) if sys.argv[1:] else 8.0, sys.argv[2] if sys.argv[2:] else "cpu")
