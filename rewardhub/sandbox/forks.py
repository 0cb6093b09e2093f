"""The loop of a warm process: forks one run after another, each into namespaces of its own.

Every message on the socket is a run: JSON and the descriptors 0 to 5 of the run: stdin, stdout, stderr,
control, job, report. The report is a socket: it gets ``done CODE CPU RSS`` at the end, and when its other
side is shut down the run is killed.
"""

# ruff: noqa: PTH103, PTH120, PTH123, S606

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from rewardhub.sandbox import namespaces, script, seccomp
from rewardhub.sandbox.steps import Step, take

PROFILES = {
    "python": frozenset[str](),
    "native": frozenset({"rt_sigaction"}),
    "shell": frozenset({"rt_sigaction", "clone", "fork", "vfork"}),
}
"""What the filter allows: to a Python program neither processes nor signal handlers, to others the
handlers, to a shell and to a compiler both."""

_CONTROL, _JOB, _REPORT, _PROC, _FREE = 3, 4, 5, 6, 7
_SIX = struct.Struct("6i")
_OPEN_FILES = 128
_MOST_PLANS = 64
_CLOSE_RANGE = 436
_REHEARSALS = 20

Plan = tuple[dict[str, Any], list[Step]]


class Forks:
    """The state of the warm process."""

    def __init__(self, libc: ctypes.CDLL, proc: int, kept: list[str]) -> None:
        self.libc, self.kept = libc, kept
        self.run_python: Callable[[int, int], None]
        self.fillers: list[Any] = []
        machine = os.uname().machine
        self.filters = {name: seccomp.assemble(machine, allowed) for name, allowed in PROFILES.items()}
        self.open_pids, self.close_pids = namespaces.steps_around_fork(libc, _CONTROL)
        hold_numbers(proc, os.open("self/ns/pid", os.O_RDONLY, dir_fd=proc))
        self.poll = select.poll()
        self.runs: dict[int, tuple[int, int, int]] = {}
        self.plans: dict[bytes, Plan] = {}
        self.plan: Plan = ({}, [])
        for _ in range(_REHEARSALS):
            enter(range(_FREE - 1), [("rehearsal", libc.getpid, (0, b"", ctypes.c_ulong(0)))] * 3)
        # Held for good, so that a fork that lets go of all this need not take it to pieces.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.__dict__))

    def serve(self, side: socket.socket) -> None:
        """Serves until the other side of the socket is gone."""
        self.poll.register(side, select.POLLIN)
        space = socket.CMSG_SPACE(_SIX.size)
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor != 0:
                    self.attend(descriptor)
                    continue
                message, passed, _, _ = side.recvmsg(1 << 16, space)
                if not message:
                    return
                self.start(message, _SIX.unpack(passed[0][2]))

    def start(self, message: bytes, descriptors: tuple[int, ...]) -> None:
        report = descriptors[-1]
        try:
            self.plan = self.plans.get(message) or self.make_plan(message)
            take(self.open_pids)
            try:
                pid = os.fork()
                if pid == 0:
                    self.become(descriptors)
            finally:
                take(self.close_pids)
        except OSError as error:
            os.write(report, f"error {error}\n".encode())
            os.close(report)
        else:
            handle = os.pidfd_open(pid)
            if self.plan[0]["measured"]:
                with socket.socket(fileno=os.dup(report)) as side, suppress(OSError):
                    socket.send_fds(side, [b"\n"], [handle])
            self.runs[handle] = self.runs[report] = (pid, handle, report)
            self.poll.register(handle, select.POLLIN)
            self.poll.register(report, select.POLLIN)
        for descriptor in descriptors[:-1]:
            os.close(descriptor)

    def make_plan(self, message: bytes) -> Plan:
        """The order and the steps of all runs that are asked for like this."""
        order, libc = json.loads(message), self.libc
        if len(self.plans) >= _MOST_PLANS:
            self.plans.clear()
        self.plans[message] = order, [
            ("session", libc.setsid, ()),  # a signal to its own group must reach nobody else
            namespaces.step_to_die_with_parent(libc),
            ("descriptors", libc.syscall, (_CLOSE_RANGE, _FREE, ctypes.c_uint(-1), 0)),
            *namespaces.steps_into_run(libc, _PROC, _FREE, order["scratch_mb"], self.kept),
            *(("limit", libc.prlimit, (0, kind, limits, None)) for kind, limits in bounds(order)),
            *seccomp.steps(libc, self.filters[order["profile"]]),
            ("report", libc.close, (_REPORT,)),
        ]  # fmt: skip
        return self.plans[message]

    def attend(self, descriptor: int) -> None:
        """A run has ended, or it is to end."""
        if descriptor not in self.runs:
            return
        pid, handle, report = self.runs[descriptor]
        if descriptor == report:
            self.poll.unregister(report)
            os.kill(pid, signal.SIGKILL)
            return
        _, status, usage = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with suppress(OSError):  # where nobody waits for this run any more
            os.write(report, f"done {code} {usage.ru_utime + usage.ru_stime:.3f} {usage.ru_maxrss}\n".encode())
        self.poll.unregister(handle)
        with suppress(KeyError):
            self.poll.unregister(report)
        for each in (handle, report):
            del self.runs[each]
            os.close(each)

    def become(self, descriptors: tuple[int, ...]) -> None:
        """Turns this child into the run; never returns."""
        (order, steps), run_python = self.plan, self.run_python
        try:
            enter(descriptors, steps)
        except OSError as error:
            os.write(_REPORT, f"error {error}\n".encode())
            os._exit(70)
        del steps
        self.__dict__ = {}
        if order.get("script"):
            script.run(_JOB)
        if order.get("command"):
            execute(order)
        run_python(_JOB, _CONTROL)


def enter(descriptors: Sequence[int], steps: Sequence[Step]) -> None:
    """Puts the descriptors to their numbers and takes the steps; the last closes the report."""
    for number, each in enumerate(descriptors):
        os.dup2(each, number)
    take(steps)


def hold_numbers(proc: int, pids: int) -> None:
    """Puts these descriptors to their numbers, so that what arrives lies above all numbers that it goes to."""
    proc, pids = (fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _FREE) for each in (proc, pids))
    for number, each in ((_CONTROL, pids), (_JOB, pids), (_REPORT, pids), (_PROC, proc)):
        os.dup2(each, number, inheritable=False)
    os.close(proc)
    os.close(pids)


def bounds(order: dict[str, Any]) -> list[tuple[int, ctypes.Array[ctypes.c_uint64]]]:
    """The limits of each process of a run, the soft and the hard one."""
    megabyte = 1 << 20
    limits = {
        resource.RLIMIT_CPU: order["cpu_s"],
        resource.RLIMIT_AS: order["memory_mb"] * megabyte,
        resource.RLIMIT_FSIZE: order["scratch_mb"] * megabyte,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: order["tasks"],
    }
    return [(kind, (ctypes.c_uint64 * 2)(bound, bound)) for kind, bound in limits.items()]


def unpack(descriptor: int, offset: int) -> None:
    """Writes files into the folder of the run: behind ``offset`` lie their names and sizes, and then their contents."""
    with open(descriptor, "rb", closefd=False) as packed:
        packed.seek(offset)
        for name, size in json.loads(packed.readline()):
            os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
            with open(name, "wb") as file:
                file.write(packed.read(size))
    os.lseek(descriptor, 0, os.SEEK_SET)


def execute(order: dict[str, Any]) -> None:
    """Becomes another program: a compiled one in the job, or a command of the runtime."""
    try:
        if order.get("packed"):
            unpack(*order["packed"])
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.close(_CONTROL)
        os.set_inheritable(_JOB, bool(order.get("builds")))
        if order["command"] == ["job"]:
            os.execve(_JOB, ["program"], dict(os.environ))
        os.execv(order["command"][0], order["command"])
    except OSError as error:
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(70)
