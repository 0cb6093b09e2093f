"""The pipes of a run and the watch over them: what it wrote, and whether it passed a limit."""

import fcntl
import math
import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rewardhub.sandbox.verdicts import Limits, Verdict

START_S = 10.0
"""Seconds that isolating a program and starting its runtime may take."""
CONTROL_BYTES = 4 << 20
_BLOCK = 1 << 16


@dataclass(slots=True)
class Pipe:
    """The read end of a pipe and what came out of it, at most ``cap`` bytes and one."""

    read: int
    write: int
    cap: int
    data: bytearray = field(default_factory=bytearray)

    def drain(self) -> bool:
        """Reads once; False at the end of the stream."""
        block = os.read(self.read, _BLOCK)
        self.data += block[: self.cap + 1 - len(self.data)]
        return bool(block)

    @property
    def over(self) -> bool:
        return len(self.data) > self.cap


@dataclass(slots=True)
class Watch:
    """A run in flight."""

    out: Pipe
    err: Pipe
    control: Pipe
    report: Pipe
    limits: Limits
    begun: float = 0.0
    ended: float = 0.0
    stopped: Verdict | None = None

    def lines(self) -> list[bytes]:
        return bytes(self.control.data).split(b"\n")


def follow(watch: Watch) -> None:
    """Reads everything until all ends are closed, a limit is passed or the time is up."""
    poll = select.poll()
    pipes = {pipe.read: pipe for pipe in (watch.out, watch.err, watch.control, watch.report)}
    for descriptor in pipes:
        poll.register(descriptor, select.POLLIN)
    # Of a program without a guard the start is known before it says anything.
    started = b"started" in watch.lines()
    deadline = _begin(watch) if started else watch.begun + START_S + watch.limits.time_s
    while pipes and watch.stopped is None:
        left = deadline - time.monotonic()
        for descriptor, _ in poll.poll(math.ceil(max(left, 0.0) * 1000)):
            if not pipes[descriptor].drain():
                poll.unregister(descriptor)
                del pipes[descriptor]
        if not started and b"started" in watch.lines():
            deadline, started = _begin(watch), True
        if watch.out.over or watch.err.over:
            watch.stopped = Verdict.OUTPUT_LIMIT
        elif pipes and time.monotonic() >= deadline:
            watch.stopped = Verdict.TIME_LIMIT
    watch.ended = time.monotonic()


def _begin(watch: Watch) -> float:
    """Has the program's time run from now; returns its end."""
    watch.begun = time.monotonic()
    return watch.begun + watch.limits.time_s


@contextmanager
def memory_file(data: bytes) -> Iterator[int]:
    """A descriptor of an anonymous file with this content, at its start."""
    descriptor = os.memfd_create("run", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def pipe(cap: int) -> Iterator[Pipe]:
    read, write = os.pipe()
    pipe = Pipe(read, write, cap)
    try:
        yield pipe
    finally:
        for descriptor in (pipe.read, pipe.write):
            if descriptor >= 0:
                os.close(descriptor)


@contextmanager
def adopted(report: socket.socket) -> Iterator[Pipe]:
    with report:
        yield Pipe(report.fileno(), -1, CONTROL_BYTES)
