"""Runs one Python program to its end and says so with a nonce that the program cannot reach.

A script of its own, started by the launcher as ``python guard.py JOB CONTROL``. It imports nothing of
this package. The program shares its interpreter, so whoever holds the nonce must be out of reach:

* the nonce lives in the closure of an audit hook, which Python offers no way to list;
* the hook sends it only when the one frame that runs the units asks from the one instruction behind
  them; ``sys.exit``, ``os._exit``, a second call of that function and a forged event are not that;
* every way to a frame, to the collector's lists, to tracing, to another hook, to code objects and to
  raw memory raises an audit event, and the program is ended with a reason where it goes there.
  Signal handlers, which would be handed frames, are denied by the system-call filter.

Source of the event names: the audit events table of the Python documentation.
"""

import os
import sys
from collections.abc import Callable
from types import CodeType, FrameType, ModuleType
from typing import Any, NoReturn

PROGRAM, SUFFIX, GUARD = "<program>", "<suffix>", __file__
BEGIN, END = "rewardhub.begin", "rewardhub.end"
FUTURES = 0x1FE0000
"""The compiler flags of ``__future__`` imports, which hold for the suffix too."""

Hook = Callable[[str, tuple[Any, ...]], None]

NEVER = frozenset({
    "sys.settrace", "sys.setprofile", "sys.addaudithook", "sys._current_frames", "sys._current_exceptions",
    "gc.get_objects", "gc.get_referrers", "gc.get_referents", "cpython.PyInterpreterState_New",
    "sys.monitoring.register_callback", "sys.remote_exec",
})  # fmt: skip
PROCESSES = frozenset({
    "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.spawn", "os.system", "subprocess.Popen",
})  # fmt: skip
CODE_MAKERS = frozenset({"code.__new__", "marshal.loads", "marshal.load", "object.__setattr__"})
MODULES = frozenset({
    "_ctypes", "_ctypes_test", "_testcapi", "_testinternalcapi", "_testbuffer", "_testclinic",
    "_xxsubinterpreters", "_interpreters",
})  # fmt: skip
FRAMES = frozenset({"tb_frame", "gi_frame", "cr_frame", "ag_frame"})
CODES = frozenset({"f_code", "__code__", "gi_code", "cr_code", "ag_code"})
INSPECTORS = ("/inspect.py", "/dis.py", "/bdb.py", "/pdb.py")


def read_job(descriptor: int) -> tuple[bytes, str, str]:
    """The nonce, the program (prefix and code) and the suffix."""
    data = b""
    while block := os.read(descriptor, 1 << 20):
        data += block
    os.close(descriptor)
    nonce, length, rest = data.split(b"\n", 2)
    cut = int(length)
    return nonce, rest[:cut].decode("utf-8", "surrogatepass"), rest[cut:].decode("utf-8", "surrogatepass")


def compile_units(program: str, suffix: str) -> tuple[CodeType, CodeType]:
    """The program and its suffix as two units, so that neither can swallow the other's lines.

    A suffix that is not a program by itself (the rest of a function, say) makes one unit with the
    program. Raises what ``compile`` raises.
    """
    try:
        tail = compile(suffix, SUFFIX, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return compile(program + suffix, PROGRAM, "exec", dont_inherit=True), compile("", SUFFIX, "exec")
    head = compile(program, PROGRAM, "exec", dont_inherit=True)
    if flags := head.co_flags & FUTURES:
        tail = compile(suffix, SUFFIX, "exec", flags, True)
    return head, tail


def execute(
    head: CodeType, tail: CodeType, names: dict[str, Any], run: Callable[..., None], say: Callable[[str], None],
    restore: Callable[[], None],
) -> BaseException | None:  # fmt: skip
    """Runs both units; what it calls are fast locals, out of reach of patched builtins."""
    try:
        say(BEGIN)
        run(head, names)
        restore()
        run(tail, names)
        say(END)
    except BaseException as error:
        return error
    return None


def make_restore(names: dict[str, Any]) -> Callable[[], None]:
    """Puts the builtins back, so that the suffix does not run on patched ones."""
    module = sys.modules["builtins"].__dict__
    saved = dict(module)
    update, put = module.update, names.__setitem__

    def restore() -> None:
        update(saved)
        put("__builtins__", saved)

    return restore


def make_hook(nonce: bytes, control: int, library: str) -> Hook:
    """The audit hook; the first BEGIN and END are a rehearsal that shows where END is said."""
    get_frame, write, leave, get_pid = sys._getframe, os.write, os._exit, os.getpid
    owner = get_pid()
    seen: list[Any] = []
    told: set[str] = set()

    def end(frame: FrameType) -> None:
        if len(seen) == 2:
            seen[1] = (seen[0].f_code, frame.f_lasti)
            return
        if frame is not seen[2] or seen[1] != (seen[0].f_code, frame.f_lasti) or get_pid() != owner:
            forbid("forging the end")
        write(control, b"end " + nonce + b"\n")

    def forbid(what: str) -> NoReturn:
        write(control, f"forbidden {what}\n".encode("ascii", "replace"))
        leave(1)

    def trusted(frame: FrameType | None) -> bool:
        if frame is None:
            return False
        name = frame.f_code.co_filename
        return name.startswith((library, "<frozen ")) and not name.endswith(INSPECTORS)

    def by_suffix(frame: FrameType | None) -> bool:
        while frame is not None:
            name = frame.f_code.co_filename
            if name in (PROGRAM, SUFFIX):
                return name == SUFFIX
            frame = frame.f_back
        return False

    def inside_guard(frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code.co_filename == GUARD and frame.f_code is not execute.__code__:
                return frame.f_back is not None and frame.f_back.f_code.co_filename != GUARD
            frame = frame.f_back
        return False

    return _hook_of(end, forbid, trusted, by_suffix, inside_guard, get_frame, control, told, seen, write)
