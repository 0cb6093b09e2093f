"""Languages of sandboxed programs: a language is one card."""

import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from rewardhub.sandbox import packages

_INSIDE = [
    str(Path(__file__).with_name(f"{name}.py"))
    for name in ("guard", "plain", "sound", "comparing", "handover", "hook", "objections")
]
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
_FONTS = ("/usr/share/fonts",)
_TOOLS = ("/bin", "/usr/bin", "/usr/include", "/usr/libexec")


@dataclass(frozen=True, slots=True)
class Language:
    """How a language runs: ``shown`` are the host's paths that its runtime needs, read-only;
    ``runtime_mb`` is its own share of memory; ``warm`` is the Python interpreter of its warm processes.

    A Python program runs in a fork of the warm process, or, where there is none, by ``command``
    followed by the job and control descriptors. Any other is written to the file ``source`` and
    executed by ``command``, or, where there is a ``build``, is what this makes of that file
    and writes to descriptor 4.
    ``profile`` names what the system-call filter allows. Where there are ``imports``, the warm process
    loads these modules, finding them in ``folders`` too, and a program is a Python script with them at hand.
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
    folders: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()


def _interpreter() -> str:
    # The base interpreter: the virtual environment and its packages stay outside.
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def _python() -> Language:
    interpreter = _interpreter()
    library = str(Path(sysconfig.get_path("stdlib")).parent)
    shown = [path for path in _LIBRARIES if Path(path).exists()]
    shown += [path for path in (library, interpreter, *_INSIDE) if not path.startswith(("/lib/", "/usr/lib/"))]
    command = (interpreter, "-S", "-s", "-P", "-B", _INSIDE[0])
    return Language("python", command, tuple(dict.fromkeys(shown)), runtime_mb=64, warm=interpreter, profile="python")


_COMPILE = "{compiler} -O2 -w -fmax-errors=5 -o built {source} -lm && cat built >&4"
_OTHERS: dict[str, tuple[str, str, tuple[str, ...], dict[str, Any]]] = {
    "c": ("gcc", "program.c", (), {"tasks": 64}),
    "cpp": ("g++", "program.cpp", (), {"tasks": 64}),
    "javascript": ("node", "program.js", ("program.js",), {"runtime_mb": 1536}),
    "bash": ("bash", "program.sh", ("program.sh",), {"profile": "shell", "tasks": 32}),
    "sql": ("sqlite3", "program.sql", ("-batch", "-bail", ":memory:", ".read program.sql"), {}),
}
"""Name: the command, the file of the source, the arguments (none for a compiler), and what differs."""


def _installed(command: str) -> str | None:
    return shutil.which(command, path="/usr/bin:/bin:/usr/local/bin")


def tools() -> list[str]:
    """The commands of other languages than Python that are installed here."""
    return [found for command, *_ in _OTHERS.values() if (found := _installed(command))]


def _other(name: str) -> Language | None:
    """The card of a language whose command is installed, else None."""
    command, source, arguments, different = _OTHERS[name]
    found = _installed(command)
    if found is None:
        return None
    runtime = () if found.startswith(("/usr/bin/", "/bin/")) else (str(Path(found).resolve()), found)
    shown = tuple(path for path in (*_LIBRARIES, *_TOOLS, *runtime) if Path(path).exists())
    build = () if arguments else ("/bin/sh", "-c", _COMPILE.format(compiler=command, source=source))
    options: dict[str, Any] = {"runtime_mb": 64, "warm": _interpreter(), "source": source, "build": build} | different
    return Language(name, (found, *arguments), shown, **options)


def _pytest() -> Language | None:
    """Python beside which the suffix finds pytest; the program keeps its guard."""
    if packages.lacking(("pytest",)):
        return None
    folders, paths = packages.shown(("pytest",))
    plain = _python()
    shown = tuple(dict.fromkeys((*plain.shown, *paths)))
    return replace(plain, name="python_pytest", shown=shown, folders=folders)


_LIBRARIES_OF: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], dict[str, Any]]] = {
    "python_script": ((), (), ("json",), {"runtime_mb": 64}),
    "python_science": (("numpy", "scipy", "sympy"), (), ("numpy", "scipy", "sympy"), {"runtime_mb": 1024}),
    "python_solvers": (
        ("scipy",), ("highspy", "pulp"), ("scipy.optimize", "highspy", "pulp"),
        {"runtime_mb": 1024, "profile": "shell", "tasks": 32},  # PuLP calls its solver as a command
    ),
    "python_charts": (("matplotlib",), ("pandas",), ("matplotlib.pyplot",), {"runtime_mb": 1024}),
    "python_cad": (("cadquery",), (), ("cadquery",), {"runtime_mb": 4096}),
}  # fmt: skip
"""Name: the distributions it needs, those it also shows, what its warm process imports, and what differs."""


def _library(name: str) -> Language | None:
    """The card of Python with libraries, None where one that it needs is not installed."""
    needed, further, imports, different = _LIBRARIES_OF[name]
    if packages.lacking(needed):
        return None
    folders, paths = packages.shown((*needed, *further))
    plain = _python()
    options: dict[str, Any] = {"warm": plain.warm, "folders": folders, "imports": imports} | different
    fonts = tuple(path for path in _FONTS if Path(path).exists())
    return Language(name, (), tuple(dict.fromkeys((*plain.shown, *paths, *fonts))), **options)


def distributions() -> list[str]:
    """Those that programs of any language may import."""
    return ["pytest", *(name for needed, further, _, _ in _LIBRARIES_OF.values() for name in (*needed, *further))]


@cache
def languages() -> dict[str, Language]:
    """The languages that run here, by name."""
    cards = [_python(), _pytest(), *(_other(name) for name in _OTHERS), *(_library(name) for name in _LIBRARIES_OF)]
    return {card.name: card for card in cards if card}


def missing(name: str) -> str:
    """What a known language lacks here, "" for an unknown or an installed one."""
    if name in languages():
        return ""
    if name in _LIBRARIES_OF:
        return f"no package {', '.join(packages.lacking(_LIBRARIES_OF[name][0]))}"
    if name == "python_pytest":
        return "no package pytest"
    return f"no {_OTHERS[name][0]}" if name in _OTHERS else ""
