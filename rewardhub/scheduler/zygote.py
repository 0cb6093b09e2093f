"""A warm, single-threaded process that forks verifier workers in milliseconds.

The hub sends one byte with the worker's socket attached; the zygote forks, the child serves that
socket, and the zygote answers with the child's pid. A dead child stays a zombie until the hub asks for
it to be reaped, so that a pid never names another process. Everything ends when the hub closes its end.
"""

import gc
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from ctypes import CDLL
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rewardhub.registry import Registry

FORK, REAP = b"F", b"R"
_PID = struct.Struct("!q")
START_S, FORK_S = 120.0, 10.0
"""What a zygote gets to import everything and fork its first worker, and to fork each of the others."""
_PR_SET_PDEATHSIG = 1


class Zygote:
    """The hub's handle on the zygote process."""

    def __init__(self, plugins: list[Path], memory_mb: int) -> None:
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        self._sock = ours
        self._sock.settimeout(START_S)
        arguments = [str(theirs.fileno()), str(memory_mb), *map(str, plugins)]
        command = [sys.executable, "-P", "-m", "rewardhub.scheduler.zygote", *arguments]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()

    def fork(self, worker_socket: socket.socket) -> int:
        """Forks a worker that serves ``worker_socket``; returns its pid. Blocks for milliseconds.

        Raises ``OSError`` where the zygote is gone, or hangs, which is its end.
        """
        with self._lock:
            try:
                socket.send_fds(self._sock, [FORK + _PID.pack(0)], [worker_socket.fileno()])
                answer = self._sock.recv(_PID.size)
            except TimeoutError:
                self._process.kill()
                raise
            self._sock.settimeout(FORK_S)
        if len(answer) != _PID.size:
            raise ConnectionError("the zygote is gone")
        return int(_PID.unpack(answer)[0])

    def kill(self, pid: int) -> None:
        """Ends a worker for good, with the processes that it started. Never waits, not even for a fork.

        It is still unreaped, so the pid is its own.
        """
        if self.alive:
            with suppress(OSError):  # a zygote that hangs, or has just ended, reaps nothing
                os.killpg(pid, signal.SIGKILL)
                os.write(self._sock.fileno(), REAP + _PID.pack(pid))

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """Ends the zygote, which may still be importing, and with it every worker: they hold nothing to be saved."""
        self._process.kill()
        self._process.wait()
        self._sock.close()


def main(fd: int, memory_mb: int, plugins: list[Path]) -> None:
    """Serves the hub's requests until it hangs up."""
    from rewardhub import logs
    from rewardhub.registry import default_registry
    from rewardhub.scheduler.worker import serve

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    registry = default_registry(plugins)
    _preload(registry)
    logs.configure()
    logs.take_hooks(last=True)
    sock = socket.socket(fileno=fd)
    gc.collect()
    gc.freeze()
    while True:
        request, fds, _, _ = socket.recv_fds(sock, 1 + _PID.size, 1)
        if not request:
            return
        if request[:1] == REAP:
            with suppress(ChildProcessError):
                os.waitpid(_PID.unpack(request[1:])[0], 0)
            continue
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            sock.close()
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            limit = memory_mb * 1024 * 1024
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            serve(socket.socket(fileno=fds[0]), registry)
            os._exit(0)
        os.close(fds[0])
        with suppress(OSError):  # whoever of the two is first
            os.setpgid(pid, pid)
        try:
            sock.sendall(_PID.pack(pid))
        except BrokenPipeError:
            return  # the hub is gone; the child dies with this process


def _preload(registry: "Registry") -> None:
    """Imports what verifiers import on first use, so that a forked worker has it already."""
    names = {name for scorer in registry for name in getattr(scorer, "libraries", ())}
    for name in names:
        with suppress(ImportError):
            import_module(name)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), [Path(each) for each in sys.argv[3:]])
