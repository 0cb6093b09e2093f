"""Every axis of a policy, on games made by hand."""

import pytest

from rewardhub.bench.benchmarks import BENCHMARKS
from rewardhub.bench.intervals import estimate
from rewardhub.bench.items import Comparison, Game, Item, Judged
from rewardhub.bench.policies import Policy, credits_of
from rewardhub.types import Status

OK = (Status.OK, Status.OK)
WIN, LOSE, EQUAL = Game(2.0, 1.0, OK), Game(1.0, 2.0, OK), Game(1.0, 1.0, OK)
DEAD = Game(1.0, None, (Status.OK, Status.TIMEOUT))
STATED = Game(1.0, 0.0, (Status.OK, Status.NO_ANSWER))


def judged(*pairs, category="c", cluster="", tie=False, labels=None):
    item = Item("i", "p", ("a", "b"), (Comparison(0, 1),) * len(pairs), category=category, cluster=cluster, tie=tie,
                labels=labels or {})  # fmt: skip
    return Judged(item, pairs)


def values(policy, *items):
    return [credit.value for credit in credits_of(policy, items)]


@pytest.mark.parametrize(
    ("games", "net", "mean", "both", "stored"),
    [
        ((WIN, WIN), 1, 1, 1, 1),
        ((WIN, LOSE), 0, 0.5, 0, 1),
        ((LOSE, WIN), 0, 0.5, 0, 0),
        ((WIN, EQUAL), 1, 0.5, 0, 1),
        ((EQUAL, EQUAL), 0, 0, 0, 0),
        ((LOSE, LOSE), 0, 0, 0, 0),
        ((WIN, DEAD), 1, 0.5, 0, 1),
        ((DEAD, WIN), 1, 0.5, 0, 0),
        ((LOSE, DEAD), 0, 0, 0, 0),
        ((DEAD, DEAD), 0, 0, 0, 0),
    ],
)
def test_order_policies(games, net, mean, both, stored):
    """Two games of a pair become one credit as the order policy says; a failure is never right."""
    got = {order: values(Policy("p", order=order), judged(games))[0] for order in ("net", "mean", "both", "stored")}
    assert got == {"net": net, "mean": mean, "both": both, "stored": stored}


@pytest.mark.parametrize("order", ["net", "mean", "both", "stored"])
def test_tie_credit(order):
    """Equal scores in both games earn the tie credit under every order policy, failures do not."""
    policy = Policy("p", order=order, tie=0.5)
    assert values(policy, judged((EQUAL, EQUAL)), judged((DEAD, DEAD))) == [0.5, 0.0]


def test_a_half_failed_tie_is_no_tie():
    """A win and a loss in the two orders are a tie under ``net``; an equal game beside a failure is not."""
    policy = Policy("p", order="net", tie=0.5)
    assert values(policy, judged((WIN, LOSE)), judged((EQUAL, DEAD)), judged((DEAD, EQUAL))) == [0.5, 0.0, 0.0]


@pytest.mark.parametrize("order", ["net", "mean", "both", "stored"])
def test_invalid_policies(order):
    """A failed pair is wrong, or leaves the denominator; a stated value counts only where asked for."""
    items = [judged((WIN, WIN)), judged((DEAD, DEAD)), judged((STATED, STATED))]
    assert values(Policy("p", order=order), *items) == [1, 0, 0]
    assert values(Policy("p", order=order, invalid="dropped"), *items) == [1]
    assert values(Policy("p", order=order, invalid="stated"), *items) == [1, 0, 1]


def test_item_unit_is_the_mean_of_its_comparisons():
    """An item's credit is the share of its comparisons that are right."""
    item = judged((WIN, WIN), (LOSE, LOSE), (WIN, WIN), (WIN, WIN))
    assert values(Policy("p", unit="item"), item) == [0.75]


def test_cluster_unit_needs_every_pair():
    """A cluster is right if all of its pairs are; items without a cluster stand alone."""
    items = [judged((WIN, WIN), cluster="x"), judged((LOSE, LOSE), cluster="x"), judged((WIN, WIN), cluster="y"),
             judged((WIN, WIN)), judged((LOSE, LOSE))]  # fmt: skip
    assert sorted(values(Policy("p", unit="cluster"), *items)) == [0, 0, 1, 1]


def test_macro_is_the_mean_of_group_means():
    """A macro mean weighs a group of one like a group of three."""
    items = [judged((LOSE, LOSE), category="few"), *[judged((WIN, WIN), category="many")] * 3]
    micro, macro = Policy("p"), Policy("p", grouping="macro")
    assert estimate(micro, credits_of(micro, items)).value == 0.75
    assert estimate(macro, credits_of(macro, items)).value == 0.5


def test_macro_by_another_label():
    """``by`` takes the groups from the item's labels."""
    items = [judged((LOSE, LOSE), labels={"s": "few"}), *[judged((WIN, WIN), labels={"s": "many"})] * 3]
    policy = Policy("p", grouping="macro", by="s")
    assert estimate(policy, credits_of(policy, items)).value == 0.5


def test_labelled_ties():
    """Items labelled as ties are skipped, or right exactly where the scores are equal."""
    items = [judged((WIN, WIN), tie=True), judged((EQUAL, EQUAL), tie=True), judged((WIN, WIN))]
    assert values(Policy("p"), *items) == [1]
    for order in ("net", "mean", "both", "stored"):
        assert values(Policy("p", order=order, label_ties="equal"), *items) == [0, 1, 1]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_policies_of_a_benchmark_have_names_of_their_own(name):
    """No two figures of a benchmark share a name, and every alternative differs from the official one."""
    benchmark = BENCHMARKS[name]
    policies = [*benchmark.official, *benchmark.alternatives]
    assert len({policy.name for policy in policies}) == len(policies)
    assert len({policy.alternative("same") for policy in policies}) == len(policies)
