"""The models of vLLM's registry with reward heads, made when they are asked for by name."""

from collections.abc import Iterable
from typing import Any

import torch

from rewardhub_vllm.heads import Heads


def __getattr__(name: str) -> type:
    """The model NAME of vLLM's registry with reward heads."""
    from vllm import ModelRegistry

    if name not in ModelRegistry.models:
        raise AttributeError(name)
    return with_heads(ModelRegistry.models[name].load_model_cls())


def with_heads(base: Any) -> type:
    """A pooling model over ``base``: task classify reads the last token, token_classify all of them."""
    from vllm.model_executor.layers.pooler import DispatchPooler
    from vllm.model_executor.models.adapters import as_embedding_model

    class ModelWithHeads(as_embedding_model(base)):  # type: ignore[misc]
        def _init_pooler(self, vllm_config: Any, prefix: str = "") -> Any:
            config = vllm_config.model_config
            self.reward_heads = Heads(config.hf_config.rewardhub_head, config.model)
            return DispatchPooler.for_seq_cls(config.pooler_config, classifier=self.reward_heads)

        def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
            drop = self.reward_heads.drop
            loaded = super().load_weights((name, weight) for name, weight in weights if not name.startswith(drop))
            return set(loaded) | {f"reward_heads.{name}" for name, _ in self.reward_heads.named_parameters()}

    ModelWithHeads.__name__ = f"{base.__name__}WithHeads"
    return ModelWithHeads
