"""The pipes of a run and the watch over them: what it wrote, and whether it passed a limit."""

import fcntl
import math
import mmap
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
_MEASURE_S = 0.05


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
    """A run in flight; ``pid`` is that of one whose processes may use ``most_mb`` together, else 0."""

    out: Pipe
    err: Pipe
    control: Pipe
    report: Pipe
    limits: Limits
    begun: float = 0.0
    ended: float = 0.0
    stopped: Verdict | None = None
    pid: int = 0
    most_mb: int = 0

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
        if watch.pid:
            left = min(left, _MEASURE_S)
        for descriptor, _ in poll.poll(math.ceil(max(left, 0.0) * 1000)):
            if not pipes[descriptor].drain():
                poll.unregister(descriptor)
                del pipes[descriptor]
        if not started and b"started" in watch.lines():
            deadline, started = _begin(watch), True
        if watch.out.over or watch.err.over:
            watch.stopped = Verdict.OUTPUT_LIMIT
        elif watch.pid and resident_mb(watch.pid) > watch.most_mb:
            watch.stopped = Verdict.MEMORY_LIMIT
        elif pipes and time.monotonic() >= deadline:
            watch.stopped = Verdict.TIME_LIMIT
    watch.ended = time.monotonic()


def measure(watch: Watch, report: socket.socket, most_mb: int) -> None:
    """Has :func:`follow` end the run when its processes use more memory together than ``most_mb``.

    The kernel's limits are for each process; the warm process sends a handle of the run's first one.
    """
    report.settimeout(START_S)
    said, handles, _, _ = socket.recv_fds(report, 4096, 1)
    report.settimeout(None)
    watch.report.data += said.strip()
    for handle in handles:
        with open(f"/proc/self/fdinfo/{handle}") as lines:  # noqa: PTH123
            watch.pid = next((int(line.split()[1]) for line in lines if line.startswith("Pid:")), 0)
        os.close(handle)
    watch.pid, watch.most_mb = max(watch.pid, 0), most_mb


def resident_mb(pid: int) -> float:
    """Of a process and all below it; those that have ended use nothing."""
    waiting, pages = [pid], 0
    while waiting:
        each = waiting.pop()
        try:
            with open(f"/proc/{each}/statm") as sizes:  # noqa: PTH123
                resident, shared = sizes.read().split()[1:3]
            with open(f"/proc/{each}/task/{each}/children") as children:  # noqa: PTH123
                waiting += map(int, children.read().split())
        except (OSError, ValueError):
            continue
        pages += int(resident) - int(shared)
    return pages * mmap.PAGESIZE / 2**20


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
