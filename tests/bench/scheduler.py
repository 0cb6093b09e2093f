"""The hub's own cost: the latency that it adds to a lone request. Overload and fairness: ``overload.py``.

In process; every value is checked against the nonce oracle.

    .venv/bin/python -P tests/bench/scheduler.py
"""

import asyncio
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent
sys.path += [str(ROOT), str(ROOT.parent / "chaos")]
from chaos_verifiers import oracle
from hub_process import hardware, report

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.hub import Hub
from rewardhub.registry import default_registry
from rewardhub.types import Call, Group, Response

PLUGIN = ROOT.parent / "chaos" / "chaos_verifiers.py"


def group_of(n: int, size: int = 1) -> Group:
    return Group(f"g{n}", f"prompt {n}", tuple(Response(f"{n}/{k}") for k in range(size)))


def at(seconds: list[float], share: float) -> float:
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def lone(hub: Hub) -> None:
    """A request when nothing else runs, against the direct call of the same scorer."""
    bound = hub.book.registry.get("nonce").bind({})
    direct, scored = [], []
    for n in range(3000):
        group = group_of(n)
        started = time.perf_counter()
        value = bound.score(group, [0]).values[0]
        direct.append(time.perf_counter() - started)
        started = time.perf_counter()
        (scores,) = await hub.score([group], Call(recipe="nonce"))
        scored.append(time.perf_counter() - started)
        assert scores.values == [value] == [oracle(group.prompt, group.responses[0].text)]
    print(
        f"lone request: direct p50 {at(direct, 0.5):.3f} ms, hub p50 {at(scored, 0.5):.3f} p99 {at(scored, 0.99):.3f} ms"
    )
    report("scheduler.lone_added_ms_p50", at(scored, 0.5) - at(direct, 0.5), "direct call")
    report("scheduler.lone_added_ms_p99", at(scored, 0.99) - at(direct, 0.5), "direct call")


async def main() -> None:
    print(hardware())
    hub = make_hub(HubConfig(workers=1), default_registry([PLUGIN]))
    await hub.start()
    await lone(hub)
    await hub.aclose()


if __name__ == "__main__":
    asyncio.run(main())
