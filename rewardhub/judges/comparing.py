"""Comparing responses: every pair, a tournament of pairs, or a ranking of all at once.

Answers without content lose unasked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean

from rewardhub.errors import InvalidInput
from rewardhub.judges.grading import Asker, alone, described, together
from rewardhub.judges.lane import Answer
from rewardhub.judges.pairing import both_orders
from rewardhub.judges.prompt import Block, response_text
from rewardhub.judges.ratings import bradley_terry, elo
from rewardhub.judges.rubric import Case
from rewardhub.judges.tournament import swiss
from rewardhub.raised import failure
from rewardhub.types import Group, Response, Score

MOST_COMPARED = 16
MOST_IN_TOURNAMENT = 128
Strategy = Callable[[Asker, Group, str, list[int], int], Awaitable[dict[int, Score]]]


async def compare_pairs(asker: Asker, group: Group, indices: Sequence[int]) -> list[Score]:
    """The share of points each response takes from the others: 1 a win, 1/2 a tie, mean of both orders.

    Two responses cost two questions, n cost n(n - 1), in a tournament of k rounds at most n k. A failed
    comparison leaves both without a value.
    """
    if asker.rounds:
        return await _compare(asker, group, indices, swiss, MOST_IN_TOURNAMENT)
    return await _compare(asker, group, indices, _round_robin)


async def rank(asker: Asker, group: Group, indices: Sequence[int]) -> list[Score]:
    """1 for the best of a ranking, 0 for the last, evenly between; ``samples`` rankings start elsewhere
    in the list and are averaged.
    """
    return await _compare(asker, group, indices, _listwise)


async def _compare(
    asker: Asker, group: Group, indices: Sequence[int], strategy: Strategy, most: int = MOST_COMPARED
) -> list[Score]:
    if len(indices) < 2:
        return alone(len(indices))
    try:
        if len(indices) > most:
            raise InvalidInput(f"a judge compares at most {most} responses", field="responses")
        shared = asker.shared(group)
        reasons = {index: asker.refusal(Case(group, group.responses[index])) for index in indices}
    except Exception as error:
        return [failure(error)] * len(indices)
    real = [index for index in indices if not reasons[index]]
    ranked = await strategy(asker, group, shared, real, len(indices))
    gated = {index: Score(asker.lowest, details={"reason": why, "gate": True}) for index, why in reasons.items() if why}
    return [(gated | ranked)[index] for index in indices]


async def _round_robin(asker: Asker, group: Group, shared: str, real: list[int], count: int) -> dict[int, Score]:
    pairs = list(combinations(real, 2))
    played = await asyncio.gather(*(both_orders(asker, group, shared, pair) for pair in pairs))
    results: dict[int, list[Score]] = {index: [] for index in real}
    for (first, second), (left, right) in zip(pairs, played, strict=True):
        results[first].append(left)
        results[second].append(right)
    totals = {index: _total(scores, count - len(real)) for index, scores in results.items()}
    if len(real) > 2 and all(left.value is not None for left, _ in played):
        _rate(totals, real, [float(left) for left, _ in played])
    return totals


def _rate(totals: dict[int, Score], real: list[int], points: list[float]) -> None:
    """Adds the Elo and Bradley-Terry ratings of a complete round robin to the details."""
    places = combinations(range(len(real)), 2)
    matches = [(first, second, won) for (first, second), won in zip(places, points, strict=True)]
    for index, by_elo, by_model in zip(real, elo(matches, len(real)), bradley_terry(matches, len(real)), strict=True):
        ratings = {"elo": by_elo, "bradley_terry": by_model}
        totals[index] = replace(totals[index], details={**totals[index].details, **ratings})


def _total(scores: Sequence[Score], walkovers: int) -> Score:
    lost = next((score for score in scores if score.value is None), None)
    if lost is not None:
        return lost
    points = [float(score) for score in scores] + [1.0] * walkovers
    if len(scores) == 1 and not walkovers:
        return scores[0]
    biased = fmean(bool(score.details["position_bias"]) for score in scores) if scores else 0.0
    return Score(fmean(points), details={"points": points, "position_bias_rate": biased})


async def _listwise(asker: Asker, group: Group, shared: str, real: list[int], count: int) -> dict[int, Score]:
    if len(real) < 2:
        return {index: Score(1.0, details={"reason": "no other response has content"}) for index in real}
    turns = min(asker.samples, len(real))
    orders = [real[turn * len(real) // turns :] + real[: turn * len(real) // turns] for turn in range(turns)]
    try:
        answers = await together(_ask_ranking(asker, group, shared, order) for order in orders)
    except Exception as error:
        return dict.fromkeys(real, failure(error))
    places: dict[int, list[int]] = {index: [] for index in real}
    for order, answer in zip(orders, answers, strict=True):
        for place, number in enumerate(answer.verdict):
            places[order[number - 1]].append(place)
    details = {key: value for key, value in described(answers[0]).items() if key != "verdict"}
    return {
        index: Score(1.0 - fmean(found) / (count - 1), details=details | {"places": [place + 1 for place in found]})
        for index, found in places.items()
    }


async def _ask_ranking(asker: Asker, group: Group, shared: str, order: list[int]) -> Answer:
    responses = tuple(group.responses[index] for index in order)
    blocks = tuple(Block(f"RESPONSE {n}", response_text(each)) for n, each in enumerate(responses, 1))
    media = tuple(each for response in responses for each in response.media)
    shown = Case(Group(id=group.id, responses=responses, media=group.media), Response(media=media))
    return await asker.lane.ask(await asker.question(shown, shared, blocks), asker.context)
