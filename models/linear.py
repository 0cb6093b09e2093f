"""Layers for inference on a CPU: weights laid out once for oneDNN, which multiplies them without a copy.

torch's own ``linear`` in fp32 goes through a BLAS that reaches a fraction of some CPUs' speed (105 GFLOP/s
beside 240 on one core with AVX-512). Products are the same up to the order of their sums.
"""

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from rewardhub.models.gates import gated_parts

DTYPES = (torch.float32, torch.bfloat16)
ROWS = 1024
"""The number of input rows that the layout is chosen for; any number can be multiplied."""

LEAST_STEP, MOST_STEP, STEPS = 8, 64, 16


def rounded(rows: int) -> int:
    """The number of rows that are multiplied in place of ``rows``: sixteen steps to a doubling, of 8 to 64 rows.

    oneDNN compiles a product for each number of rows and keeps the last that it compiled: where every number is new, it
    compiles longer than it multiplies by small weights, and what it keeps takes more memory than the model.
    """
    step = min(MOST_STEP, max(LEAST_STEP, (1 << max(rows - 1, 0).bit_length()) // (2 * STEPS)))
    return math.ceil(rows / step) * step


def _filled(rows: Tensor) -> Tensor:
    """The rows [N, H], followed by zeros up to a number that is multiplied."""
    lacking = rounded(len(rows)) - len(rows)
    return nn.functional.pad(rows, (0, 0, 0, lacking)) if lacking else rows


class PackedLinear(nn.Module):
    """A linear layer in oneDNN's own layout, for inference only: it has no parameters."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), ROWS)
        self.bias = None if bias is None else bias.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.numel() == 0:
            return inputs.new_zeros(*inputs.shape[:-1], self.out_features)
        rows = inputs.reshape(-1, self.in_features)
        return self.product(_filled(rows))[: len(rows)].view(*inputs.shape[:-1], self.out_features)

    def product(self, rows: Tensor, activation: str = "none") -> Tensor:
        """The product of rows [N, H], none added; ``activation`` is "none" or "swish" (SiLU), done on the product
        while it is in the cache.
        """
        result: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self.packed, self.bias, activation, [], "")
        return result

    def times(self, rows: Tensor, factor: Tensor) -> Tensor:
        """The product of rows [N, H], multiplied by ``factor`` element by element."""
        result: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, factor, self.packed, self.bias, "mul")
        return result


class PackedGate(nn.Module):
    """The gated feed-forward part down(silu(gate(x)) * up(x)) of Llama's and Qwen's layers."""

    def __init__(self, gate: PackedLinear, up: PackedLinear, down: PackedLinear) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = gate, up, down

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.numel() == 0:
            return inputs
        rows = inputs.reshape(-1, inputs.shape[-1])
        filled = _filled(rows)
        result = self.down_proj.product(self.up_proj.times(filled, self.gate_proj.product(filled, "swish")))
        return result[: len(rows)].view(*inputs.shape[:-1], -1)


class PackedPatches(nn.Module):
    """A convolution whose input is one kernel wide: each patch [C, T, H, W] becomes one vector."""

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.weight = convolution.weight
        self.linear = PackedLinear(convolution.weight.flatten(1), convolution.bias)
        self.convolution = convolution

    def forward(self, patches: Tensor) -> Tensor:
        if patches.shape[1:] != self.weight.shape[1:]:
            result: Tensor = self.convolution(patches)
            return result
        flat: Tensor = self.linear(patches.flatten(1))
        return flat.view(*flat.shape, *[1] * (patches.ndim - 2))


def pack_linears(model: nn.Module) -> int:
    """Puts the packed form in place of the linear layers of ``model``; returns how many layers were packed.

    A layer's old weight is freed before the next one is packed. Nothing is done off the CPU, or where
    this torch has no oneDNN.
    """
    if not _usable():
        return 0
    found = [(parent, name) for parent in model.modules() for name, child in parent.named_children() if _fits(child)]
    for parent, name in found:
        child: Any = getattr(parent, name)
        packed = PackedPatches(child) if isinstance(child, nn.Conv3d) else PackedLinear(child.weight, child.bias)
        setattr(parent, name, packed)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if (parts := gated_parts(child, PackedLinear)) is not None:
                setattr(parent, name, PackedGate(*parts))
    return len(found)


def _fits(layer: nn.Module) -> bool:
    if type(layer) not in (nn.Linear, nn.Conv3d):
        return False
    weight: Any = layer.weight
    return weight.device.type == "cpu" and weight.dtype in DTYPES


@functools.cache
def _usable() -> bool:
    """Whether this torch brings the operators, and they multiply as they should."""
    if not torch.backends.mkldnn.is_available():
        return False
    inputs, weight = torch.randn(3, 5), torch.randn(7, 5)
    try:
        layer = PackedLinear(weight, None)
        found, fused = layer(inputs), layer.times(inputs, layer.product(inputs, "swish"))
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    wanted = inputs @ weight.T
    silu = torch.nn.functional.silu(wanted)
    return bool(torch.allclose(found, wanted, atol=1e-5) and torch.allclose(fused, silu * wanted, atol=1e-5))
