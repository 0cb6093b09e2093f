"""Intervals and rank correlation against known values."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.bench.intervals import difference, estimate, spearman, wilson
from rewardhub.bench.policies import Credit, Policy

MICRO, MACRO = Policy("p"), Policy("p", grouping="macro")


def credits_(values, clusters=None, category="c"):
    clusters = clusters or range(len(values))
    return [Credit((n,), value, category, str(c)) for n, (value, c) in enumerate(zip(values, clusters, strict=True))]


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (161, 350, 0.4085, 0.5124)]
)
def test_wilson_known_values(right, count, low, high):
    """Wilson's interval has its textbook values."""
    found = wilson(right, count)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(pair):
    """The interval lies in [0, 1] and holds the share."""
    found = wilson(*pair)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_binary_units_alone_use_wilson():
    """Independent right-or-wrong units under a micro mean get Wilson's interval, everything else the bootstrap."""
    right = [1.0] * 30 + [0.0] * 10
    assert estimate(MICRO, credits_(right)) == wilson(30, 40)
    assert estimate(MICRO, credits_([0.5, *right])).method == "bootstrap"
    assert estimate(MICRO, credits_(right, [n // 2 for n in range(40)])).method == "bootstrap"
    assert estimate(MACRO, credits_(right)).method == "bootstrap"


@pytest.mark.parametrize("policy", [MICRO, MACRO])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_right_still_has_a_width(policy, value):
    """Twenty right pairs in five clusters say less than twenty alone: Wilson's interval over the clusters."""
    found = estimate(policy, credits_([value] * 20, [n // 4 for n in range(20)]))
    five = wilson(5 * value, 5)
    assert (found.value, found.low, found.high, found.count) == (value, five.low, five.high, 20)
    assert found.high - found.low > 0.4


def test_bootstrap_is_seeded_and_near_wilson():
    """The same seed gives the same interval, which on independent units is close to Wilson's."""
    right = credits_([1.0] * 120 + [0.0] * 80)
    once, again, other = (estimate(MACRO, right, seed=seed) for seed in (1, 1, 2))
    assert once == again != other
    exact = wilson(120, 200)
    assert once.value == exact.value
    assert once.low == pytest.approx(exact.low, abs=0.02)
    assert once.high == pytest.approx(exact.high, abs=0.02)


def test_clusters_widen_the_interval():
    """Pairs that repeat each other carry less: 200 pairs in 20 clusters of equals give a wider interval."""
    values = [float(n // 10 % 2) for n in range(200)]
    clustered = estimate(MICRO, credits_(values, [n // 10 for n in range(200)]))
    alone = estimate(MICRO, credits_(values))
    assert clustered.high - clustered.low > 2.5 * (alone.high - alone.low)


def test_interval_covers_as_often_as_it_says():
    """Over 300 draws of 200 coins the clustered bootstrap covers the truth about 95 % of the time."""
    draw = random.Random(5)
    covered = 0
    for _ in range(60):
        values = [float(draw.random() < 0.7) for _ in range(100) for _ in range(2)]
        found = estimate(MICRO, credits_(values, [n // 2 for n in range(200)]), seed=draw.randrange(1000))
        covered += found.low <= 0.7 <= found.high
    assert 51 <= covered


def test_nothing_counted():
    """Without units there is no value, not a zero."""
    found = estimate(MICRO, [])
    assert (found.value, found.low, found.high, found.count) == (None, None, None, 0)


def test_difference_is_paired():
    """A difference of scorers that agree on all but five units is far tighter than two intervals."""
    ours = credits_([1.0] * 105 + [0.0] * 95)
    theirs = credits_([1.0] * 100 + [0.0] * 100)
    found = difference(MICRO, ours, theirs)
    assert found.value == pytest.approx(0.025)
    assert 0 < found.low < found.high < 0.06
    assert difference(MICRO, ours, []).value is None


def test_spearman():
    """Rank correlation sees any monotone relation, its sign, ties, and constant sides."""
    assert spearman([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826817)
    assert spearman([1, 1], [1, 2]) is None
    assert spearman([], []) is None
