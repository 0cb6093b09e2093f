"""A warm process that forks one run after another, each into namespaces of its own.

A script of its own: :func:`main` with the standard input as its socket. It enters an empty network and
a read-only root once; every message on the socket is a run: JSON and six descriptors (the job, stdin,
stdout, stderr, control, report). The report is a socket: it gets ``done
CODE CPU RSS`` at the end, and when its other side is shut down the run is killed. All runs die with
this process, and this process with the one that started it.
"""

# ruff: noqa: PTH123, S606, E402

import os

register_at_fork, os.register_at_fork = os.register_at_fork, lambda **_: None
# A warm process has one thread and no lock held, so that its forks need not be told; a tenth of a millisecond each.

import gc
import importlib.util
import json
import resource
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any

from rewardhub.sandbox import scrub

scrub.load_ctypes()

from rewardhub.sandbox import namespaces, script, seccomp

PROFILES = {
    "python": frozenset[str](),
    "native": frozenset({"rt_sigaction"}),
    "shell": frozenset({"rt_sigaction", "clone", "fork", "vfork"}),
}
"""What the filter allows: to a Python program neither processes nor signal handlers, to others the
handlers, to a shell and to a compiler both."""

DESCRIPTORS = 6
_ROOT_MB = 16
_OPEN_FILES = 128
_JOB, _CONTROL, _REPORT = 4, 3, 5
_USUAL = (
    "bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "fractions", "functools", "heapq",
    "itertools", "json", "math", "operator", "random", "re", "statistics", "string", "threading", "typing",
)  # fmt: skip


class Zygote:
    """The state of the warm process."""

    def __init__(self, proc: int, libc: Any, kept: list[str]) -> None:
        self.libc, self.proc, self.kept = libc, proc, kept
        self.run_python: Callable[[int, int], None]
        machine = os.uname().machine
        self.filters = {name: seccomp.assemble(machine, allowed) for name, allowed in PROFILES.items()}
        self.pids = os.open("self/ns/pid", os.O_RDONLY, dir_fd=proc)
        self.socket = socket.socket(fileno=0)
        self.poll = select.poll()
        self.poll.register(self.socket, select.POLLIN)
        self.runs: dict[int, tuple[int, int, int]] = {}

    def serve(self) -> None:
        """Serves until the other side of the socket is gone."""
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor != self.socket.fileno():
                    self.attend(descriptor)
                elif not self.receive():
                    return

    def receive(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 16, DESCRIPTORS)
        if not message:
            return False
        report = descriptors[-1]
        order = json.loads(message)
        try:
            pid = self.fork(order, descriptors)
        except OSError as error:
            os.write(report, f"error {error}\n".encode())
            os.close(report)
        else:
            handle = os.pidfd_open(pid)
            if order.get("measured"):
                with socket.socket(fileno=os.dup(report)) as side, suppress(OSError):
                    socket.send_fds(side, [b"\n"], [handle])
            self.runs[handle] = self.runs[report] = (pid, handle, report)
            self.poll.register(handle, select.POLLIN)
            self.poll.register(report, select.POLLIN)
        finally:
            for descriptor in descriptors[:-1]:
                os.close(descriptor)
        return True

    def fork(self, order: dict[str, Any], descriptors: list[int]) -> int:
        namespaces.open_pids(self.libc)
        try:
            pid = os.fork()
            if pid == 0:
                self.become(order, descriptors)
        finally:
            namespaces.close_pids(self.libc, self.pids)
        return pid

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

    def become(self, order: dict[str, Any], descriptors: list[int]) -> None:
        """Turns this child into the run; never returns."""
        report = descriptors[-1]
        try:
            self.socket.detach()
            os.setsid()  # a signal to its own group must reach nobody else
            namespaces.die_with_parent(self.libc)
            namespaces.enter_run(self.libc, self.proc, order["scratch_mb"], self.kept)
            report = place(descriptors)
            if order.get("source"):
                save(_JOB, order["source"])
            limit(order)
            seccomp.install(self.libc, self.filters[order["profile"]])
        except (OSError, KeyError, ValueError) as error:
            os.write(report, f"error {type(error).__name__}: {error}\n".encode())
            os._exit(70)
        os.close(report)
        if order.get("script"):
            script.run(_JOB)
        if not order.get("command"):
            run_python = self.run_python
            self.__dict__.clear()
            run_python(_JOB, _CONTROL)
        execute(order)


def place(descriptors: list[int]) -> int:
    """Puts a run's descriptors to their numbers and closes all others; returns the report's."""
    job, stdin, stdout, stderr, control, report = (os.dup2(each, 64 + n) for n, each in enumerate(descriptors))
    targets = {0: stdin, 1: stdout, 2: stderr, _CONTROL: control, _JOB: job}
    for number, descriptor in targets.items():
        os.dup2(descriptor, number)
    os.dup2(report, _REPORT, inheritable=False)
    os.closerange(_REPORT + 1, 1 << 20)
    return _REPORT


def save(descriptor: int, name: str) -> None:
    with open(name, "wb") as file:
        while block := os.read(descriptor, 1 << 20):
            file.write(block)


def limit(order: dict[str, Any]) -> None:
    megabyte = 1 << 20
    bounds = {
        resource.RLIMIT_CPU: order["cpu_s"],
        resource.RLIMIT_AS: order["memory_mb"] * megabyte,
        resource.RLIMIT_FSIZE: order["scratch_mb"] * megabyte,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: order["tasks"],
    }
    for kind, bound in bounds.items():
        resource.setrlimit(kind, (bound, bound))


def execute(order: dict[str, Any]) -> None:
    """Becomes another program: a compiled one in the job, or a command of the runtime."""
    try:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.close(_CONTROL)
        if order["command"] == ["job"] or order.get("source"):
            os.set_inheritable(_JOB, False)
        if order["command"] == ["job"]:
            os.execve(_JOB, ["program"], dict(os.environ))
        os.execv(order["command"][0], order["command"])
    except OSError as error:
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(70)


def load_libraries(names: list[str]) -> None:
    """Imports what the language's programs find loaded; a library that is not installed is left out."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MPLCONFIGDIR"] = folder  # matplotlib writes a list of fonts there
        for name in names:
            with suppress(ModuleNotFoundError):
                importlib.import_module(name)
    del os.environ["MPLCONFIGDIR"]
    importlib.invalidate_caches()


def load_guard(path: str) -> ModuleType:
    """The guard as a module that no table of modules holds."""
    spec = importlib.util.spec_from_file_location("guard", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lead(side: socket.socket) -> None:
    """Goes on in a child, the first process of the new pid namespace; this one waits for it to end."""
    child = os.fork()
    if child == 0:
        return
    side.close()
    os.close(0)
    os.waitpid(child, 0)
    os._exit(0)


def hide(*, pointers: bool) -> None:
    """Takes this package away, and ``ctypes`` too unless a script needs it, which has no secret beside
    it that a pointer could read.
    """
    os.register_at_fork = register_at_fork
    vars(sys.modules["__main__"]).clear()
    if pointers:
        scrub.forget(("rewardhub",))
    for name in [name for name in sys.modules if name.split(".")[0] == "rewardhub"]:
        del sys.modules[name]


def main(text: str, root: str) -> None:
    """Gets warm, says so on the socket and serves. What fails before is the message instead."""
    order = json.loads(text)
    side = socket.socket(fileno=os.dup(0))
    try:
        for name in _USUAL:
            importlib.import_module(name)
        sys.path.extend(order["folders"])
        if order["imports"]:
            load_libraries(order["imports"])
        libc = namespaces.load_libc()
        guard = load_guard(order["guard"])
        vars(guard)["FOLDERS"] = tuple(order["folders"])
        proc = namespaces.enter_shared(libc, order["shown"], _ROOT_MB)
        lead(side)
        namespaces.die_with_parent(libc)
        zygote = Zygote(proc, libc, namespaces.covered(order["shown"]))
    except Exception as error:
        side.send(f"error {type(error).__name__}: {error}".encode())
        return
    sys.path.remove(root)
    sys.path_importer_cache.pop(root, None)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    hide(pointers=not order["imports"])
    zygote.run_python = partial(guard.run_warm, guard.make_ready())
    found = [] if order["imports"] else scrub.leaks()
    gc.collect()
    gc.freeze()
    if found:
        side.send(f"error a program could reach {found[0]}".encode())
        return
    side.send(b"ready")
    side.close()
    del side, libc, found, order, text, root, guard
    zygote.serve()
