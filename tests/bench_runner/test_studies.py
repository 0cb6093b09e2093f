"""Length, position, margins and mistakes, on items made by hand."""

import pytest

from rewardhub.bench.items import Comparison, Game, Item, Judged
from rewardhub.bench.studies import histogram, length_study, mistakes, position
from rewardhub.types import Status

OK = (Status.OK, Status.OK)
FAILED = Game(1.0, None, (Status.OK, Status.TIMEOUT))


def judged(better, worse, *margins, order=(0, 1), name="i"):
    """One pair with these texts; ``order`` is where the better and the worse are stored."""
    responses = (better, worse) if order == (0, 1) else (worse, better)
    games = tuple(FAILED if margin is None else Game(margin, 0.0, OK) for margin in margins)
    games = games if len(games) == 2 else games * 2
    return Judged(Item(name, "p", responses, (Comparison(*order),)), (games,))


def test_length_study_counts():
    """Shares are over pairs of unequal length that have scores, wherever the better one is stored."""
    study = length_study(
        [
            judged("sho", "sh", 0.01),
            judged("sho", "sh", -0.01, order=(1, 0)),
            judged("sh", "sho", 0.01),
            judged("sh", "long!", -2.0, order=(1, 0)),
            judged("sh", "longest!", 0.0),
            judged("ab", "cd", 1.0),
            judged("long!", "sh", None),
        ]
    )
    assert study.pairs == 6
    assert (study.prefers_longer.value, study.prefers_longer.count) == (0.5, 4)
    assert (study.label_longer.value, study.label_longer.count) == (0.4, 5)
    assert (study.where_longer.value, study.where_longer.count) == (0.5, 2)
    assert study.where_shorter.value == pytest.approx(1 / 3)


@pytest.mark.parametrize(("sign", "rho"), [(1, 1.0), (-1, -1.0)])
def test_length_correlation_ignores_the_label(sign, rho):
    """A scorer that is the length correlates with +1, its negative with -1, though every label is the longer."""
    pairs = [judged("x" * (n + 1), "x", sign * float(n)) for n in range(1, 6)]
    assert length_study(pairs).correlation == pytest.approx(rho)


def test_length_study_without_scores():
    """Without a valid pair there is no correlation and no share."""
    study = length_study([judged("a", "b", None)])
    assert (study.correlation, study.pairs, study.prefers_longer.value) == (None, 0, None)


def test_position_counts_games_and_agreement():
    """The first shown wins where the better is stored first and wins, or is shown second and loses."""
    found = position(
        [
            judged("a", "b", 1.0, -1.0),
            judged("a", "b", 1.0, 1.0),
            judged("a", "b", -1.0, 1.0, order=(1, 0)),
            judged("a", "b", 0.0, 1.0),
            judged("a", "b", 1.0, None),
        ]
    )
    assert (found.first_wins.count, found.first_wins.value) == (8, pytest.approx(6 / 8))
    assert (found.consistent.count, found.consistent.value) == (4, 0.25)


@pytest.mark.parametrize(("margins", "agree"), [((0.0, 0.0), 1), ((0.0, -1.0), 0), ((0.0, 1.0), 0), ((-1.0, -2.0), 1)])
def test_orders_agree_where_they_name_the_same_winner_or_none(margins, agree):
    """Two equal games agree; an equal one and a decided one do not."""
    assert position([judged("a", "b", *margins)]).consistent.value == agree


def test_mistakes_are_sorted_one_per_id():
    """The largest wrong margin of each id comes first; right pairs and failures are no mistakes."""
    pairs = [
        judged("aaa", "b", -1.0, name="x"),
        judged("aaa", "b", -3.0, name="x"),
        judged("aa", "b", -2.0, name="y"),
        judged("aa", "b", 2.0, name="z"),
        judged("aa", "b", 0.0, name="t"),
        judged("aa", "b", None, name="w"),
    ]
    found = mistakes(pairs)
    assert [(each.id, each.margin, each.better_length, each.worse_length) for each in found] == [
        ("x", -3.0, 3, 1),
        ("y", -2.0, 2, 1),
    ]
    assert len(mistakes([judged("a", "b", -float(n + 1), name=str(n)) for n in range(30)])) == 10


def test_histogram_holds_every_pair_and_splits_by_sign():
    """Every valid pair is in one bin; zero lies inside the middle bin; an outlier does not flatten the rest."""
    margins = [0.0, *[(-1.0) ** n * n / 100 for n in range(1, 200)], 1e6]
    bins = list(histogram([judged("a", "b", margin) for margin in margins]))
    assert sum(count for _, _, count in bins) == len(margins)
    assert len(bins) % 2 == 1
    low, high, _ = bins[len(bins) // 2]
    assert low < 0 < high
    assert low == pytest.approx(-high)
    assert bins[-1][1] < 3
    below = sum(count for low, high, count in bins if high <= 0)
    assert below == sum(margin < bins[len(bins) // 2][0] for margin in margins)


def test_histogram_of_nothing():
    """Without margins, or with equal scores only, there is no histogram."""
    assert list(histogram([judged("a", "b", None)])) == []
    assert list(histogram([judged("a", "b", 0.0)])) == []


def test_an_invalid_game_has_no_margin():
    """The margin of a failed game cannot be read by mistake."""
    with pytest.raises(ValueError, match="timeout"):
        _ = FAILED.margin
