"""Languages of sandboxed programs: a language is one card."""

import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

_GUARD, _PLAIN = (str(Path(__file__).with_name(name)) for name in ("guard.py", "plain.py"))
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_TOOLS = ("/bin", "/usr/bin", "/usr/include", "/usr/libexec")


@dataclass(frozen=True, slots=True)
class Language:
    """How a language runs: ``shown`` are the host's paths that its runtime needs, read-only;
    ``runtime_mb`` is its own share of memory; ``warm`` is the Python interpreter of its warm processes.

    A Python program runs in a fork of the warm process, or, where there is none, by ``command``
    followed by the job and control descriptors. Any other is written to the file ``source`` and
    executed by ``command``, or, where there is a ``build``, is what this makes of its standard input
    and writes to descriptor 4.
    ``profile`` names what the system-call filter allows.
    """

    name: str
    command: tuple[str, ...]
    shown: tuple[str, ...]
    runtime_mb: int
    warm: str = ""
    source: str = ""
    build: tuple[str, ...] = ()
    profile: str = "native"
    tasks: int = field(default=256)


def _interpreter() -> str:
    # The base interpreter: the virtual environment and its packages stay outside.
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def _python() -> Language:
    interpreter = _interpreter()
    library = str(Path(sysconfig.get_path("stdlib")).parent)
    shown = [path for path in _LIBRARIES if Path(path).exists()]
    shown += [path for path in (library, interpreter, _GUARD, _PLAIN) if not path.startswith(("/lib/", "/usr/lib/"))]
    command = (interpreter, "-S", "-s", "-P", "-B", _GUARD)
    return Language("python", command, tuple(dict.fromkeys(shown)), runtime_mb=64, warm=interpreter, profile="python")


_COMPILE = "cat >{source} && {compiler} -O2 -w -fmax-errors=5 -o built {source} -lm && cat built >&4"
_OTHERS: dict[str, tuple[str, str, tuple[str, ...], dict[str, Any]]] = {
    "c": ("gcc", "program.c", (), {"tasks": 64}),
    "cpp": ("g++", "program.cpp", (), {"tasks": 64}),
    "javascript": ("node", "program.js", ("program.js",), {"runtime_mb": 1536}),
    "bash": ("bash", "program.sh", ("program.sh",), {"profile": "shell", "tasks": 32}),
    "sql": ("sqlite3", "program.sql", ("-batch", "-bail", ":memory:", ".read program.sql"), {}),
}
"""Name: the command, the file of the source, the arguments (none for a compiler), and what differs."""


def _other(name: str) -> Language | None:
    """The card of a language whose command is installed, else None."""
    command, source, arguments, different = _OTHERS[name]
    found = shutil.which(command, path="/usr/bin:/bin:/usr/local/bin")
    if found is None:
        return None
    runtime = () if found.startswith(("/usr/bin/", "/bin/")) else (str(Path(found).resolve()), found)
    shown = tuple(path for path in (*_LIBRARIES, *_TOOLS, *runtime) if Path(path).exists())
    build = () if arguments else ("/bin/sh", "-c", _COMPILE.format(compiler=command, source=source))
    options: dict[str, Any] = {"runtime_mb": 64, "warm": _interpreter(), "source": source, "build": build} | different
    return Language(name, (found, *arguments), shown, **options)


@cache
def languages() -> dict[str, Language]:
    """The languages that run here, by name."""
    cards = [_python(), *(_other(name) for name in _OTHERS)]
    return {card.name: card for card in cards if card}


def missing(name: str) -> str:
    """The command that a known language lacks here, "" for an unknown or an installed one."""
    return "" if name not in _OTHERS or name in languages() else _OTHERS[name][0]
