"""Hostile programs beside honest ones: the honest ones keep their verdicts and their pace."""

import os
import resource
import shutil
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from rewardhub.sandbox.languages import languages
from rewardhub.sandbox.runner import Program, run
from rewardhub.sandbox.verdicts import Limits, Verdict

sys.path.insert(0, str(Path(__file__).parent))
from test_containment import ESCAPES, VERDICTS
from test_forged_code import HACKS as FORGERIES
from test_hostile_natives import HOSTILE as NATIVES
from test_languages import HOSTILE
from test_reward_hacks import HACKS

MOST_WARM = 2 * len(os.sched_getaffinity(0)) * 6
"""Further warm processes, two each, that the load may have started: at most one per core and language."""
HONEST = "import json\nn = sum(i * i for i in range(20000))\nprint(json.dumps({'n': n, 'k': input()}))"
LIMITS = Limits(time_s=1.0, memory_mb=128, output_kb=64)
PROGRAMS = [Program(text) for text, _ in VERDICTS.values()] + [Program(text) for text in ESCAPES.values()]
PROGRAMS += [Program(text, language=name) for name, text, _ in HOSTILE.values() if name in languages()]
PROGRAMS += [Program(text, language=name) for name, text in NATIVES.values() if name in languages()]


def honest(count: int, stop: threading.Event | None = None) -> list[float]:
    """Runs eight honest jobs at once until ``stop``, at least ``count``; their seconds, each output checked."""
    times: list[float] = []

    def one(number: int) -> None:
        begun = time.perf_counter()
        result = run(Program(HONEST), f"{number}\n")
        times.append(time.perf_counter() - begun)
        assert result.verdict is Verdict.OK, result
        assert result.stdout == b'{"n": 2666466670000, "k": "%d"}\n' % number

    with ThreadPoolExecutor(8) as pool:
        while len(times) < count or (stop and not stop.is_set()):
            list(pool.map(one, range(8)))
    return times


def test_there_are_enough_of_them() -> None:
    """R11, R13: at least 60 hostile programs and 40 reward hacks, no two alike."""
    hostile = {text for text, _ in VERDICTS.values()} | {*ESCAPES.values()}
    hostile |= {text for _, text, _ in HOSTILE.values()} | {text for _, text in NATIVES.values()}
    hacks = {*HACKS.values(), *FORGERIES.values()}
    assert len(hostile) >= 60
    assert len(hacks) >= 40
    assert not hostile & hacks


def descendants() -> set[int]:
    """The processes below this one."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, waiting = set(), [os.getpid()]
    while waiting:
        parent = waiting.pop()
        children = [pid for pid, its in parents.items() if its == parent and pid not in found]
        found.update(children)
        waiting += children
    return found


def zombies() -> list[int]:
    """Those of :func:`descendants` that nobody has reaped."""
    return [pid for pid in descendants() if state(pid) == "Z"]


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def resident_mb() -> float:
    """Of this process and all below it."""
    total = 0.0
    for pid in {os.getpid(), *descendants()}:
        with suppress(OSError, ValueError, IndexError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    return total


def left_in_tmp() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("rewardhub-run-")}


def host_mb() -> dict[str, float]:
    """What the whole machine has in use: of the disks, and of memory that only a file system holds."""
    used = {path: shutil.disk_usage(path).used / 2**20 for path in ("/", tempfile.gettempdir(), "/dev/shm")}  # noqa: S108
    lines = Path("/proc/meminfo").read_text().splitlines()
    return used | {"Shmem": next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Shmem:"))}


def mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_hostile_programs_leave_neighbours_alone() -> None:
    """T50-T60 three times each beside eight honest jobs: no pass, and every honest verdict as alone."""
    assert len(PROGRAMS) >= 60
    honest(16)
    alone = honest(64)
    for name in {program.language for program in PROGRAMS}:
        run(Program("", language=name))
    before, memory, tmp = descendants(), resident_mb(), left_in_tmp()
    host, mounted = host_mb(), mounts()
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(honest, 64, stop)
        try:
            for program in PROGRAMS * 3:
                assert run(program, "", LIMITS).verdict is not Verdict.OK, program
        finally:
            stop.set()
        times = beside.result()
    deadline = time.monotonic() + 1.0
    while len(descendants()) > len(before) + MOST_WARM and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(descendants()) <= len(before) + MOST_WARM
    assert zombies() == []
    assert left_in_tmp() == tmp
    assert resident_mb() < memory + 300
    assert mounts() == mounted
    # Others use the machine too; what one run may write, left by each of them, would be more than this.
    grown = {name: used - host[name] for name, used in host_mb().items()}
    assert max(grown.values()) < 1024, grown
    p95 = [statistics.quantiles(each, n=20)[-1] for each in (alone, times)]
    print(f"p95 alone {p95[0] * 1000:.0f} ms, beside {p95[1] * 1000:.0f} ms, ratio {p95[1] / p95[0]:.2f}")
