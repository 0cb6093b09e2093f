"""An open-loop load generator with the nonce oracle. Seeded, bounded, loopback only; ends by itself.

    .venv/bin/python -P tests/bench/load.py grpc://127.0.0.1:8081 --rate 200 --seconds 10 --size 8

The hub must serve `tests/chaos/chaos_verifiers.py` as a plugin. Arrivals are Poisson and never wait for
answers, so that a slow hub is seen as slow. Every value is checked against the hash of its own input.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

sys.path.append(str(Path(__file__).parent.parent / "chaos"))
from chaos_verifiers import oracle

from rewardhub.client import AsyncClient
from rewardhub.errors import RewardHubError
from rewardhub.types import Call, Group, GroupScores, Response


@dataclass
class Outcome:
    """What a run came to; ``wrong`` must be 0."""

    sent: int = 0
    scored: int = 0
    wrong: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    refusals_s: list[float] = field(default_factory=list)

    def check(self, group: Group, scores: GroupScores, seconds: float) -> None:
        if len(scores) != len(group.responses) or scores.id != group.id:
            self.wrong += len(group.responses)
            return
        for response, score in zip(group.responses, scores, strict=True):
            self.statuses[str(score.status)] += 1
            if score.value is None:
                self.wrong += score.status.is_verdict
            else:
                self.wrong += score.value != (0.0 if score.status != "ok" else oracle(group.prompt, response.text))
                self.scored += score.status == "ok"
        (self.latencies_s if scores.values and scores.values[0] is not None else self.refusals_s).append(seconds)

    def summary(self) -> str:
        ordered = sorted(self.latencies_s) or [0.0]
        refused = sorted(self.refusals_s) or [0.0]

        def at(values: list[float], share: float) -> float:
            return 1000 * values[min(len(values) - 1, int(share * len(values)))]

        return (
            f"{self.sent} responses sent, {self.scored} scored, {self.wrong} wrong, {dict(self.statuses)}\n"
            f"goodput {self.scored / self.seconds:,.0f}/s; ms p50 {at(ordered, 0.5):.1f} p99 {at(ordered, 0.99):.1f} "
            f"p99.9 {at(ordered, 0.999):.1f}; refusals ms p50 {at(refused, 0.5):.1f} p99 {at(refused, 0.99):.1f}"
        )


async def run(
    url: str, recipe: str, *, rate: float, seconds: float, size: int, seed: int = 0, deadline_ms: int = 5_000,
    retries: int = 0, priority: str = "online", inline: str = "",
) -> Outcome:  # fmt: skip
    """Sends groups of ``size`` at ``rate`` groups per second for ``seconds`` and checks every answer."""
    rng = random.Random(seed)
    outcome = Outcome()
    call = Call(recipe=recipe, recipe_text=inline, deadline_ms=deadline_ms, priority=priority, details=False)
    running: set[asyncio.Task[None]] = set()
    started = time.perf_counter()
    async with AsyncClient(url, on_failure="none", retries=retries) as client:

        async def one(group: Group) -> None:
            sent = time.perf_counter()
            try:
                (scores,) = await client.score([group], call)
            except RewardHubError as error:
                outcome.statuses[f"raised {error.code}"] += len(group.responses)
                outcome.refusals_s.append(time.perf_counter() - sent)
                return
            outcome.check(group, scores, time.perf_counter() - sent)

        due, n = started, 0
        while due < started + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            texts = tuple(Response(f"{seed}/{n}/{k}/{rng.random()}") for k in range(size))
            outcome.sent += size
            task = asyncio.create_task(one(Group(f"{seed}-{n}", f"prompt {rng.random()}", texts)))
            running.add(task)
            task.add_done_callback(running.discard)
            due += rng.expovariate(rate)
            n += 1
        await asyncio.gather(*running)
    outcome.seconds = time.perf_counter() - started
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the hub, http:// or grpc://")
    parser.add_argument("--recipe", default="nonce")
    parser.add_argument("--rate", type=float, default=100.0, help="groups per second")
    parser.add_argument("--seconds", type=float, default=10.0, help="at most 600")
    parser.add_argument("--size", type=int, default=8, help="responses of a group")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if urlsplit(options.url).hostname not in {"127.0.0.1", "localhost", "::1"}:
        parser.error("loopback only")
    seconds = min(options.seconds, 600.0)
    asked = run(options.url, options.recipe, rate=options.rate, seconds=seconds, size=options.size, seed=options.seed)
    try:
        outcome = asyncio.run(asked)
    except RewardHubError as error:
        parser.error(str(error))
    print(outcome.summary())
    sys.exit(bool(outcome.wrong))


if __name__ == "__main__":
    main()
