"""Estimates with 95 % intervals: shares, means of group means, and differences of two scorers."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Literal

from rewardhub.bench.policies import Credit, Policy

_Z = 1.959963984540054
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share in [0, 1] (or a difference of two) with its 95 % interval; None where nothing counts.

    ``count`` is the number of units behind it.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int
    method: Literal["wilson", "bootstrap", "none"]


_NOTHING = Estimate(None, None, None, 0, "none")


def estimate(policy: Policy, credits_: Sequence[Credit], *, seed: int = 0) -> Estimate:
    """The policy's figure over these credits.

    Wilson's score interval where every unit is right or wrong and stands alone; else the percentile
    bootstrap over clusters, inside each group for a macro mean, with this seed. Where all units are
    right, or all wrong, the bootstrap would be blind: then it is Wilson's interval over the clusters.
    """
    if not credits_:
        return _NOTHING
    values = {credit.value for credit in credits_}
    clusters = len({credit.cluster for credit in credits_})
    if values in ({0.0}, {1.0}):
        return replace(wilson(clusters * values.pop(), clusters), count=len(credits_))
    if policy.grouping == "micro" and clusters == len(credits_) and values == {0.0, 1.0}:
        return wilson(sum(credit.value for credit in credits_), len(credits_))
    low, high = _bootstrap(policy, [(credit, credit.value) for credit in credits_], seed)
    return Estimate(_figure(policy, credits_), low, high, len(credits_), "bootstrap")


def difference(policy: Policy, ours: Sequence[Credit], theirs: Sequence[Credit], *, seed: int = 0) -> Estimate:
    """How much higher the first scorer's figure is, paired on the units that both were counted on."""
    other = {credit.key: credit.value for credit in theirs}
    paired = [(credit, credit.value - other[credit.key]) for credit in ours if credit.key in other]
    if not paired:
        return _NOTHING
    low, high = _bootstrap(policy, paired, seed)
    return Estimate(_plain(policy, paired), low, high, len(paired), "bootstrap")


def wilson(right: float, count: int) -> Estimate:
    """Wilson's score interval of a binomial share (Wilson 1927, equation for z = 1.96)."""
    share = right / count
    scale = 1 + _Z * _Z / count
    centre = (share + _Z * _Z / (2 * count)) / scale
    half = _Z * sqrt(share * (1 - share) / count + _Z * _Z / (4 * count * count)) / scale
    # At 0 and 1 rounding may push an end past the share or out of range.
    low, high = max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
    return Estimate(share, low, high, count, "wilson")


def _figure(policy: Policy, credits_: Sequence[Credit]) -> float:
    return _plain(policy, [(credit, credit.value) for credit in credits_])


def _plain(policy: Policy, weighted: Sequence[tuple[Credit, float]]) -> float:
    strata = _strata(policy, weighted)
    return sum(_share(clusters) for clusters in strata) / len(strata)


def _bootstrap(policy: Policy, weighted: Sequence[tuple[Credit, float]], seed: int) -> tuple[float, float]:
    strata = _strata(policy, weighted)
    choose = random.Random(seed)
    draws = [_draw(choose.choices, strata) for _ in range(_RESAMPLES)]
    draws.sort()
    return draws[round(0.025 * (_RESAMPLES - 1))], draws[round(0.975 * (_RESAMPLES - 1))]


def _draw(choices: Callable[..., list[tuple[float, int]]], strata: list[list[tuple[float, int]]]) -> float:
    return sum(_share(choices(clusters, k=len(clusters))) for clusters in strata) / len(strata)


def _share(clusters: Sequence[tuple[float, int]]) -> float:
    return sum(total for total, _ in clusters) / sum(count for _, count in clusters)


def _strata(policy: Policy, weighted: Sequence[tuple[Credit, float]]) -> list[list[tuple[float, int]]]:
    """Per group (all units are one group in a micro mean), the sum and number of each cluster."""
    strata: dict[str, dict[str, tuple[float, int]]] = {}
    for credit, value in weighted:
        clusters = strata.setdefault(credit.category if policy.grouping == "macro" else "", {})
        total, count = clusters.get(credit.cluster, (0.0, 0))
        clusters[credit.cluster] = (total + value, count + 1)
    return [list(clusters.values()) for clusters in strata.values()]


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation with mean ranks for ties; None where a side does not vary."""
    ranks = _ranks(first), _ranks(second)
    centre = (len(first) - 1) / 2
    left, right = ([rank - centre for rank in side] for side in ranks)
    norm = sqrt(sum(x * x for x in left) * sum(y * y for y in right))
    return sum(x * y for x, y in zip(left, right, strict=True)) / norm if norm else None


def _ranks(values: Sequence[float]) -> list[float]:
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values)):
        places.setdefault(value, []).append(place)
    return [sum(places[value]) / len(places[value]) for value in values]
