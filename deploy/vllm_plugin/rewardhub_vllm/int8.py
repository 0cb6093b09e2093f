"""A decoder's weights in eight bits, as the hub's own backend keeps them: weight-only, one scale per output."""

import re
from typing import Any

import torch
from torch import Tensor, nn
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization import register_quantization_config
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig, QuantizeMethodBase

NAME = "rewardhub_int8"
LAYER = re.compile(r"(language_model\.)?(model\.)*layers\.\d+\.")
"""A layer of the language model: vision encoders, projectors and heads stay as they are."""

LARGEST = 127


@register_quantization_config(NAME)
class Int8Config(QuantizationConfig):
    """What ``--quantization rewardhub_int8`` asks for; it has no settings."""

    @classmethod
    def get_name(cls) -> str:
        return NAME

    @classmethod
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return [torch.float32, torch.bfloat16, torch.float16]

    @classmethod
    def get_min_capability(cls) -> int:
        return 0

    @staticmethod
    def get_config_filenames() -> list[str]:
        return []

    @classmethod
    def from_config(cls, _config: dict[str, Any]) -> "Int8Config":
        return cls()

    def get_quant_method(self, layer: nn.Module, prefix: str) -> QuantizeMethodBase | None:
        if not isinstance(layer, LinearBase):
            return None
        return Int8LinearMethod() if LAYER.match(prefix) else UnquantizedLinearMethod()


class Int8LinearMethod(UnquantizedLinearMethod):
    """y = (x Wᵀ) · s + b, with whole numbers W of -127 to 127 and a scale s per output in fp32."""

    supports_pre_processed_weights = False

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        weight = layer.weight.data.float()
        scale = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
        whole = (weight / scale[:, None]).round_().to(torch.int8)
        layer.weight = nn.Parameter(whole, requires_grad=False)
        layer.scale = nn.Parameter(scale, requires_grad=False)

    def apply(self, layer: nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        product = nn.functional.linear(x, layer.weight.to(x.dtype)) * layer.scale
        return (product if bias is None else product + bias).to(x.dtype)
