"""The vision-language model that the prefix bench scores with: 33.6 million parameters, random weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

from rewardhub.models.checkpoint import save_classifier
from rewardhub.models.head import new_head
from rewardhub.models.tiny import build_tiny

TEXT = {
    "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 4, "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [8, 12, 12]},
}  # fmt: skip
VISION = {
    "depth": 8, "hidden_size": 256, "intermediate_size": 688, "num_heads": 4, "out_hidden_size": 512,
    "patch_size": 14, "spatial_merge_size": 2, "window_size": 112, "fullatt_block_indexes": [3, 7],
}  # fmt: skip


def build_classifier(path: Path, seed: int = 0) -> Path:
    """A Qwen2.5-VL scalar reward model of eight text and eight vision layers, in the published layout."""
    base = build_tiny(path / "base", seed=seed)
    small: dict[str, Any] = Qwen2_5_VLConfig.from_pretrained(str(base)).to_dict()
    config = Qwen2_5_VLConfig(
        text_config=small["text_config"] | TEXT | {"layer_types": None},
        vision_config=small["vision_config"] | VISION,
        **{name: small[name] for name in small if name.endswith("_token_id")},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLModel(config).eval()
    save_classifier(model, new_head(TEXT["hidden_size"], "none", seed + 1).named_tensors(), base, path / "checkpoint")
    return path / "checkpoint"
