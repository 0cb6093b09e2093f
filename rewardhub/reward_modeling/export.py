"""Writing a trained reward model as a checkpoint and a card, ready to be served."""

import json
from pathlib import Path

from rewardhub.errors import InternalError
from rewardhub.models.backbone import Backbone
from rewardhub.models.checkpoint import save_classifier
from rewardhub.reward_modeling.config import TrainConfig

CHECKPOINT = "checkpoint"
CARD = "card.toml"


def export(backbone: Backbone, base: Path, config: TrainConfig, out: Path, summary: str) -> Path:
    """Writes ``out/checkpoint`` and ``out/card.toml``; returns the card's path."""
    if backbone.head is None:
        raise InternalError("a model without a reward head cannot be exported")
    save_classifier(backbone.base, backbone.head.named_tensors(), base, out / CHECKPOINT)
    card = out / CARD
    card.write_text(card_text(config, summary), encoding="utf-8")
    return card


def card_text(config: TrainConfig, summary: str) -> str:
    """The card of the trained model, beside its checkpoint folder."""
    values: dict[str, object] = {
        "name": config.name, "kind": "scalar", "path": CHECKPOINT, "dtype": config.dtype,
        "device": config.device, "system": config.system, "summary": summary,
    }  # fmt: skip
    if config.max_tokens:
        values["max_tokens"] = config.max_tokens
    if config.max_pixels is not None:
        values["max_pixels"] = config.max_pixels
    # A JSON string without escaped non-ASCII is a TOML basic string.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join([*lines, "", "[head]", f'activation = "{config.activation}"', ""])
