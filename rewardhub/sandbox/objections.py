"""What a Python program may not do beside the guard: the ways to frames, to the collector's lists, to raw memory.

Loaded by the guard inside, as a module that the program cannot find. Event names: the audit events table
of the Python documentation. ``library`` are the folders of the standard library, first, and of packages.
"""

from __future__ import annotations

# The functions below keep these builtins, whatever the program does to the shared ones.
__builtins__ = dict(vars(__import__("builtins")))  # type: ignore[assignment]

import _imp
import marshal
import os
import sys
from types import CodeType, FrameType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Look = Callable[..., Any]
    Frame = FrameType | None
    Library = tuple[str, ...]

get_frozen, unmarshal = _imp.get_frozen_object, marshal.loads
open_file, read_file, close_file = os.open, os.read, os.close
CACHE_TAG = sys.implementation.cache_tag
PROGRAM, SUFFIX = "<program>", "<suffix>"
GUARD = os.path.join(os.path.dirname(__file__), "guard.py")  # noqa: PTH118, PTH120  # pathlib costs milliseconds

NEVER = frozenset({
    "sys.settrace", "sys.setprofile", "sys.addaudithook", "sys._current_frames", "sys._current_exceptions",
    "gc.get_objects", "gc.get_referrers", "gc.get_referents", "cpython.PyInterpreterState_New",
    "sys.monitoring.register_callback",
})  # fmt: skip
PROCESSES = frozenset({
    "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "subprocess.Popen",
})  # fmt: skip
CODE_MAKERS = frozenset({"code.__new__", "marshal.loads", "marshal.load", "object.__setattr__"})
CODE_USERS = frozenset({"exec", "function.__new__"})
WATCHED = NEVER | PROCESSES | CODE_MAKERS | CODE_USERS | {
    "rewardhub.begin", "rewardhub.end", "sys._getframe", "object.__getattr__", "import", "compile", "open",
}  # fmt: skip
RAW_MODULES = frozenset({
    "_ctypes", "_ctypes_test", "_testcapi", "_testinternalcapi", "_testbuffer", "_xxsubinterpreters", "_interpreters",
    "_testlimitedcapi", "_testexternalinspection", "_remote_debugging",
})  # fmt: skip
FRAME_ATTRIBUTES = frozenset({"tb_frame", "gi_frame", "cr_frame", "ag_frame"})
CODE_ATTRIBUTES = frozenset({"f_code", "__code__", "gi_code", "cr_code", "ag_code"})
TAKE_FRAMES = ("/collections/__init__.py", "/typing.py", "/enum.py", "/warnings.py")
KEEP_FRAMES = ("/logging/__init__.py", "/traceback.py", "/asyncio/base_tasks.py", "/asyncio/coroutines.py")


def objection(
    event: str, arguments: tuple[Any, ...], caller: Frame, look: Look, library: Library, quietly: Look
) -> str:
    """Why the program may not do this, or nothing."""
    if event in NEVER or event[:7] == "ctypes.":
        return event
    if event == "import":
        # The initialiser of an extension is named by the last part alone.
        return f"import of {arguments[0]}" if str(arguments[0]).rpartition(".")[2] in RAW_MODULES else ""
    if event == "open":
        path = arguments[0]
        return "opening /proc" if isinstance(path, str | bytes) and path[:5] in ("/proc", b"/proc") else ""
    file = file_of(caller, look)
    if event == "compile":
        return compile_objection(arguments[1], file, library)
    if event in CODE_USERS:
        return "" if file == GUARD else code_objection(arguments[0], caller, look, library, quietly)
    if owner_is_suffix(caller, look, library):
        return ""
    if event in CODE_MAKERS:
        return "" if file.startswith((*library, "<frozen importlib")) else event
    if event == "sys._getframe":
        return "" if takes_frames(caller, file, look, library) else event
    return attribute_objection(arguments, caller, file, look, library)


def compile_objection(name: Any, file: str, library: Library) -> str:
    # Importing compiles the library under its names, and showing a traceback reparses its lines.
    if file.startswith("<frozen importlib") or file in (SUFFIX, GUARD, f"{library[0]}/threading.py"):
        return ""
    return "compile under a name of the library" if isinstance(name, str) and is_theirs(exact(name), library) else ""


def code_objection(code: Any, caller: Frame, look: Look, library: Library, quietly: Look) -> str:
    """Why this code may not run: its file's name is trusted above, and a code object may claim any."""
    file = exact(code.co_filename) if isinstance(code, CodeType) else ""
    if not is_theirs(file, library):
        return ""
    if file == SUFFIX:
        return "" if owner_is_suffix(caller, look, library) else "code under the name of the suffix"
    return "" if quietly(is_genuine, file, code) else "code under a name of the library"


def is_theirs(file: str, library: Library) -> bool:
    return file in (SUFFIX, GUARD) or file.startswith((*library, "<frozen"))


def exact(text: str) -> str:
    """The text itself, whatever its class redefines."""
    return str.__str__(text)


def is_genuine(file: str, code: CodeType) -> bool:
    """Whether the code is what the library's file of that name holds; the library is read-only."""
    if file.startswith("<frozen "):
        try:
            return bool(code == get_frozen(file[8:-1]))
        except ImportError:
            return False
    if "/../" in file or "//" in file or "/./" in file:
        return False
    folder, _, name = file.rpartition("/")
    cached = f"{folder}/__pycache__/{name.removesuffix('.py')}.{CACHE_TAG}.pyc"
    for path, load in ((cached, lambda data: unmarshal(data[16:])), (file, lambda data: compile(data, file, "exec"))):
        data = contents(path)
        if data and code == load(data):
            return True
    return False


def contents(path: str) -> bytes:
    """The bytes of a file, none where it cannot be read."""
    try:
        descriptor = open_file(path, 0)
    except OSError:
        return b""
    data = b""
    while block := read_file(descriptor, 1 << 20):
        data += block
    close_file(descriptor)
    return data


def attribute_objection(arguments: tuple[Any, ...], caller: Frame, file: str, look: Look, library: Library) -> str:
    thing, name = arguments[:2]
    if name in CODE_ATTRIBUTES:
        code = look(getattr, thing, name)
        mine = isinstance(code, CodeType) and code.co_filename in (SUFFIX, GUARD)
        return name if mine or (name == "f_code" and not file.startswith(library)) else ""
    if name in FRAME_ATTRIBUTES:
        frame = look(getattr, thing, name)
        guarded = frame is not None and file_of(frame, look) == GUARD
        return "" if not guarded and keeps_frames(caller, file, look, library) else name
    return ""


def takes_frames(caller: Frame, file: str, look: Look, library: Library) -> bool:
    """Whether this is one of the library's own uses of frames, none of which hands a frame on."""
    if file.startswith(library) and file.endswith(TAKE_FRAMES):
        return True
    return file.endswith("/logging/__init__.py") and keeps_frames(caller, file, look, library)


def keeps_frames(caller: Frame, file: str, look: Look, library: Library) -> bool:
    """Whether a module that keeps frames to itself is asking on its own behalf."""
    if caller is None or not (file.startswith(library) and file.endswith(KEEP_FRAMES)):
        return False
    back = file_of(caller.f_back, look)
    return back == file or ("/asyncio/" in file and back.startswith(f"{library[0]}/asyncio/"))


def file_of(frame: Frame, look: Look) -> str:
    """The file of the code in a frame, "" without one."""
    return "" if frame is None else exact(look(getattr, frame, "f_code").co_filename)


def owner_is_suffix(frame: Frame, look: Look, library: Library) -> bool:
    """Whether the innermost code that is not the library's is the suffix, which is the reference's and may look."""
    while frame is not None:
        file = file_of(frame, look)
        if not file.startswith((*library, "<frozen")):
            return file == SUFFIX
        frame = frame.f_back
    return False
