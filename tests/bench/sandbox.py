"""Trivial Python programs per second in the sandbox, beside a plain subprocess and bubblewrap per run.

Every engine runs the same programs, as many at once as there are cores, in turns; their outputs must
agree before the speed counts. Bubblewrap is left out, with a line that says so, where it is missing.

    .venv/bin/python -P tests/bench/sandbox.py [PROGRAMS]
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from hub_process import hardware, report

from rewardhub.sandbox import runner
from rewardhub.sandbox.languages import languages
from rewardhub.types import Group, Response
from rewardhub.verifiers.code_exec import code

CARD = languages()["python"]
PYTHON = CARD.warm
CASES = [{"stdin": f"{n} {n + 1}\n", "stdout": str(2 * n + 1)} for n in range(10)]
ADD = "a, b = map(int, input().split())\nprint(a + b)\n"


def ours(text: str) -> str:
    return runner.run(runner.Program(text)).stdout.decode()


def plain(text: str, stdin: str = "") -> str:
    done = subprocess.run([PYTHON, "-I", "-c", text], input=stdin, capture_output=True, text=True, timeout=60)
    return done.stdout


def bubblewrap(text: str) -> str:
    shown = [word for path in CARD.shown for word in ("--ro-bind", path, path)]
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", *shown]
    command += ["--tmpfs", "/tmp", PYTHON, "-I", "-c", text]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def rate(run: Callable[[str], str], count: int) -> float:
    """Programs per second; every output is checked."""
    texts = [f"print({n})" for n in range(count)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        begun = time.perf_counter()
        outputs = list(pool.map(run, texts))
        seconds = time.perf_counter() - begun
    assert outputs == [f"{n}\n" for n in range(count)], outputs[:3]
    return count / seconds


def problems(count: int) -> float:
    """Problems of ten cases per second through the verifier, all solved."""
    group = Group("g", responses=(Response(f"```python\n{ADD}```"),), reference={"language": "python", "cases": CASES})
    bound = code.bind({})
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        begun = time.perf_counter()
        columns = list(pool.map(lambda _: bound.score(group, [0]), range(count)))
    assert all(column.values == [1.0] for column in columns)
    return count / (time.perf_counter() - begun)


def plain_problems(count: int) -> float:
    """The same problems with one subprocess per case."""

    def solve(_: int) -> bool:
        return all(plain(ADD, case["stdin"]).strip() == case["stdout"] for case in CASES)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        begun = time.perf_counter()
        solved = list(pool.map(solve, range(count)))
    assert all(solved)
    return count / (time.perf_counter() - begun)


def bare_fork(text: str) -> str:
    """The same program in a bare fork of a warm process: no isolation, no limits."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        run = exec
        run(compile(text, "program", "exec"), {})
        sys.stdout.flush()
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def at_half_load(run: Callable[[str], str], count: int) -> float:
    """Median milliseconds of one program where half of the cores run one after another."""
    times: list[float] = []

    def client(_: int) -> None:
        for _ in range(count):
            begun = time.perf_counter()
            assert run("print(1)") == "1\n"
            times.append(1000 * (time.perf_counter() - begun))

    clients = max(1, len(os.sched_getaffinity(0)) // 2)
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    return statistics.median(times)


def main(count: int) -> None:
    print(f"{hardware()}; isolation {runner.isolation()}, warm {runner._warm_works()}; {count} programs, best of 3")
    ours("pass")
    peers = {"python_I": plain} | ({"bubblewrap": bubblewrap} if shutil.which("bwrap") else {})
    best: dict[str, float] = {}
    for _ in range(3):
        best["ours"] = max(best.get("ours", 0.0), rate(ours, count))
        for name, run in peers.items():
            best[name] = max(best.get(name, 0.0), rate(run, max(20, count // 10)))
    for name, speed in best.items():
        print(f"{name}: {speed:.0f} programs/s")
    for name in peers:
        report(f"sandbox.trivial_vs_{name}", best["ours"] / best[name], "subprocess" if name == "python_I" else name)
    if "bubblewrap" not in peers:
        print("bubblewrap is not installed: no comparison")
    mine, other = max(problems(count // 10) for _ in range(2)), max(plain_problems(5) for _ in range(2))
    print(f"problems of ten cases: {mine:.1f}/s, one subprocess per case {other:.2f}/s")
    report("sandbox.problems", mine / other, "per-case subprocess")
    mine, plainly, bare = at_half_load(ours, count), at_half_load(plain, 40), at_half_load(bare_fork, count)
    print(f"one program at half load, p50: {mine:.1f} ms, python -I {plainly:.1f} ms, bare fork {bare:.1f} ms")
    report("sandbox.half_load_added_ms_p50", mine - bare, "bare fork of a warm process (milliseconds)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
