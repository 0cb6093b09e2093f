"""Time and memory per response as the work grows from 10^3 to 10^6 responses.

In process, groups of 64, two terms and an expression, streamed; every value is checked. Whoever shares the
machine changes what a second of CPU is worth, so every round measures every size, and each size's least
counts. A full garbage collection takes as long as thousands of responses, so small sizes are repeated until
they have several.

    .venv/bin/python -P tests/bench/scale.py [LARGEST]
"""

import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent
sys.path.append(str(ROOT))
from hub_process import hardware, report

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.local import LocalHub
from rewardhub.types import Call, Group, Response

RECIPE = 'name: t\nterms: {a: {scorer: bench_short}, b: {scorer: bench_ends}}\nvalue: "0.9 * a + 0.1 * b"'
SIZE = 64
ROUNDS, AT_LEAST = 3, 300_000


def groups(count: int):
    for n in range(count // SIZE):
        yield Group(
            str(n), f"{n}?", tuple(Response(f"the answer is {n + k}") for k in range(SIZE)), {"answer": str(n + 7)}
        )


def memory_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(hub: LocalHub, count: int) -> float:
    """Seconds of CPU for so many responses."""
    started = time.process_time()
    for scores in hub.stream(groups(count), Call(recipe_text=RECIPE)):
        assert scores.values[7] == 1.0, scores.values
        assert sum(scores.values) >= 0.9 * SIZE, scores.id
    return time.process_time() - started


def main(largest: int) -> None:
    print(hardware())
    config = HubConfig(workers=1, plugins=(ROOT / "bench_verifiers.py",))
    sizes = [10**power for power in range(3, 10) if 10**power <= largest]
    costs: dict[int, list[float]] = {count: [] for count in sizes}
    with LocalHub(lambda: make_hub(config)) as hub:
        measure(hub, 20_000)
        for _ in range(ROUNDS):
            for count in sizes:
                seconds = sum(measure(hub, count) for _ in range(max(1, AT_LEAST // count)))
                costs[count].append(seconds / max(1, AT_LEAST // count) / (count // SIZE * SIZE))
                print(f"{count:>9,} responses: {1e6 * costs[count][-1]:6.2f} µs each, {memory_mb():7.1f} MB resident")
    least = [min(each) for each in costs.values()]
    report("scale.cost_at_most_over_least", max(least) / min(least), "least cost per response")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 1_000_000)
