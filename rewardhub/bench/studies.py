"""What lies behind a figure: length, position, margins, the worst mistakes."""

from collections.abc import Iterator, Sequence
from math import floor

from rewardhub.bench.intervals import Estimate, spearman, wilson
from rewardhub.bench.items import Comparison, Game, Item, Judged
from rewardhub.bench.report import LengthStudy, Mistake, Position

_MISTAKES = 10
_BINS = 21


def length_study(judged: Sequence[Judged]) -> LengthStudy:
    """Over valid pairs, in the order as stored; see :class:`~rewardhub.bench.report.LengthStudy`."""
    pairs = [(_longer(item, comparison), game.margin) for item, comparison, game in _valid(judged)]
    both = [*pairs, *((-longer, -margin) for longer, margin in pairs)]
    uneven = [(longer, margin) for longer, margin in pairs if longer]
    decided = [longer * margin > 0 for longer, margin in uneven if margin]
    return LengthStudy(
        correlation=spearman([longer for longer, _ in both], [margin for _, margin in both]),
        pairs=len(pairs),
        prefers_longer=_share(decided),
        label_longer=_share([longer > 0 for longer, _ in uneven]),
        where_longer=_share([margin > 0 for longer, margin in uneven if longer > 0]),
        where_shorter=_share([margin > 0 for longer, margin in uneven if longer < 0]),
    )


def position(judged: Sequence[Judged]) -> Position:
    """Over games with scores; the first game shows the responses as stored, the second swapped."""
    first: list[bool] = []
    agree: list[bool] = []
    for each in judged:
        for comparison, games in zip(each.item.comparisons, each.games, strict=True):
            signs = [_sign(game) for game in games if game.valid()]
            agree += [signs[0] == signs[1]] if len(signs) == 2 else []
            stored = comparison.better < comparison.worse
            shown = (stored, not stored)
            first += [
                (game.margin > 0) == better_first
                for game, better_first in zip(games, shown, strict=True)
                if game.valid() and game.margin
            ]
    return Position(_share(first), _share(agree))


def mistakes(judged: Sequence[Judged]) -> list[Mistake]:
    """The pairs ordered wrongly by the largest margin, one per id."""
    wrong = [
        Mistake(
            item.id,
            item.category,
            game.margin,
            len(item.responses[comparison.better]),
            len(item.responses[comparison.worse]),
        )
        for item, comparison, game in _valid(judged)
        if game.margin < 0
    ]
    worst = sorted(wrong, key=lambda mistake: mistake.margin, reverse=True)
    by_item = {mistake.id: mistake for mistake in worst}
    return sorted(by_item.values(), key=lambda mistake: mistake.margin)[:_MISTAKES]


def histogram(judged: Sequence[Judged]) -> Iterator[tuple[float, float, int]]:
    """Margins in an odd number of equal bins around 0; the outermost 1 % falls into the last bins."""
    margins = [game.margin for _, _, game in _valid(judged)]
    sizes = sorted(abs(margin) for margin in margins)
    widest = sizes[floor(0.99 * (len(sizes) - 1))] if sizes else 0.0
    if not widest:
        return
    width = 2 * widest / _BINS
    counts = [0] * _BINS
    for margin in margins:
        counts[min(max(floor((margin + widest) / width), 0), _BINS - 1)] += 1
    for number, count in enumerate(counts):
        yield -widest + number * width, -widest + (number + 1) * width, count


def _valid(judged: Sequence[Judged]) -> Iterator[tuple[Item, Comparison, Game]]:
    for each in judged:
        for comparison, games in zip(each.item.comparisons, each.games, strict=True):
            if games[0].valid():
                yield each.item, comparison, games[0]


def _longer(item: Item, comparison: Comparison) -> int:
    """By how many characters the better response is longer."""
    return len(item.responses[comparison.better]) - len(item.responses[comparison.worse])


def _sign(game: Game) -> int:
    return (game.margin > 0) - (game.margin < 0)


def _share(answers: Sequence[bool]) -> Estimate:
    return wilson(sum(answers), len(answers)) if answers else Estimate(None, None, None, 0, "none")
