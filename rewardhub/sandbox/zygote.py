"""A warm process, from which runs are forked by :mod:`~rewardhub.sandbox.forks`.

A script of its own: :func:`main` with the standard input as its socket. It enters an empty network and
a read-only root once. All runs die with this process, and this process with the one that started it.
"""

# ruff: noqa: E402

import os

register_at_fork, os.register_at_fork = os.register_at_fork, lambda **_: None
# A warm process has one thread and no lock held, so that its forks need not be told; a tenth of a millisecond each.

import gc
import importlib.util
import json
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from functools import partial
from types import ModuleType

from rewardhub.sandbox import scrub

scrub.load_ctypes()

from rewardhub.sandbox import namespaces
from rewardhub.sandbox.compact import fill_gaps
from rewardhub.sandbox.forks import Forks

_ROOT_MB = 16
_REHEARSALS = 20
_USUAL = (
    "bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "fractions", "functools", "heapq",
    "itertools", "json", "math", "operator", "random", "re", "statistics", "string", "threading", "typing",
)  # fmt: skip


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
    os.waitpid(child, 0)
    os._exit(0)


def hide(*, pointers: bool) -> None:
    """Takes this package away, and ``ctypes`` too unless a script needs it, which has no secret beside
    it that a pointer could read.
    """
    os.register_at_fork = register_at_fork
    os.environ.pop("LD_BIND_NOW", None)
    vars(sys.modules["__main__"]).clear()
    if pointers:
        scrub.forget(("rewardhub",))
    for name in [name for name in sys.modules if name.split(".")[0] == "rewardhub"]:
        del sys.modules[name]


def main(text: str, root: str) -> None:
    """Gets warm, says so on the socket and serves. What fails before is the message instead."""
    order = json.loads(text)
    side = socket.socket(fileno=0)
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
        forks = Forks(libc, proc, namespaces.covered(order["shown"]))
    except Exception as error:
        side.send(f"error {type(error).__name__}: {error}".encode())
        return
    sys.path.remove(root)
    sys.path_importer_cache.pop(root, None)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    hide(pointers=not order["imports"])
    forks.run_python = partial(guard.run_warm, guard.make_ready(_REHEARSALS))
    found = "" if order["imports"] else scrub.leak()
    gc.collect()
    gc.freeze()
    if found:
        side.send(f"error a program could reach {found}".encode())
        return
    forks.fillers = fill_gaps()
    side.send(b"ready")
    del libc, found, order, text, root, guard
    forks.serve(side)
