"""What vLLM is told of a checkpoint, so that its pooler gives the outputs that a kind reads.

A head of one layer in the place where vLLM looks for it needs nothing; every other head, a gate, and the two rows of
the language head that replies are read by go through the plugin in ``deploy/vllm_plugin``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardhub.errors import ConfigError
from rewardhub.models.card import Card
from rewardhub.models.checkpoint import read_config, tensor_shapes
from rewardhub.models.families import FAMILIES
from rewardhub.models.gate import LAYERS, SIDE_TENSORS
from rewardhub.models.head import SAVED_PREFIX, Reads, head_layers, layers_under

PLUGIN = "RewardHub"
"""What the plugin puts before the name of an architecture that it gives heads."""


@dataclass(frozen=True)
class ServedHeads:
    """Arguments of vLLM's command line, and the number of outputs that it then gives per token."""

    arguments: tuple[str, ...]
    width: int


def served_heads(card: Card, path: Path, reads: Reads, replies: Sequence[int]) -> ServedHeads:
    """How vLLM has to serve the checkpoint; raises ``ConfigError`` where it holds no such head."""
    shapes = tensor_shapes(path)
    if reads == "replies":
        return _by_plugin(path, [{"layers": [_language_head(shapes)], "activation": "none", "rows": list(replies)}], 2)
    layers = head_layers(_stems(shapes), card.head.prefix)
    heads: list[dict[str, Any]] = [{"layers": layers, "activation": card.head.activation}]
    width = shapes[f"{layers[-1]}.weight"][0]
    if (len(layers) == 1) != (card.head.activation == "none"):
        raise ConfigError(f"a head of {len(layers)} layers with activation {card.head.activation!r}", field="head")
    if reads == "gated" and (gate := layers_under(shapes, LAYERS)):
        heads.append({"layers": gate, "activation": "relu"})
        width += shapes[f"{gate[-1]}.weight"][0]
    if len(heads) == 1 and _native(path, layers, shapes):
        return ServedHeads((), width)
    return _by_plugin(path, heads, width)


def _native(path: Path, layers: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether vLLM finds the head by itself: one layer without bias, under the name it looks for."""
    config = read_config(path)
    place = SAVED_PREFIX if FAMILIES[config["model_type"]].image else "score"
    named = str((config.get("architectures") or [""])[0])
    bias = f"{place}.bias" in shapes or any(name.startswith(SIDE_TENSORS) for name in shapes)
    return list(layers) == [place] and named.endswith("ForSequenceClassification") and not bias


def _by_plugin(path: Path, heads: list[dict[str, Any]], width: int) -> ServedHeads:
    drop = [f"{layer}." for head in heads if "rows" not in head for layer in head["layers"]]
    overrides = {
        "architectures": [PLUGIN + _architecture(str(read_config(path)["model_type"]))],
        "rewardhub_head": {"heads": heads, "drop": [*drop, *SIDE_TENSORS]},
    }
    return ServedHeads(("--hf-overrides", json.dumps(overrides)), width)


def _architecture(model_type: str) -> str:
    """The name of the model class with a language head."""
    from transformers.models.auto import modeling_auto

    names = (
        modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        if FAMILIES[model_type].image
        else modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    )
    return str(names[model_type])


def _language_head(shapes: Mapping[str, Sequence[int]]) -> str:
    """The layer of the language head, which is the embedding's where both are one."""
    for ending in ("lm_head.weight", "embed_tokens.weight"):
        found = [name for name in shapes if name.endswith(ending)]
        if found:
            return found[0].removesuffix(".weight")
    raise ConfigError("the checkpoint holds no language head", field="path")


def _stems(shapes: Mapping[str, Sequence[int]]) -> list[str]:
    return [name for name in shapes if not name.startswith(SIDE_TENSORS)]
