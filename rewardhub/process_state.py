"""What the kernel says of a process: whether it was stopped, and how much processor time it had."""

import os
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessState(NamedTuple):
    """``code`` is the kernel's letter (R running, S sleeping, T stopped, Z gone), ``cpu_s`` seconds used."""

    code: str
    cpu_s: float


def process_state(pid: int) -> ProcessState:
    """The state of a process; ``Z`` for one that is not there."""
    try:
        stat = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return ProcessState("Z", 0.0)
    try:
        fields = os.read(stat, 4096).rsplit(b")", 1)[1].split()
    except OSError:
        return ProcessState("Z", 0.0)
    finally:
        os.close(stat)
    return ProcessState(fields[0].decode(), (int(fields[11]) + int(fields[12])) / _TICKS)
