"""A hub in a process of its own, pinned to one core: what the speed comparisons ask."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

SETTLE_S = 4.0
"""A hub that is ready still starts its pool, whose imports would take half of the core that is measured."""


def cores() -> tuple[int, int]:
    """One core for the server, one for the client; the same where there is only one."""
    found = sorted(os.sched_getaffinity(0))
    return found[0], found[-1]


@contextmanager
def hub(*arguments: str, core: int | None = None) -> Iterator[dict[str, str]]:
    """Starts `rewardhub serve` on free ports; yields its REST URL and gRPC address."""
    command = [sys.executable, "-P", "-m", "rewardhub.cli", "serve"]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", *arguments]
    pin = None if core is None else (lambda: os.sched_setaffinity(0, {core}))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=pin)
    try:
        addresses = dict(word.split("=", 1) for word in process.stdout.readline().split() if "=" in word)
        time.sleep(SETTLE_S)
        yield addresses
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stdout.close()


def report(name: str, ratio: float, peer: str) -> None:
    """The closing line of a figure."""
    print(f"{name} {ratio:.2f} {peer}")


def hardware() -> str:
    """Processor and core count, for the results page."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{model}, {len(os.sched_getaffinity(0))} cores"
