"""The vision-language models of the prefix benches, random weights: of 33.6 million, 3 billion and 7 billion parameters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from rewardhub.models.checkpoint import save_classifier
from rewardhub.models.head import new_head
from rewardhub.models.tiny import build_tiny


@dataclass(frozen=True)
class Shape:
    """Settings of the text and of the vision configuration."""

    text: dict[str, Any]
    vision: dict[str, Any]


def _rope(*sections: int) -> dict[str, Any]:
    theta = 10_000.0 if sum(sections) == 32 else 1_000_000.0
    return {"rope_type": "default", "rope_theta": theta, "mrope_section": list(sections)}


PATCHES = {"patch_size": 14, "spatial_merge_size": 2, "window_size": 112}
SMALL = Shape(
    {
        "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8,
        "num_key_value_heads": 4, "max_position_embeddings": 8192, "rope_parameters": _rope(8, 12, 12),
    },
    {
        "depth": 8, "hidden_size": 256, "intermediate_size": 688, "num_heads": 4, "out_hidden_size": 512,
        "fullatt_block_indexes": [3, 7], **PATCHES,
    },
)  # fmt: skip
_LARGE_VISION = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31], **PATCHES,
}  # fmt: skip
THREE_BILLION = Shape(
    {
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2, "max_position_embeddings": 32768, "rope_parameters": _rope(16, 24, 24),
    },
    {**_LARGE_VISION, "out_hidden_size": 2048},
)  # fmt: skip
SEVEN_BILLION = Shape(
    {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "max_position_embeddings": 32768, "rope_parameters": _rope(16, 24, 24),
    },
    {**_LARGE_VISION, "out_hidden_size": 3584},
)  # fmt: skip
"""Layers and widths of Qwen2.5-VL-3B and 7B, with the vocabulary of the tiny model."""


def build_classifier(
    path: Path, seed: int = 0, shape: Shape = SMALL, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Path:
    """A Qwen2.5-VL scalar reward model in the published layout, its weights drawn on ``device``."""
    base = build_tiny(path / "base", seed=seed)
    small: dict[str, Any] = Qwen2_5_VLConfig.from_pretrained(str(base)).to_dict()
    config = Qwen2_5_VLConfig(
        text_config=small["text_config"] | shape.text | {"layer_types": None},
        vision_config=small["vision_config"] | shape.vision,
        **{name: small[name] for name in small if name.endswith("_token_id")},
    )
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        model = Qwen2_5_VLModel(config).eval().to(dtype)
    head = new_head(shape.text["hidden_size"], "none", seed + 1)
    save_classifier(model, head.named_tensors(), base, path / "checkpoint")
    return path / "checkpoint"
