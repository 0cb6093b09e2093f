"""Ratings from pairwise results: Elo, and Bradley-Terry by minorise-maximise (Hunter, 2004).

A match is ``(i, j, points)``: the points of i against j, 1 for a win, 1/2 for a tie, 0 for a loss.
"""

import math
from collections.abc import Sequence

Match = tuple[int, int, float]
ELO_START = 1000.0
ELO_K = 32.0
ROUNDS = 200


def expected_points(rating: float, other: float) -> float:
    """What Elo expects of a player against another: 1 / (1 + 10^((other - rating) / 400))."""
    return 1.0 / (1.0 + math.pow(10.0, (other - rating) / 400.0))


def elo(matches: Sequence[Match], count: int) -> list[float]:
    """Elo ratings of ``count`` players after the matches in their order, from 1000 with K = 32."""
    ratings = [ELO_START] * count
    for first, second, points in matches:
        change = ELO_K * (points - expected_points(ratings[first], ratings[second]))
        ratings[first] += change
        ratings[second] -= change
    return ratings


def bradley_terry(matches: Sequence[Match], count: int) -> list[float]:
    """Log-strengths whose differences are the log-odds of winning; 0 is an average player.

    Each player has one tie against an average player added, which keeps those who win or lose
    everything finite. Independent of the order of the matches.
    """
    points = [0.5] * count
    for first, second, won in matches:
        points[first] += won
        points[second] += 1.0 - won
    strengths = [1.0] * count
    for _ in range(ROUNDS):
        meetings = [1.0 / (own + 1.0) for own in strengths]
        for first, second, _ in matches:
            meeting = 1.0 / (strengths[first] + strengths[second])
            meetings[first] += meeting
            meetings[second] += meeting
        strengths = [own / met for own, met in zip(points, meetings, strict=True)]
    return [math.log(each) for each in strengths]
