"""Makes ``ctypes`` unreachable in a warm Python process that needed it to isolate its runs.

A program with a pointer type could read and write the memory of the runner beside it. No public name
is enough to hide one: classes are also found through the subclasses of their bases, and a loaded
extension module through its path. So the extension is loaded from a path that nobody can guess, every
class is taken off the list of its bases, and :func:`leak` proves the result by walking everything
that a program can reach.
"""

import gc
import importlib.util
import os
import shutil
import sys
import tempfile
import types
import weakref
from pathlib import Path
from typing import Any

_RAW = ("ctypes", "_ctypes")


def load_ctypes() -> None:
    """Imports ``ctypes`` with its extension from an unguessable path; raises ``ImportError`` if it cannot."""
    spec = importlib.util.find_spec("_ctypes")
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        raise ImportError("_ctypes is not an extension module of its own here")
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(spec.origin, folder)
        moved = importlib.util.spec_from_file_location("_ctypes", copy)
        if moved is None or moved.loader is None:
            raise ImportError("_ctypes cannot be loaded from a copy")
        module = importlib.util.module_from_spec(moved)
        sys.modules["_ctypes"] = module
        moved.loader.exec_module(module)
    importlib.import_module("ctypes")


def forget(prefixes: tuple[str, ...]) -> None:
    """Takes the modules below these names out of ``sys.modules`` and pointer classes off their bases."""
    for name in list(sys.modules):
        if name.split(".")[0] in (*_RAW, *prefixes):
            del sys.modules[name]
    hidden = (*_RAW, *prefixes)
    for kind in _classes():
        if _belongs(kind, hidden):
            _orphan(kind)


def _classes() -> list[type]:
    """Every class, also those that the collector does not know."""
    found: dict[type, None] = {}
    waiting: list[type] = [object]
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found[kind] = None
            waiting.extend(type.__subclasses__(kind))
    return list(found)


def _belongs(kind: type, prefixes: tuple[str, ...]) -> bool:
    return str(kind.__module__).split(".")[0] in prefixes


def _orphan(kind: type) -> None:
    """Removes a class from every dictionary of weak references that a base keeps of its subclasses."""
    for reference in weakref.getweakrefs(kind):
        for holder in gc.get_referrers(reference):
            if isinstance(holder, dict):
                for key in [key for key, value in holder.items() if value is reference]:
                    del holder[key]


def leak() -> str:
    """The first of :func:`leaks`, "" for none; found in a fork, for the search takes memory."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, (leaks() or ["."])[0].encode()[:1000])
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:  # noqa: PTH123
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return "" if said == "." else said or "something: the search failed"


def leaks() -> list[str]:
    """What of ``ctypes`` a program can still reach from the loaded modules, the builtins and all classes."""
    seen: dict[int, Any] = {}
    waiting: list[Any] = [sys.modules, object, type]
    found: list[str] = []
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, types.FrameType):
            continue
        seen[id(thing)] = thing
        owner = thing if isinstance(thing, type) else type(thing)
        if _belongs(owner, _RAW) or (isinstance(thing, types.ModuleType) and vars(thing).get("__name__") in _RAW):
            found.append(repr(owner))
            continue
        if isinstance(thing, type):
            waiting.extend(type.__subclasses__(thing))
        waiting.extend(gc.get_referents(thing))
    return found
