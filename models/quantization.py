"""Weights in eight bits: a decoder's linear layers take a quarter of fp32's memory, or half of bf16's.

Weight-only, symmetric, one scale per output (LLM.int8(), arXiv 2208.07339, without its outliers): products are of the
activations' own type. Embeddings, norms, vision encoders and heads stay as they are, as quantised checkpoints have it.
It saves memory and not time: every pass makes a layer's weights anew in the type of the activations.
The plugin in ``deploy/vllm_plugin`` does the same in vLLM.
"""

import torch
from torch import Tensor, nn

LARGEST = 127
"""The largest whole number of a weight, of either sign."""


class Int8Linear(nn.Module):
    """y = (x Wᵀ) · s + b, with whole numbers W [O, I] of -127 to 127 and a scale s [O] in fp32, for inference only."""

    weight: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        weight = layer.weight.detach().float()
        # A row of zeros has any scale.
        scale = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
        self.register_buffer("weight", (weight / scale[:, None]).round_().to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    def forward(self, inputs: Tensor) -> Tensor:
        product = nn.functional.linear(inputs, self.weight.to(inputs.dtype)) * self.scale
        return (product if self.bias is None else product + self.bias).to(inputs.dtype)


def quantize_linears(model: nn.Module) -> int:
    """Puts the form in eight bits in place of the linear layers of ``model``; returns how many.

    A layer's old weight is freed before the next one is made.
    """
    found = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Linear
    ]
    for parent, name in found:
        setattr(parent, name, Int8Linear(getattr(parent, name)))
    return len(found)
