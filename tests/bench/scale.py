"""Time and memory per response as the work grows from 10^3 to 10^6 responses.

In process, groups of 64, two terms and an expression, streamed; every value is checked.

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


def groups(count: int):
    for n in range(count // SIZE):
        yield Group(
            str(n), f"{n}?", tuple(Response(f"the answer is {n + k}") for k in range(SIZE)), {"answer": str(n + 7)}
        )


def memory_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(largest: int) -> None:
    print(hardware())
    config = HubConfig(workers=1, plugins=(ROOT / "bench_verifiers.py",))
    costs = {}
    with LocalHub(lambda: make_hub(config)) as hub:
        list(hub.stream(groups(20_000), Call(recipe_text=RECIPE)))
        count = 1_000
        while count <= largest:
            repeat = max(1, 30_000 // count)
            started, seen = time.process_time(), 0
            for _ in range(repeat):
                for scores in hub.stream(groups(count), Call(recipe_text=RECIPE)):
                    ends = int(scores.id) + 7
                    assert scores.values[7] == 1.0, scores.values
                    assert sum(scores.values) >= 0.9 * SIZE, ends
                    seen += len(scores)
            costs[count] = (time.process_time() - started) / seen
            print(f"{count:>9,} responses: {1e6 * costs[count]:6.2f} µs each, {memory_mb():7.1f} MB resident")
            count *= 10
    report("scale.cost_at_most_over_least", max(costs.values()) / min(costs.values()), "least cost per response")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 1_000_000)
