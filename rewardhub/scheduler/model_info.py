"""What a served reward model declares of itself, by its card."""

from rewardhub.models.card import Card
from rewardhub.scorer import ScorerInfo


def info_of(card: Card) -> ScorerInfo:
    """What a served model declares."""
    return ScorerInfo(
        name=card.name, family="reward_model", lane="model", scope=card.scope, cost="dear", range=card.bounds,
        summary=card.summary, signals=False, metadata=card.kind in {"generative", "ensemble"},
    )  # fmt: skip
