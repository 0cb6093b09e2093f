"""What the kernel says of a worker: whether it was stopped, and how much processor time it had."""

import os
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessState(NamedTuple):
    """``code`` is the kernel's letter (R running, S sleeping, T stopped, Z gone), ``cpu_s`` seconds used."""

    code: str
    cpu_s: float


def process_state(pid: int) -> ProcessState:
    """The state of a process; ``Z`` for one that is not there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ProcessState("Z", 0.0)
    return ProcessState(fields[0], (int(fields[11]) + int(fields[12])) / _TICKS)
