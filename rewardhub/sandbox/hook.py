"""The audit hook beside a program: it objects to every step towards the nonce, and sends the nonce at the end.

Loaded by the guard inside, as a module that the program cannot find.
"""

from __future__ import annotations

# The functions below keep these builtins, whatever the program does to the shared ones.
__builtins__ = dict(vars(__import__("builtins")))  # type: ignore[assignment]

import _thread
import gc
import os
import sys
from types import FrameType, ModuleType

TYPE_CHECKING = False  # importing typing would double the start-up time
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Look = Callable[..., Any]
    Frame = FrameType | None
    Arm = Callable[[bytes, int], None]
    Armed = list[tuple[bytes, int, int]]

BEGIN, END = "rewardhub.begin", "rewardhub.end"


def install_hook(rules: ModuleType, library: tuple[str, ...]) -> Arm:
    """Adds the hook, idle but for learning from where the end is said, in a rehearsal; returns what arms it
    with the nonce of a run and its control descriptor, in the process of the run.

    ``rules`` is the module of objections, ``library`` what it takes.
    """
    armed: Armed = []
    sys.addaudithook(make_hook(armed, rules, library))
    get_pid = os.getpid

    def arm(nonce: bytes, control: int) -> None:
        armed.append((nonce, control, get_pid()))

    return arm


def make_hear(armed: Armed, forbid: Callable[[str], None]) -> Callable[[str, Frame, bytes], None]:
    """Hears BEGIN and END; unarmed, in a rehearsal, it learns from where END is said."""
    write, get_pid = os.write, os.getpid
    frames: list[Frame] = []
    place: list[int] = []

    def hear(event: str, frame: Frame, values: bytes) -> None:
        if frame is None:
            forbid("a forged end")
        elif not armed:
            if event == END:
                place[:] = [frame.f_lasti]
        elif event == BEGIN and not frames:
            frames.append(frame)
        elif event == END and frame is frames[0] and frame.f_lasti == place[0] and get_pid() == armed[0][2]:
            line = b"end " + armed[0][0] + (b" " + values if values else b"") + b"\n"
            while line:
                line = line[write(armed[0][1], line) :]
        else:
            forbid("a forged end")

    return hear


def make_forbid(armed: Armed) -> Callable[[str], None]:
    write, leave = os.write, os._exit

    def forbid(what: str) -> None:
        write(armed[0][1], f"forbidden {what}\n".encode("ascii", "replace"))
        leave(1)

    return forbid


def make_hook(armed: Armed, rules: ModuleType, library: tuple[str, ...]) -> Callable[[str, tuple[Any, ...]], None]:
    """The hook. Its own looks at frames raise events too; each is excused once, by thread."""
    get_frame, get_thread, write = sys._getframe, _thread.get_ident, os.write
    collecting, stop_collecting, start_collecting = gc.isenabled, gc.disable, gc.enable
    watched, processes, objection = rules.WATCHED, rules.PROCESSES, rules.objection
    excused: set[int] = set()
    unheard: set[int] = set()
    forbid = make_forbid(armed)
    hear = make_hear(armed, forbid)

    def look(read: Callable[..., Any], *arguments: Any) -> Any:
        me = get_thread()
        excused.add(me)
        try:
            return read(*arguments)
        finally:
            excused.discard(me)

    def quietly(read: Callable[..., Any], *arguments: Any) -> Any:
        # Without the collector, whose finalisers are the program's code.
        me, collects = get_thread(), collecting()
        unheard.add(me)
        stop_collecting()
        try:
            return read(*arguments)
        finally:
            unheard.discard(me)
            if collects:
                start_collecting()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in watched and event[:7] != "ctypes.":
            return
        if not armed and event not in (BEGIN, END):
            return
        me = get_thread()
        if me in unheard:
            return
        if me in excused and event in ("sys._getframe", "object.__getattr__"):
            excused.discard(me)
            return
        try:
            caller = look(get_frame, 2)
        except ValueError:  # raised by C code alone, at exit for instance
            caller = None
        if event in (BEGIN, END):
            hear(event, caller, arguments[0] if event == END and arguments else b"")
        elif event in processes:
            write(armed[0][1], b"process\n")
        elif why := objection(event, arguments, caller, look, library, quietly):
            forbid(why)

    return hook
