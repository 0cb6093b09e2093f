"""Tiny random checkpoints of the supported families, in the layout that transformers writes."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.utils import logging

from rewardhub.models.families import FAMILIES
from rewardhub.models.tiny import build_tiny, tiny_tokenizer

WIDTH = 64
TEXT = {
    "hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 2048, "pad_token_id": None,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14}
NORM = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_rescale": True, "do_resize": True}
ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3], "mrope_interleaved": True}
QWEN_VISION = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": WIDTH,
    "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 64,
}  # fmt: skip
QWEN_IMAGES = {
    "image_processor_type": "Qwen2VLImageProcessor", "patch_size": 16, "merge_size": 2, "temporal_patch_size": 2,
    "size": {"shortest_edge": 32 * 32, "longest_edge": 128 * 128}, **NORM,
}  # fmt: skip


TILE_TAGS = ("<global-img>", *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)))
TAGS = {"smolvlm": TILE_TAGS}
"""Tokens of parts of an image, which Idefics3's own tokenizer does not have."""


def build(kind: str, path: Path, seed: int = 0, begun: tuple[str, ...] | None = None) -> Path:
    """Writes a checkpoint folder of a family with a linear reward head, and returns it.

    ``begun`` are control tokens in place of the family's first beginning.
    """
    path.mkdir(parents=True)
    family = FAMILIES[kind]
    tokenizer = tiny_tokenizer()
    more = begun if begun is not None else family.begins[:1]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in (*family.tokens, *more, *TAGS.get(kind, ()))]
    )
    tokenizer.save(str(path / "tokenizer.json"))
    config, images = CONFIGS[kind](lambda token: tokenizer.token_to_id(token), tokenizer.get_vocab_size())
    torch.manual_seed(seed)
    made = AutoConfig.for_model(kind, **config)
    model = (AutoModelForImageTextToText if family.image else AutoModelForCausalLM).from_config(made)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                # Gemma 3's projection of images is made of zeros.
                parameter.mul_(3.0) if parameter.any() else parameter.normal_(std=0.2)
    logging.disable_progress_bar()
    model.save_pretrained(str(path))
    if images:
        (path / "preprocessor_config.json").write_text(json.dumps(images))
    head = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(seed)) * 0.2
    save_file({"v_head.summary.weight": head, "v_head.summary.bias": torch.tensor([0.1])},
              path / "value_head.safetensors")  # fmt: skip
    return path


def _qwen3_vl(token, size):
    text = TEXT | {"vocab_size": size, "rope_parameters": ROPE, "num_hidden_layers": 3}
    vision = QWEN_VISION | {"deepstack_visual_indexes": [0, 1]}
    return {"text_config": text, "vision_config": vision, **_qwen_ids(token)}, QWEN_IMAGES


def _qwen3_5(token, size):
    text = TEXT | {
        "vocab_size": size, "rope_parameters": ROPE | {"partial_rotary_factor": 1.0}, "num_hidden_layers": 4,
        "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "linear_conv_kernel_dim": 4,
    }  # fmt: skip
    return {"text_config": text, "vision_config": QWEN_VISION, **_qwen_ids(token)}, QWEN_IMAGES


def _qwen_ids(token):
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>", "vision_start": "<|vision_start|>",
             "vision_end": "<|vision_end|>"}  # fmt: skip
    return {f"{name}_token_id": token(text) for name, text in names.items()}


def _internvl(token, size):
    vision = VIT | {"image_size": [56, 56], "patch_size": [14, 14], "model_type": "internvl_vision"}
    text = TEXT | {"model_type": "qwen2", "vocab_size": size}
    images = {"image_processor_type": "GotOcr2ImageProcessor", "size": {"height": 56, "width": 56}, **NORM}
    return {
        "text_config": text, "vision_config": vision, "image_token_id": token("<IMG_CONTEXT>"),
        "image_seq_length": 4, "downsample_ratio": 0.5,
    }, images  # fmt: skip


def _llava(token, size):
    vision = VIT | {"image_size": 28, "model_type": "siglip_vision_model", "vision_use_head": False}
    text = TEXT | {"model_type": "qwen2", "vocab_size": size}
    grid = [[28, 28], [28, 56], [56, 28], [56, 56]]
    images = {
        "image_processor_type": "LlavaOnevisionImageProcessor", "size": {"height": 28, "width": 28},
        "image_grid_pinpoints": grid, "do_pad": True, **NORM,
    }  # fmt: skip
    return {
        "text_config": text, "vision_config": vision, "image_token_index": token("<image>"),
        "image_token_id": token("<image>"), "video_token_id": size - 1, "image_grid_pinpoints": grid,
        "vision_feature_layer": -1, "vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_9",
    }, images  # fmt: skip


def _gemma3(token, size):
    text = TEXT | {
        "vocab_size": size, "num_hidden_layers": 3, "sliding_window": 24, "query_pre_attn_scalar": 16,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"], "model_type": "gemma3_text",
    }  # fmt: skip
    vision = VIT | {"image_size": 56, "model_type": "siglip_vision_model", "vision_use_head": False}
    images = {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 56, "width": 56}, **NORM}
    return {
        "text_config": text, "vision_config": vision, "mm_tokens_per_image": 4,
        "image_token_id": token("<image_soft_token>"), "boi_token_id": token("<start_of_image>"),
        "eoi_token_id": token("<end_of_image>"),
    }, images  # fmt: skip


def _idefics(kind, processor):
    def make(token, size):
        vision = VIT | {"image_size": 28, "model_type": "smolvlm_vision" if kind == "smolvlm" else "idefics3_vision"}
        images = {
            "image_processor_type": processor, "size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28},
            "do_image_splitting": True, "do_pad": True, **NORM,
        }  # fmt: skip
        text = TEXT | {"model_type": "llama", "vocab_size": size}
        return {
            "text_config": text, "vision_config": vision, "image_token_id": token("<image>"), "scale_factor": 2,
            "pad_token_id": 0,
        }, images  # fmt: skip

    return make


def _text(**more):
    return lambda _token, size: (TEXT | {"vocab_size": size} | more, None)


CONFIGS = {
    "qwen3_vl": _qwen3_vl,
    "qwen3_5": _qwen3_5,
    "internvl": _internvl,
    "llava_onevision": _llava,
    "gemma3": _gemma3,
    "smolvlm": _idefics("smolvlm", "SmolVLMImageProcessor"),
    "idefics3": _idefics("idefics3", "Idefics3ImageProcessor"),
    "qwen2": _text(),
    "qwen3": _text(),
    "llama": _text(),
    "gemma": _text(num_hidden_layers=4),
    "gemma2": _text(sliding_window=24, query_pre_attn_scalar=16, num_hidden_layers=3, attn_logit_softcapping=5.0,
                    final_logit_softcapping=3.0),
    "mistral": _text(sliding_window=None),
    "mixtral": _text(num_local_experts=4, num_experts_per_tok=2),
    "qwen3_moe": _text(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True),
    "gemma3_text": _text(sliding_window=24, query_pre_attn_scalar=16,
                         layer_types=["sliding_attention", "full_attention"]),
}  # fmt: skip

__all__ = ["CONFIGS", "build", "build_tiny"]
