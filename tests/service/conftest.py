"""A hub as a process of its own, `rewardhub serve` on free loopback ports."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

CHAOS = Path(__file__).parents[1] / "chaos" / "chaos_verifiers.py"


@dataclass
class Served:
    process: subprocess.Popen
    url: str
    grpc: str

    @property
    def pid(self) -> int:
        return self.process.pid


@contextmanager
def served(*arguments: str, code: int | None = 0, **environ: str) -> Iterator[Served]:
    """A hub with the nonce oracle; it must end with exit ``code``, None for any."""
    command = [sys.executable, "-P", "-m", "rewardhub.cli", "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    environ = {**os.environ, "REWARDHUB_WORKERS": "1", **environ}
    process = subprocess.Popen(
        [*command, "--plugin", str(CHAOS), *arguments], stdout=subprocess.PIPE, text=True, env=environ
    )  # fmt: skip
    try:
        words = dict(word.split("=", 1) for word in process.stdout.readline().split() if "=" in word)
        yield Served(process, words["http"], words["grpc"])
        process.terminate()
        ended = process.wait(60)
        assert code in {None, ended}
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def serve():
    """The context manager :func:`served`."""
    return served
