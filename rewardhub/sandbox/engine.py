"""Warm processes, one or more per language, as their owner sees them: started when first needed,
replaced when they die, thread-safe.
"""

import atexit
import json
import logging
import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewardhub.errors import InternalError, Unavailable
from rewardhub.sandbox.languages import Language

_LOG = logging.getLogger(__name__)
_ROOT = str(Path(__file__).resolve().parents[2])
_GUARD = str(Path(__file__).with_name("guard.py"))
_BOOT = "import sys; sys.path.insert(0, sys.argv[2]); from rewardhub.sandbox.zygote import main; main(*sys.argv[1:])"
_READY_S = 60.0
_CLOSE_S = 1.0


@dataclass(slots=True)
class _Warm:
    """One warm process and the runs in it."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    runs: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Engine:
    """The warm processes of one language, at most ``size`` of them."""

    def __init__(self, language: Language, environment: Mapping[str, str], size: int = 0) -> None:
        self._language = language
        self._environment = dict(environment)
        self._size = size or max(1, len(os.sched_getaffinity(0)))
        self._warm: list[_Warm] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._closed = False
        atexit.register(self.close)

    def submit(self, order: Mapping[str, Any], descriptors: Sequence[int]) -> tuple[socket.socket, "_Warm"]:
        """Starts a run; ``descriptors`` are its stdin, stdout, stderr, control and job.

        Returns the socket that tells of its end, and whose shutdown ends it, and the process it is in,
        for :meth:`done`. Raises ``InternalError`` where no process gets warm, ``Unavailable`` once closed,
        ``OSError`` where the machine is out of processes or descriptors.
        """
        message = json.dumps(order).encode()
        for attempt in range(2):
            warm = self._choose()
            ours, theirs = socket.socketpair()
            try:
                with theirs, warm.lock:
                    socket.send_fds(warm.socket, [message], [*descriptors, theirs.fileno()])
            except (BrokenPipeError, ConnectionError):
                ours.close()
                self._drop(warm)
                if attempt:
                    raise
            except OSError:
                ours.close()
                self.done(warm)
                raise
            else:
                return ours, warm
        raise InternalError("no warm process takes a run")

    def warm_up(self) -> None:
        """Starts a warm process where there is none; raises as :meth:`submit` does."""
        self.done(self._choose())

    def done(self, warm: "_Warm") -> None:
        """To be called once for each run that :meth:`submit` started."""
        with self._lock:
            warm.runs -= 1

    def close(self) -> None:
        """Ends all warm processes and with them their runs; in a fork of their owner nothing."""
        if os.getpid() != self._owner:
            return
        self._closed = True
        if not self._lock.acquire(timeout=_CLOSE_S):
            return  # one is getting warm, and all end with this process
        try:
            ended, self._warm = self._warm, []
        finally:
            self._lock.release()
        for warm in ended:
            _end(warm)

    def _choose(self) -> _Warm:
        with self._lock:
            if self._closed:
                raise Unavailable("the sandbox is closed", retry_after_s=1.0)
            for dead in [warm for warm in self._warm if warm.process.poll() is not None]:
                self._warm.remove(dead)
                _end(dead)
            idle = min(self._warm, key=lambda warm: warm.runs, default=None)
            if idle is None or (idle.runs and len(self._warm) < self._size):
                idle = self._start()
                self._warm.append(idle)
            idle.runs += 1
            return idle

    def _drop(self, warm: _Warm) -> None:
        with self._lock:
            if warm in self._warm:
                self._warm.remove(warm)
        _end(warm)

    def _start(self) -> _Warm:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        card = self._language
        order = json.dumps({"shown": card.shown, "guard": _GUARD, "folders": card.folders, "imports": card.imports})
        with theirs:
            process = subprocess.Popen(
                [card.warm, "-S", "-s", "-P", "-B", "-c", _BOOT, order, _ROOT],
                stdin=theirs.fileno(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self._environment, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        warm = _Warm(process, ours)
        ours.settimeout(_READY_S)
        try:
            said = ours.recv(4096)
        except TimeoutError:
            said = b"not ready in time"
        if said != b"ready":
            reason = said.decode("utf-8", "replace") or _last_words(process)
            _end(warm)
            raise InternalError(f"no warm process: {reason}")
        ours.settimeout(None)
        return warm


def _last_words(process: subprocess.Popen[bytes]) -> str:
    process.kill()
    words = process.communicate()[1].decode("utf-8", "replace").strip()
    return words.splitlines()[-1] if words else "it died"


def _end(warm: _Warm) -> None:
    warm.socket.close()
    with suppress(subprocess.TimeoutExpired):
        warm.process.wait(0.5)
    warm.process.kill()
    warm.process.wait()
    for pipe in (warm.process.stdout, warm.process.stderr):
        if pipe:
            pipe.close()
