"""Metric policies: what counts as right, and over what the share is taken.

Official metrics of preference sets differ on five axes, and reports mix them up. A :class:`Policy`
states each of them by name, so that a figure says how it was made, and so that one set of stored
scores gives the official figure and its alternatives.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rewardhub.bench.items import Comparison, Game, Judged

Unit = Literal["pair", "item", "cluster", "best", "best_shared"]
Order = Literal["stored", "net", "mean", "both"]
Invalid = Literal["wrong", "dropped", "stated"]


@dataclass(frozen=True, slots=True)
class Policy:
    """A metric, declared.

    ``unit``: a ``pair``; an ``item``, whose credit is the mean over its comparisons; a ``cluster``,
    right if every pair of it is right; ``best``, an item that is right if the response with the highest
    score is, the first one of equals; ``best_shared``, the same with equals sharing the credit.
    ``order``: ``stored`` takes the game as stored; ``net`` is right if more of the two games say so
    than say the opposite; ``mean`` averages the two games; ``both`` asks both to be right.
    ``tie``: credit in [0, 1] for equal scores. ``invalid``: a game without ``ok`` scores is ``wrong``
    or ``dropped`` from the denominator; ``stated`` accepts the values that a recipe states for
    ``no_answer`` and ``over_limit`` and counts the rest as wrong.
    ``grouping``: ``micro`` over all units, ``macro`` the mean of the means of the groups ``by``.
    ``label_ties``: items labelled as ties are ``skipped``, or right where the scores are equal.
    """

    name: str
    unit: Unit = "pair"
    order: Order = "mean"
    tie: float = 0.0
    invalid: Invalid = "wrong"
    grouping: Literal["micro", "macro"] = "micro"
    by: str = "category"
    label_ties: Literal["skipped", "equal"] = "skipped"
    version: int = 1

    def alternative(self, name: str, **changes: object) -> "Policy":
        """Another policy: some axes of this one changed."""
        return replace(self, name=name, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Credit:
    """What one unit earned, in [0, 1]; ``key`` is the same for the same unit under another scorer."""

    key: tuple[object, ...]
    value: float
    category: str
    cluster: str


Keep = Callable[[Comparison], bool]


def every(_: Comparison) -> bool:
    return True


def credits_of(policy: Policy, judged: Sequence[Judged], keep: Keep = every) -> list[Credit]:
    """The credit of every unit that the policy counts, made of the comparisons that ``keep`` keeps."""
    if policy.unit in {"best", "best_shared"}:
        return [credit for row, each in enumerate(judged) for credit in _best(policy, row, each)]
    pairs = [pair for row, each in enumerate(judged) for pair in _pairs(policy, row, each, keep)]
    if policy.unit == "pair":
        return pairs
    if policy.unit == "item":
        return _joined(pairs, lambda credit: credit.key[:1], _mean)
    return _joined(pairs, lambda credit: (credit.category, credit.cluster), min)


def _pairs(policy: Policy, row: int, judged: Judged, keep: Keep) -> Iterable[Credit]:
    item = judged.item
    if item.tie and policy.label_ties == "skipped":
        return
    for number, (comparison, games) in enumerate(zip(item.comparisons, judged.games, strict=True)):
        credit = _credit(policy, games, tie=item.tie) if keep(comparison) else None
        if credit is not None:
            yield Credit((row, number), credit, item.label(policy.by), item.cluster or f"row {row}")


def _best(policy: Policy, row: int, judged: Judged) -> Iterable[Credit]:
    item = judged.item
    scores = [score for score in judged.scores if score is not None]
    if len(scores) == len(item.responses):
        top = max(scores)
        right = [float(item.correct[index]) for index, score in enumerate(scores) if score == top]
        value = _mean(right) if policy.unit == "best_shared" else right[0]
    elif policy.invalid == "dropped":
        return
    else:
        value = 0.0
    yield Credit((row,), value, item.label(policy.by), item.cluster or f"row {row}")


def _credit(policy: Policy, games: tuple[Game, Game], *, tie: bool) -> float | None:
    asked = games[:1] if policy.order == "stored" else games
    valid = [game for game in asked if game.valid(stated=policy.invalid == "stated")]
    if not valid:
        return None if policy.invalid == "dropped" else 0.0
    if policy.order == "net" and not tie:
        net = sum((game.margin > 0) - (game.margin < 0) for game in valid)
        undecided = policy.tie if len(valid) == len(asked) else 0.0
        return 1.0 if net > 0 else undecided if net == 0 else 0.0
    earned = [_game_credit(policy, game, tie=tie) for game in valid]
    if policy.order == "both":
        return min(earned) if len(valid) == len(asked) else 0.0
    return sum(earned) / (len(valid) if policy.invalid == "dropped" else len(asked))


def _game_credit(policy: Policy, game: Game, *, tie: bool) -> float:
    if tie:
        return float(game.margin == 0)
    return 1.0 if game.margin > 0 else policy.tie if game.margin == 0 else 0.0


def _joined(
    pairs: Iterable[Credit], key: Callable[[Credit], tuple[object, ...]], join: Callable[[list[float]], float]
) -> list[Credit]:
    groups: dict[tuple[object, ...], list[Credit]] = {}
    for pair in pairs:
        groups.setdefault(key(pair), []).append(pair)
    return [
        Credit(name, join([pair.value for pair in group]), group[0].category, group[0].cluster)
        for name, group in groups.items()
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
