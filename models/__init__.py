"""Reward models: backbones, heads, scoring backends, cards. Import them as ``rewardhub.models``."""

if __name__ == "models":
    raise ImportError("this folder is the package rewardhub.models; import it by that name")

from typing import TYPE_CHECKING

from rewardhub.models.card import Card as Card
from rewardhub.models.card import load_card as load_card

if TYPE_CHECKING:
    from rewardhub.models.model import RewardModel


def load(card: Card) -> "RewardModel":
    """The reward model of a card, in memory on its device.

    Raises ``ConfigError`` where the checkpoint may not or cannot be loaded. Imports torch.
    """
    from rewardhub.models.kinds import build
    from rewardhub.models.notes import note_measured

    model = build(card)
    if card.measured is not None:
        note_measured(card, model.fingerprint)
    return model
