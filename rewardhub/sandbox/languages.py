"""Languages of sandboxed programs: a language is one card."""

import os
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_GUARD = str(Path(__file__).with_name("guard.py"))
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")


@dataclass(frozen=True, slots=True)
class Language:
    """How a language runs: ``command`` is followed by the job and control descriptors; ``shown`` are
    the host's paths that its runtime needs, read-only; ``runtime_mb`` is its own share of memory;
    ``warm`` is the Python interpreter of its warm processes.
    """

    name: str
    command: tuple[str, ...]
    shown: tuple[str, ...]
    runtime_mb: int
    warm: str = ""


def _python() -> Language:
    # The base interpreter: the virtual environment and its packages stay outside.
    interpreter = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    library = str(Path(sysconfig.get_path("stdlib")).parent)
    shown = [path for path in _LIBRARIES if Path(path).exists()]
    shown += [path for path in (library, interpreter, _GUARD) if not path.startswith(("/lib/", "/usr/lib/"))]
    return Language(
        "python", (interpreter, "-S", "-s", "-P", "-B", _GUARD), tuple(dict.fromkeys(shown)), 64, interpreter
    )


@cache
def languages() -> dict[str, Language]:
    """The known languages by name."""
    return {card.name: card for card in (_python(),)}
