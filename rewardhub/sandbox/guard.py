"""Runs one Python program to its end and says so with a nonce that the program cannot reach.

A script of its own, started by the launcher as ``python guard.py JOB CONTROL``, or run by a child of the
warm process; it imports nothing of this package. The program shares its interpreter, so the nonce must be out of reach:

* it lives in the closure of an audit hook, which Python offers no way to list;
* the hook sends it only when the one frame that runs the units asks, from the one instruction behind
  them; ``sys.exit``, ``os._exit``, a second call of that function and a forged event are not that;
* every way to frames, to the collector's lists, to tracing, to another hook and to raw memory raises
  an audit event, and the program is ended, with the reason, where it goes there. Signal handlers,
  which would be handed frames, are denied by the system-call filter.

Event names: the audit events table of the Python documentation.
"""

from __future__ import annotations

# The functions below keep these builtins, whatever the program does to the shared ones.
__builtins__ = dict(vars(__import__("builtins")))  # type: ignore[assignment]

import _sitebuiltins
import _thread
import os
import sys
from types import CodeType, FrameType, ModuleType

TYPE_CHECKING = False  # importing typing would double the start-up time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Look = Callable[..., Any]
    Frame = FrameType | None
    Hear = Callable[[str, Frame, bytes], None]

PROGRAM, SUFFIX, GUARD = "<program>", "<suffix>", __file__
BEGIN, END = "rewardhub.begin", "rewardhub.end"
FUTURES = 0x1FE0000
"""The compiler flags of ``__future__`` imports, which hold for the suffix too."""

NEVER = frozenset({
    "sys.settrace", "sys.setprofile", "sys.addaudithook", "sys._current_frames", "sys._current_exceptions",
    "gc.get_objects", "gc.get_referrers", "gc.get_referents", "cpython.PyInterpreterState_New",
    "sys.monitoring.register_callback",
})  # fmt: skip
PROCESSES = frozenset({
    "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "subprocess.Popen",
})  # fmt: skip
CODE_MAKERS = frozenset({"code.__new__", "marshal.loads", "marshal.load", "object.__setattr__"})
WATCHED = NEVER | PROCESSES | CODE_MAKERS | {
    BEGIN, END, "sys._getframe", "object.__getattr__", "import", "compile", "open",
}  # fmt: skip
RAW_MODULES = frozenset({
    "_ctypes", "_ctypes_test", "_testcapi", "_testinternalcapi", "_testbuffer", "_xxsubinterpreters", "_interpreters",
    "_testlimitedcapi", "_testexternalinspection", "_remote_debugging",
})  # fmt: skip
FRAME_ATTRIBUTES = frozenset({"tb_frame", "gi_frame", "cr_frame", "ag_frame"})
CODE_ATTRIBUTES = frozenset({"f_code", "__code__", "gi_code", "cr_code", "ag_code"})
TAKE_FRAMES = ("/collections/__init__.py", "/typing.py", "/enum.py", "/warnings.py")
KEEP_FRAMES = ("/logging/__init__.py", "/traceback.py", "/asyncio/base_tasks.py", "/asyncio/coroutines.py")


def load_beside(name: str) -> ModuleType:
    """A module of this folder that no table of modules holds."""
    folder = os.path.dirname(__file__)  # noqa: PTH120
    sys.path.insert(0, folder)
    try:
        return __import__(name)
    finally:
        sys.path.remove(folder)
        sys.path_importer_cache.pop(folder, None)
        sys.modules.pop(name, None)


encode = load_beside("plain").encode


def read_job(descriptor: int) -> tuple[bytes, str, str, list[str], bool]:
    """The nonce, the program (prefix and code), the suffix, the expressions to tell the values of, and
    whether as JSON.
    """
    data = b""
    while block := os.read(descriptor, 1 << 20):
        data += block
    os.close(descriptor)
    nonce, lengths, rest = data.split(b"\n", 2)
    text = []
    *sizes, as_json = map(int, lengths.split())
    for length in sizes:
        text.append(rest[:length].decode("utf-8", "surrogatepass"))
        rest = rest[length:]
    return nonce, text[0], text[1], text[2].split("\0") if text[2] else [], bool(as_json)


def compile_units(program: str, suffix: str) -> tuple[CodeType, CodeType]:
    """The program and its suffix as two units, so that neither can swallow lines of the other.

    A suffix that is no program by itself (the rest of a function, say) makes one unit with the
    program. Raises what ``compile`` raises.
    """
    try:
        tail = compile(suffix, SUFFIX, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        whole = compile(program + suffix, PROGRAM, "exec", dont_inherit=True)
        return whole, compile("", SUFFIX, "exec", dont_inherit=True)
    head = compile(program, PROGRAM, "exec", dont_inherit=True)
    if flags := head.co_flags & FUTURES:
        tail = compile(suffix, SUFFIX, "exec", flags, dont_inherit=True)
    return head, tail


def execute(
    units: tuple[CodeType, CodeType],
    names: dict[str, Any],
    run: Callable[..., None],
    say: Callable[..., None],
    restored: Callable[[], dict[str, Any]],
    values: Callable[[dict[str, Any]], bytes],
) -> BaseException | None:
    """Runs both units; what it calls are fast locals, out of reach of patched builtins."""
    try:
        say(BEGIN)
        run(units[0], names)
        space = restored()
        run(units[1], space)
        say(END, values(space))
    except BaseException as error:
        return error
    return None


def make_values(
    expressions: list[str], evaluate: Callable[..., Any], as_json: bool
) -> Callable[[dict[str, Any]], bytes]:
    """Tells the values of the expressions, each as the hexadecimal digits of what ``plain.encode`` makes of it.

    Raises ``SyntaxError`` for what is no expression.
    """
    units = [compile(text, SUFFIX, "eval", dont_inherit=True) for text in expressions]

    def values(space: dict[str, Any]) -> bytes:
        told = []
        for unit in units:
            try:
                text = encode(evaluate(unit, space), as_json=as_json)
            except BaseException as error:
                text = f"!{type(error).__name__}"
            told.append(text.encode("utf-8", "surrogatepass").hex().encode())
        return b" ".join(told)

    return values


def names_in(code: CodeType) -> set[str]:
    """The global names and attributes that a unit mentions."""
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*(names_in(each) for each in inner))


def make_restored(names: dict[str, Any], mentioned: set[str]) -> Callable[[], dict[str, Any]]:
    """Gives the suffix its names, with the builtins as they were.

    Where the program defines a builtin's name over (``abs``, say) the suffix sees the builtin, unless
    such names are all of the program that it mentions: then they are what it tests.
    """
    shared = vars(sys.modules["builtins"])
    saved = dict(shared)

    def restored() -> dict[str, Any]:
        shared.update(saved)
        names["__builtins__"] = shared
        defined = mentioned.intersection(names)
        covered = defined.intersection(saved)
        if not covered or covered == defined:
            return names
        return {name: value for name, value in names.items() if name not in covered}

    return restored


def make_end(nonce: bytes, control: int, forbid: Callable[[str], None]) -> Hear:
    """Hears BEGIN and END. The first pair is a rehearsal that shows from where END is said."""
    write, get_pid, owner = os.write, os.getpid, os.getpid()
    frames: list[Frame] = []
    place: list[int] = []

    def hear(event: str, frame: Frame, values: bytes) -> None:
        if frame is None:
            forbid("a forged end")
        elif event == BEGIN and len(frames) < 2:
            frames.append(frame)
        elif event == END and len(frames) == 1 and frame is frames[0]:
            place.append(frame.f_lasti)
        elif event == END and frame is frames[1] and frame.f_lasti == place[0] and get_pid() == owner:
            line = b"end " + nonce + (b" " + values if values else b"") + b"\n"
            while line:
                line = line[write(control, line) :]
        else:
            forbid("a forged end")

    return hear


def make_forbid(control: int) -> Callable[[str], None]:
    write, leave = os.write, os._exit

    def forbid(what: str) -> None:
        write(control, f"forbidden {what}\n".encode("ascii", "replace"))
        leave(1)

    return forbid


def make_hook(nonce: bytes, control: int, library: str) -> Callable[[str, tuple[Any, ...]], None]:
    """The audit hook. Its own looks at frames raise events too; each is excused once, by thread."""
    get_frame, get_thread, write = sys._getframe, _thread.get_ident, os.write
    excused: set[int] = set()
    forbid = make_forbid(control)
    hear = make_end(nonce, control, forbid)

    def look(read: Callable[..., Any], *arguments: Any) -> Any:
        me = get_thread()
        excused.add(me)
        try:
            return read(*arguments)
        finally:
            excused.discard(me)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in WATCHED and event[:7] != "ctypes.":
            return
        me = get_thread()
        if me in excused and event in ("sys._getframe", "object.__getattr__"):
            excused.discard(me)
            return
        try:
            caller = look(get_frame, 2)
        except ValueError:  # raised by C code alone, at exit for instance
            caller = None
        if event in (BEGIN, END):
            hear(event, caller, arguments[0] if event == END and arguments else b"")
        elif event in PROCESSES:
            write(control, b"process\n")
        elif why := objection(event, arguments, caller, look, library):
            forbid(why)

    return hook


def objection(event: str, arguments: tuple[Any, ...], caller: Frame, look: Look, library: str) -> str:
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
    if owner_is_suffix(caller, look):
        return ""
    if event in CODE_MAKERS:
        return "" if file.startswith((library, "<frozen importlib")) else event
    if event == "sys._getframe":
        return "" if takes_frames(caller, file, look, library) else event
    return attribute_objection(arguments, caller, file, look, library)


def compile_objection(name: Any, file: str, library: str) -> str:
    # Importing compiles the library under its names, and showing a traceback reparses its lines.
    if file.startswith("<frozen importlib") or file in (GUARD, f"{library}/threading.py"):
        return ""
    if not isinstance(name, str):
        return ""
    return "compile under a name of the library" if name.startswith((library, "<frozen", SUFFIX)) else ""


def attribute_objection(arguments: tuple[Any, ...], caller: Frame, file: str, look: Look, library: str) -> str:
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


def takes_frames(caller: Frame, file: str, look: Look, library: str) -> bool:
    """Whether this is one of the library's own uses of frames, none of which hands a frame on."""
    if file.startswith(library) and file.endswith(TAKE_FRAMES):
        return True
    return file.endswith("/logging/__init__.py") and keeps_frames(caller, file, look, library)


def keeps_frames(caller: Frame, file: str, look: Look, library: str) -> bool:
    """Whether a module that keeps frames to itself is asking on its own behalf."""
    if caller is None or not (file.startswith(library) and file.endswith(KEEP_FRAMES)):
        return False
    back = file_of(caller.f_back, look)
    return back == file or ("/asyncio/" in file and back.startswith(f"{library}/asyncio/"))


def file_of(frame: Frame, look: Look) -> str:
    """The file of the code in a frame, "" without one."""
    return "" if frame is None else str(look(getattr, frame, "f_code").co_filename)


def owner_is_suffix(frame: Frame, look: Look) -> bool:
    """Whether the innermost code of the program is the suffix, which is the reference's and may look."""
    while frame is not None:
        if (file := file_of(frame, look)) in (PROGRAM, SUFFIX, GUARD):
            return file == SUFFIX
        frame = frame.f_back
    return False


def report(error: BaseException, control: int) -> None:
    """Tells the parent what ended the program; a claim, good for nothing but a failing verdict."""
    os.write(control, b"error " + type(error).__name__.encode("ascii", "replace") + b"\n")
    if isinstance(error, SystemExit):
        os.write(control, b"left\n" if error.code in (None, 0) else b"")
        return
    if isinstance(error, SyntaxError):
        error.text = (error.text or "")[:200]
    trace = error.__traceback__
    sys.__excepthook__(type(error), error.with_traceback(trace.tb_next if trace else None), None)


def prepare() -> dict[str, Any]:
    """A fresh ``__main__`` with what ``site`` would add, and arguments without a trace of this script."""
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = ["program.py"]
    sys.orig_argv = ["python", "program.py"]
    builtins = sys.modules["builtins"]
    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
    vars(module)["__builtins__"] = builtins
    return vars(module)


def run_warm(job: int, control: int) -> None:
    """Runs the job and ends this process as the interpreter ends, without taking it to pieces."""
    leave, flush = os._exit, (sys.stdout.flush, sys.stderr.flush)
    join, last_calls = sys.modules["threading"]._shutdown, __import__("atexit")._run_exitfuncs
    code = main(job, control)
    try:
        join()
        last_calls()
        for each in flush:
            each()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        code = 1
    leave(code)


def main(job: int, control: int) -> int:
    """Runs the job to its end; returns the exit code."""
    nonce, program, suffix, expressions, as_json = read_job(job)
    os.write(control, b"ready\n")
    try:
        units = compile_units(program, suffix)
        values = make_values(expressions, eval, as_json)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        os.write(control, b"uncompiled\n")
        report(error.with_traceback(None), control)
        os._exit(1)
    del program, suffix, expressions
    nothing = compile_units("", "")
    names = prepare()
    library = os.path.dirname(os.__file__)  # noqa: PTH120  # pathlib costs milliseconds
    sys.addaudithook(make_hook(nonce, control, library))
    del nonce
    execute(nothing, {}, exec, sys.audit, make_restored({}, set()), make_values([], eval, False))
    os.write(control, b"started\n")
    ended_by = execute(units, names, exec, sys.audit, make_restored(names, names_in(units[1])), values)
    if ended_by is not None:
        report(ended_by, control)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
