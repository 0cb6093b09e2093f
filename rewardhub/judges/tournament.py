"""A Swiss tournament: few questions order many responses."""

import asyncio
import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from rewardhub.judges.grading import Asker
from rewardhub.judges.pairing import both_orders
from rewardhub.judges.ratings import Match, bradley_terry
from rewardhub.types import Group, Score


async def swiss(asker: Asker, group: Group, shared: str, real: list[int], _: int) -> dict[int, Score]:
    """How likely each response wins against an average one, by Bradley-Terry over ``asker.rounds`` rounds.

    Each round plans the next: it pairs neighbours in the standing so far that have not met; who finds nobody
    sits out. The value is in (0, 1), 1 for a response that is alone with content.
    """
    if len(real) < 2:
        return {index: Score(1.0, details={"reason": "no other response has content"}) for index in real}
    place = {index: number for number, index in enumerate(real)}
    points, failures, matches = dict.fromkeys(real, 0.0), dict[int, Score](), list[Match]()
    met: set[frozenset[int]] = set()
    for _ in range(asker.rounds):
        pairs = _pairs({index: points[index] for index in real if index not in failures}, met)
        met |= {frozenset(pair) for pair in pairs}
        played = await asyncio.gather(*(both_orders(asker, group, shared, pair) for pair in pairs))
        for (first, second), (left, right) in zip(pairs, played, strict=True):
            if left.value is None:
                failures |= {first: left, second: right}
                continue
            points[first] += left.value
            points[second] += 1.0 - left.value
            matches.append((place[first], place[second], left.value))
    strengths = bradley_terry(matches, len(real))
    return {index: failures.get(index) or _score(strengths[place[index]], points[index]) for index in real}


def _pairs(points: Mapping[int, float], met: AbstractSet[frozenset[int]]) -> list[tuple[int, int]]:
    """Neighbours in the standing, the best first, each with the next below that it has not met."""
    waiting = sorted(points, key=lambda index: -points[index])
    pairs = []
    while waiting:
        first = waiting.pop(0)
        second = _unmet(first, waiting, met)
        if second is not None:
            waiting.remove(second)
            pairs.append((first, second))
    return pairs


def _unmet(first: int, others: Iterable[int], met: AbstractSet[frozenset[int]]) -> int | None:
    return next((other for other in others if frozenset({first, other}) not in met), None)


def _score(strength: float, points: float) -> Score:
    return Score(1.0 / (1.0 + math.exp(-strength)), details={"points": points, "bradley_terry": strength})
