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
import atexit
import os
import sys
from types import CodeType, ModuleType

TYPE_CHECKING = False  # importing typing would double the start-up time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PROGRAM, SUFFIX = "<program>", "<suffix>"
RANDOM = "random"
FUTURES = 0x1FE0000
"""The compiler flags of ``__future__`` imports, which hold for the suffix too."""


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
sound, comparing = load_beside("sound"), load_beside("comparing")
hook, objections = load_beside("hook"), load_beside("objections")
handover = load_beside("handover")
BEGIN, END = hook.BEGIN, hook.END
FOLDERS: tuple[str, ...] = ()
"""Of packages that a program may import beside the standard library; set by the warm process."""


def read_job(descriptor: int) -> tuple[bytes, str, str, list[str], bool, bool]:
    """The nonce, the program (prefix and code), the suffix, the expressions to tell the values of,
    whether as JSON, and whether to tell which tests of the suffix came to their end.
    """
    data = b""
    while block := os.read(descriptor, 1 << 16):
        data += block
    os.close(descriptor)
    nonce, lengths, rest = data.split(b"\n", 2)
    text = []
    *sizes, as_json, tests = map(int, lengths.split())
    for length in sizes:
        text.append(rest[:length].decode("utf-8", "surrogatepass"))
        rest = rest[length:]
    return nonce, text[0], text[1], text[2].split("\0") if text[2] else [], bool(as_json), bool(tests)


def compile_program(text: str) -> CodeType:
    return compile(text, PROGRAM, "exec", dont_inherit=True)


def compile_units(program: str, suffix: str, made: dict[str, Callable[..., Any]]) -> tuple[CodeType, CodeType]:
    """The program and its suffix as two units, so that neither can swallow lines of the other.

    A suffix that is no program by itself (the rest of a function, say) makes one unit with the
    program. ``made`` goes into the code of the suffix. Raises what ``compile`` raises.
    """
    try:
        tail = sound.compile_suffix(suffix, SUFFIX, 0, made)
    except (SyntaxError, ValueError):
        return compile_program(program + suffix), compile("", SUFFIX, "exec", dont_inherit=True)
    head = compile_program(program)
    if flags := head.co_flags & FUTURES:
        tail = sound.compile_suffix(suffix, SUFFIX, flags, made)
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
    expressions: list[str], evaluate: Callable[..., Any], as_json: bool = False, ended: list[str] | None = None
) -> Callable[[dict[str, Any]], bytes]:
    """Tells the values of the expressions, each as the hexadecimal digits of what ``plain.encode`` makes of it.

    Where there are tests, the names of those that ``ended`` come last. Raises ``SyntaxError`` for what is
    no expression.
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
        if ended is not None:
            told.append(encode("\n".join(ended)).encode("utf-8", "surrogatepass").hex().encode())
        return b" ".join(told)

    return values


def make_owing(
    values: Callable[[dict[str, Any]], bytes], owed: set[str], ended: list[str]
) -> Callable[[dict[str, Any]], bytes]:
    """Tells the values where all owed tests have ended."""

    def owing(space: dict[str, Any]) -> bytes:
        if owed.difference(ended):
            raise AssertionError("a test did not come to its end")
        return values(space)

    return owing


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


def make_ready(rehearsals: int) -> Callable[[int, int], int]:
    """Does all that needs no job yet, so that many forks share it; returns what runs one job, once.

    After ``rehearsals`` of a job that does nothing the interpreter's caches are filled, which forks would
    fill each for itself. The way to hand over the nonce is gone before the program runs: its closure holds
    it from then on.
    """
    library = (os.path.dirname(os.__file__), *FOLDERS)  # noqa: PTH120  # pathlib costs milliseconds
    compare = comparing.make_compare(library)
    nothing = compile("", SUFFIX, "exec", dont_inherit=True)
    names, stock, arms = prepare(), handover.take_stock(), [hook.install_hook(objections, library)]

    def main(job: int, control: int, arm: Callable[[bytes, int], None]) -> int:
        nonce, program, suffix, expressions, as_json, tests = read_job(job)
        ended: list[str] = []
        made = {sound.COMPARE: compare}
        os.write(control, b"ready\n")
        try:
            owed = set() if tests else sound.owed_tests(suffix)
            if tests or owed:
                made[sound.MARK] = ended.append
            units = compile_units(program, suffix, made) if suffix else (compile_program(program), nothing)
            values = make_values(expressions, eval, as_json, ended if tests else None)
            if owed:
                values = make_owing(values, owed, ended)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            os.write(control, b"uncompiled\n")
            report(error.with_traceback(None), control)
            os._exit(1)
        looks_back = suffix or expressions
        restored = handover.make_restored(names, stock, units[1], FOLDERS, tests) if looks_back else lambda: names
        if (RANDOM in program or RANDOM in suffix) and RANDOM in sys.modules:
            sys.modules[RANDOM].seed()  # a fork repeats its parent's numbers
        del program, suffix, expressions, made
        arm(nonce, control)
        del nonce, arm
        os.write(control, b"started\n")
        ended_by = execute(units, names, exec, sys.audit, restored, values)
        if ended_by is not None:
            report(ended_by, control)
            return 1
        return 0

    for _ in range(rehearsals):
        rehearse(main)
    return lambda job, control: main(job, control, arms.pop())


def rehearse(main: Callable[..., int]) -> None:
    (job, write), void = os.pipe(), os.open(os.devnull, os.O_WRONLY)
    os.write(write, b"\n4 0 0 0 0\npass")
    os.close(write)
    main(job, void, lambda *_: None)
    os.close(void)


def run_warm(main: Callable[[int, int], int], job: int, control: int) -> None:
    """Runs the job and ends this process as the interpreter ends, without taking it to pieces."""
    leave, flush = os._exit, (sys.stdout.flush, sys.stderr.flush)
    count_threads, join = _thread._count, sys.modules["threading"]._shutdown
    last_calls = atexit._run_exitfuncs
    code = main(job, control)
    try:
        if count_threads():
            join()
        last_calls()
        for each in flush:
            each()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        code = 1
    leave(code)


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    sys.exit(make_ready(1)(*given))
