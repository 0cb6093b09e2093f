"""Gated feed-forward parts for a GPU, padded to widths that its fast kernels take."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)

MULTIPLE = 8
"""Rows of 16 bytes in bf16; Qwen2.5-VL's vision encoder is 3,420 wide."""


class PaddedGate(nn.Module):
    """down(silu(gate(x)) * up(x)), for inference: the weights are followed by zeros, up to ``MULTIPLE``."""

    def __init__(self, gate: nn.Linear, up: nn.Linear, down: nn.Linear) -> None:
        super().__init__()
        self.gate, self.gate_bias = _padded(gate.weight), _padded(gate.bias)
        self.up, self.up_bias = _padded(up.weight), _padded(up.bias)
        self.down, self.down_bias = _padded(down.weight.T).T.contiguous(), down.bias

    def forward(self, states: Tensor) -> Tensor:
        gate = nn.functional.silu(nn.functional.linear(states, self.gate, self.gate_bias))
        up = nn.functional.linear(states, self.up, self.up_bias)
        return nn.functional.linear(gate.mul_(up), self.down, self.down_bias)


def pad_gates(model: nn.Module) -> int:
    """Puts padded gates in place of SiLU-gated parts of other widths that are on a GPU; returns how many."""
    count = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            parts = gated_parts(child, nn.Linear)
            if parts is not None and parts[0].weight.is_cuda and parts[0].out_features % MULTIPLE:
                setattr(parent, name, PaddedGate(*parts))
                count += 1
    return count


def _padded(rows: Tensor | None) -> Any:
    """The rows, followed by rows of zeros."""
    if rows is None:
        return None
    return torch.cat([rows.detach(), rows.new_zeros(-len(rows) % MULTIPLE, *rows.shape[1:])])


def gated_parts(module: Any, kind: type[Layer]) -> tuple[Layer, Layer, Layer] | None:
    """Gate, up and down of a SiLU-gated part whose layers are of this kind; None for other modules."""
    names = "gate_proj", "up_proj", "down_proj"
    parts = [part for name in names if type(part := getattr(module, name, None)) is kind]
    silu = type(getattr(module, "act_fn", None)).__name__ in {"SiLU", "SiLUActivation"}
    if not silu or len(parts) != 3 or len(list(module.children())) != 4:
        return None
    return parts[0], parts[1], parts[2]
