"""Runs a Python program that has nothing to prove to the parent: what it prints is all that is judged.

Run by a child of a warm process whose libraries are loaded. Such a program may do to its own process
whatever a compiled one may, so nothing in here is a secret. Behind the program, however it left, comes
its probe, which looks at what the program made and writes to descriptor 3; that is a claim of the program too.
"""

import _sitebuiltins
import atexit
import base64
import json
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

CONTROL = 3
_NAMES = ("program.py", "<probe>")


def run(job: int) -> NoReturn:
    """Runs the job, a JSON list of the program, its probe and its files, and ends this process with its exit code."""
    data = b""
    while block := os.read(job, 1 << 20):
        data += block
    os.close(job)
    program, probe, files = json.loads(data)
    for name, content in files.items():
        folder = os.path.dirname(name)  # noqa: PTH120  # pathlib costs milliseconds
        os.makedirs(folder or ".", exist_ok=True)  # noqa: PTH103
        with open(name, "wb") as file:  # noqa: PTH123
            file.write(base64.b64decode(content))
    leave, space = os._exit, _main_module()
    finish = (sys.modules["threading"]._shutdown, atexit._run_exitfuncs)
    code = _execute(program, _NAMES[0], space, exec)
    if probe and code == 0:
        code = _execute(probe, _NAMES[1], {"made": space, "tell": _tell}, exec)
    try:
        for each in (*finish, sys.stdout.flush, sys.stderr.flush):
            each()
    except BaseException:
        code = code or 1
    leave(code)


def _main_module() -> dict[str, Any]:
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = [_NAMES[0]]
    for name in ("exit", "quit"):
        setattr(sys.modules["builtins"], name, _sitebuiltins.Quitter(name, "Ctrl-D"))
    return vars(module)


def _execute(source: str, name: str, space: dict[str, Any], run_unit: Callable[..., None]) -> int:
    try:
        run_unit(compile(source, name, "exec", dont_inherit=True), space)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException as error:
        trace = error.__traceback__
        sys.__excepthook__(type(error), error.with_traceback(trace.tb_next if trace else None), None)
        return 1
    return 0


def _tell(data: bytes) -> None:
    """Writes all of ``data`` for the parent."""
    view = memoryview(data)
    while view:
        view = view[os.write(CONTROL, view) :]
