"""What vLLM is told of a checkpoint, so that its pooler gives the outputs that a kind reads.

A head of one layer in the place where vLLM looks for it needs nothing; every other head, a gate, and the two rows of
the language head that replies are read by go through the plugin in ``deploy/vllm_plugin``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rewardhub.errors import ConfigError
from rewardhub.models.card import Card
from rewardhub.models.checkpoint import architecture, check_causal, check_twins, read_config, tensor_shapes
from rewardhub.models.families import FAMILIES
from rewardhub.models.gate import LAYERS, SIDE_TENSORS, Gate
from rewardhub.models.head import SAVED_PREFIX, Reads, head_layers, layers_under, read_head
from rewardhub.models.inputs import Encoder

PLUGIN = "RewardHub"
"""What the plugin puts before the name of an architecture that it gives heads."""


@dataclass(frozen=True)
class ServedHeads:
    """Arguments of vLLM's command line, and the number of outputs that it then gives per token.

    ``cap`` is the bound within which the model's own language head holds its logits, as its rows in the plugin do not.
    """

    arguments: tuple[str, ...]
    width: int
    cap: float | None = None


def served_heads(card: Card, path: Path, reads: Reads, replies: Sequence[int]) -> ServedHeads:
    """How vLLM has to serve the checkpoint; raises ``ConfigError`` where it holds no such head."""
    shapes, config = tensor_shapes(path), _text_config(path)
    hidden = int(config.hidden_size)
    if reads == "replies":
        layer = _language_head(shapes, (int(config.vocab_size), hidden))
        served = _by_plugin(path, [{"layers": [layer], "activation": "none", "rows": list(replies)}], 2)
        return replace(served, cap=getattr(config, "final_logit_softcapping", None))
    width = read_head(path, hidden, card.head.activation, card.head.prefix).outputs
    layers = head_layers(shapes, card.head.prefix)
    heads: list[dict[str, Any]] = [{"layers": layers, "activation": card.head.activation}]
    if reads == "gated" and (gate := Gate(path, torch.device("cpu"), hidden)).width:
        heads.append({"layers": layers_under(shapes, LAYERS), "activation": "relu"})
        width += gate.width
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
        "architectures": [PLUGIN + architecture(str(read_config(path)["model_type"]))],
        "rewardhub_head": {"heads": heads, "drop": [*drop, *SIDE_TENSORS]},
    }
    return ServedHeads(("--hf-overrides", json.dumps(overrides)), width)


def check_served(path: Path, encoder: Encoder) -> int:
    """The longest sequence that the model's positions were made for, in tokens.

    Raises ``ConfigError`` for weights, attention or a bound on its logits that vLLM would take otherwise, and for token
    ids that have no embedding: one of them ends vLLM's engine.
    """
    check_twins(path)
    check_causal(path)
    config = _text_config(path)
    if encoder.tokenizer.size > config.vocab_size:
        reason = f"{path}: {encoder.tokenizer.size} token ids for {config.vocab_size} embeddings"
        raise ConfigError(reason, field="path")
    bound = getattr(config, "attn_logit_softcapping", None)
    if bound and not FAMILIES[str(read_config(path)["model_type"])].capped:
        reason = f"{path}: vLLM's model keeps no attn_logit_softcapping ({bound}); the transformers backend does"
        raise ConfigError(reason, field="backend")
    return int(config.max_position_embeddings)


def _text_config(path: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False).get_text_config()


def _language_head(shapes: Mapping[str, tuple[int, ...]], wanted: tuple[int, int]) -> str:
    """The layer of the language head, which is the embedding's where both are one."""
    for ending in ("lm_head.weight", "embed_tokens.weight"):
        for name in (name for name in shapes if name.endswith(ending)):
            if shapes[name] != wanted:
                raise ConfigError(f"{name} is of {shapes[name]}, not {wanted} as config.json says", field="path")
            return name.removesuffix(".weight")
    raise ConfigError("the checkpoint holds no language head", field="path")
