"""The launcher: a process of its own that isolates one run, waits for it and reports on it.

Arguments: isolation, job descriptor, control descriptor, report descriptor, CPU seconds, memory in MB,
scratch space in MB, the shown paths joined by ``:``, then the command. The job and control descriptors
go on to the command; the report is the launcher's alone, so that what it says cannot be forged.
Started for every run, so it imports little.
"""

# ruff: noqa: PTH123

import os
import resource
import sys

from rewardhub.sandbox import namespaces, seccomp
from rewardhub.sandbox.steps import take

FULL = "full"
FILTERED = "weak (seccomp, rlimits)"
LIMITED = "weak (rlimits)"

_PR_SET_CHILD_SUBREAPER = 36
_OPEN_FILES = 128
_TASKS = 256


class Order:
    """What to run, and within what bounds: the launcher's arguments."""

    def __init__(self, arguments: list[str]) -> None:
        self.isolation = arguments[0]
        self.passed = (int(arguments[1]), int(arguments[2]))
        self.report, self.cpu_s, self.memory_mb, self.scratch_mb = map(int, arguments[3:7])
        self.shown = arguments[7].split(":")
        self.command = arguments[8:]


def main() -> None:
    """Runs the order of ``sys.argv`` and exits; every failure of isolation is an ``error`` report."""
    order = Order(sys.argv[1:])
    os.set_inheritable(order.report, False)
    try:
        _supervise(order)
    except OSError as error:
        os.write(order.report, f"error {error}\n".encode())


def _supervise(order: Order) -> None:
    libc = namespaces.load_libc()
    namespaces.die_with_parent(libc)
    if order.isolation == FULL:
        namespaces.enter(libc)
    else:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        import signal

        signal.signal(signal.SIGTERM, lambda *_: _stop())
    child = os.fork()
    if child == 0:
        _become(order)
    for descriptor in (0, 1, 2, *order.passed):
        os.close(descriptor)
    _, status, usage = os.wait4(child, 0)
    if order.isolation != FULL:
        _kill_descendants()
    code = os.waitstatus_to_exitcode(status)
    os.write(order.report, f"done {code} {usage.ru_utime + usage.ru_stime:.3f} {usage.ru_maxrss}\n".encode())


def _become(order: Order) -> None:
    """Turns this child into the command; never returns."""
    try:
        libc = namespaces.load_libc()
        if order.isolation != LIMITED:
            os.setsid()  # a signal to its own group must reach nobody else
        namespaces.die_with_parent(libc)
        if order.isolation == FULL:
            namespaces.build_root(libc, os.uname().machine, order.shown, order.scratch_mb)
        _limit(order)
        if order.isolation != LIMITED:
            take(seccomp.steps(libc, seccomp.assemble(os.uname().machine)))
        os.execv(order.command[0], order.command)  # noqa: S606
    except (OSError, KeyError, ValueError) as error:
        os.write(order.report, f"error {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(70)


def _limit(order: Order) -> None:
    megabyte = 1 << 20
    bounds = {
        resource.RLIMIT_CPU: order.cpu_s,
        resource.RLIMIT_AS: order.memory_mb * megabyte,
        resource.RLIMIT_FSIZE: order.scratch_mb * megabyte,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    if order.isolation == FULL:
        # Outside a user namespace this would count the processes of the whole account.
        bounds[resource.RLIMIT_NPROC] = _TASKS
    for kind, bound in bounds.items():
        resource.setrlimit(kind, (bound, bound))


def _stop() -> None:
    _kill_descendants()
    os._exit(1)


def _kill_descendants() -> None:
    """Kills and reaps until no descendant is left; orphans are adopted by this process."""
    while children := _children(os.getpid()):
        for child in children:
            for pid in (*_children(child), child):
                try:
                    os.kill(pid, namespaces.SIGKILL)
                except ProcessLookupError:
                    continue
            os.waitpid(child, 0)


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            return [int(child) for child in children.read().split()]
    except OSError:
        return []
