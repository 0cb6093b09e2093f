"""Callers that use a hub in every way at once, while its scorers are exchanged, its workers killed and its Redis broken.

What each answer must be is told by :mod:`keyed_oracle`. A failure names the seed: `STATEFUL_SEED=7 STATEFUL_SECONDS=30`.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .keyed_doors import World
from .keyed_oddities import OddCaller

VISITOR = """
from rewardhub.registry import verifier

@verifier("visitor", lane="pool")
def visitor(response, reference) -> float:
    return 0.5
"""
PLUGIN = Path(__file__).parent / "keyed_verifiers.py"
SECONDS = float(os.environ.get("STATEFUL_SECONDS", "15"))
SEED = int(os.environ.get("STATEFUL_SEED", "1"))
FAULTS = os.environ.get("STATEFUL_FAULTS", "reload,redis,kill").split(",")
CALLERS = 4


def key_of(tenant: str, *scopes: str) -> str:
    digest = hashlib.sha256(tenant.encode()).hexdigest()
    return f'[[server.keys]]\nkey_sha256 = "{digest}"\ntenant = "{tenant}"\nscopes = {[*scopes]}\n'


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(each)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for each in (task / "children").read_text().split()
        ]
    return []


@contextlib.contextmanager
def served(config: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """A hub in a process of its own: its pid, and where its doors are."""
    command = [sys.executable, "-P", "-m", "rewardhub.cli", "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    command += ["--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.pid, dict(word.split("=", 1) for word in process.stdout.readline().split() if "=" in word)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


class Faults:
    """One random fault after another."""

    def __init__(
        self, world: World, rng: random.Random, pid: int, redis, config: Path, http: httpx.AsyncClient
    ) -> None:
        self._world, self._rng, self._pid, self._redis, self._config, self._http = world, rng, pid, redis, config, http

    async def work(self) -> None:
        things = {"reload": [self.reload], "redis": [self.flush, self.pause, self.restart], "kill": [self.kill] * 3}
        chosen = [thing for name in FAULTS for thing in things.get(name, ())]
        while chosen:
            await asyncio.sleep(self._rng.uniform(0.1, 1.0))
            await self._rng.choice(chosen)()

    async def reload(self) -> None:
        self._world.asked += 1
        world, folder = self._world, self._config.parent
        (folder / "keyed.py").write_text(PLUGIN.read_text().replace("VERSION = 0", f"VERSION = {world.asked}"))
        world.moving = self._rng.random() < 0.5
        stays = world.visiting != world.moving
        plugins = 'plugins = ["keyed.py", "visitor.py"]' if stays else 'plugins = ["keyed.py"]'
        self._config.write_text(re.sub("plugins = .*", plugins, self._config.read_text()))
        reply = await self._http.post("/v1/reload", headers={"authorization": "Bearer admin"}, timeout=60)
        assert reply.status_code == 200, reply.text
        assert "k_pool" in reply.json()["changed"]
        world.version, world.visiting, world.visits, world.moving = world.asked, stays, world.visits + 1, False

    async def flush(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._redis.port)
        writer.write(b"FLUSHALL\r\n")
        await reader.readline()
        writer.close()

    async def pause(self) -> None:
        self._redis.pause()
        await asyncio.sleep(self._rng.uniform(0.05, 2.0))
        self._redis.resume()

    async def restart(self) -> None:
        self._redis.stop()
        await asyncio.sleep(self._rng.uniform(0.0, 1.0))
        await asyncio.to_thread(self._redis.start)

    async def kill(self) -> None:
        workers = [pid for zygote in children(self._pid) for pid in children(zygote)]
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(self._rng.choice(workers), self._rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP]))


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_answer_is_right_whatever_happens(redis_server, tmp_path):
    """R1, R2: open and whole groups, members by both doors, modes, media, runs and refusals of two tenants at once."""
    (tmp_path / "keyed.py").write_text(PLUGIN.read_text())
    (tmp_path / "visitor.py").write_text(VISITOR)
    config = tmp_path / "hub.toml"
    lines = ["workers = 2", f'redis = "{redis_server.url}"', 'plugins = ["keyed.py"]']
    keys = [key_of("alpha", "score", "media"), key_of("beta", "score", "media"), key_of("admin", "admin")]
    config.write_text("\n".join([*lines, *keys]))
    with served(config) as (pid, doors):
        world = World(doors["http"], doors["grpc"], killing="kill" in FAULTS)
        async with httpx.AsyncClient(base_url=world.url, timeout=60) as http:
            callers = [
                OddCaller(world, tenant, number, random.Random(f"{SEED} {tenant} {number}"), http)
                for number in range(CALLERS)
                for tenant in ("alpha", "beta")
            ]
            first = {"recipe": "k_pool", "groups": [{"responses": ["a"]}]}  # once the workers have read the plugin
            assert (
                await http.post("/v1/score", json=first, headers={"authorization": "Bearer alpha"})
            ).status_code == 200
            faults = Faults(world, random.Random(SEED), pid, redis_server, config, http)
            tasks = [asyncio.create_task(each.work()) for each in (*callers, faults)]
            await asyncio.wait(tasks, timeout=SECONDS, return_when="FIRST_EXCEPTION")
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            for caller in callers:
                await caller.close()
            print(f"seed {SEED}: {dict(world.done)}, {world.asked} reloads, {dict(world.statuses)}")
            assert not world.wrong, f"seed {SEED}\n" + "\n\n".join(world.wrong)
            assert not [each for each in ended if isinstance(each, Exception)], ended
            assert (await http.get("/healthz")).status_code == 200
        with contextlib.suppress(Exception):
            redis_server.resume()
    assert all(
        world.done[name] > 3 for name in ("whole_groups", "open_groups", "members", "modes", "media", "refusals")
    )
