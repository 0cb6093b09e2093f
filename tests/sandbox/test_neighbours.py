"""Hostile programs beside honest ones: the honest ones keep their verdicts and their pace."""

import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rewardhub.sandbox.languages import languages
from rewardhub.sandbox.runner import Program, run
from rewardhub.sandbox.verdicts import Limits, Verdict

sys.path.insert(0, str(Path(__file__).parent))
from test_containment import ESCAPES, VERDICTS
from test_languages import HOSTILE

HONEST = "import json\nn = sum(i * i for i in range(20000))\nprint(json.dumps({'n': n, 'k': input()}))"
LIMITS = Limits(time_s=1.0, memory_mb=128, output_kb=64)
PROGRAMS = [Program(text) for text, _ in VERDICTS.values()] + [Program(text) for text in ESCAPES.values()]
PROGRAMS += [Program(text, language=name) for name, text, _ in HOSTILE.values() if name in languages()]


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


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_hostile_programs_leave_neighbours_alone() -> None:
    """T50-T60 three times each beside eight honest jobs: no pass, and every honest verdict as alone."""
    assert len(PROGRAMS) >= 60
    honest(16)
    alone = honest(64)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(honest, 64, stop)
        try:
            for program in PROGRAMS * 3:
                assert run(program, "", LIMITS).verdict is not Verdict.OK, program
        finally:
            stop.set()
        times = beside.result()
    p95 = [statistics.quantiles(each, n=20)[-1] for each in (alone, times)]
    print(f"p95 alone {p95[0] * 1000:.0f} ms, beside {p95[1] * 1000:.0f} ms, ratio {p95[1] / p95[0]:.2f}")
