"""Reward heads by the names of their tensors: each some linear layers with an activation between."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

ACTIVATIONS = {"none": nn.Identity, "relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Heads(nn.Module):
    """Maps states [T, H] to the outputs [T, O] of all heads side by side, in fp32.

    ``spec["heads"]`` lists heads as ``{"layers": [names], "activation": name}``, a layer being NAME.weight and, where
    there is one, NAME.bias among the safetensors of ``folder``; with ``"rows": [indices]`` only those outputs of each
    layer are kept. ``spec["drop"]`` are the beginnings of the names of tensors that the backbone must not be given.
    Raises ``ValueError`` for a layer that is not there.
    """

    def __init__(self, spec: Mapping[str, Any], folder: str) -> None:
        super().__init__()
        self.drop: tuple[str, ...] = tuple(spec["drop"])
        names = [name for head in spec["heads"] for name in head["layers"]]
        tensors = _tensors(Path(folder), names)
        self.heads = nn.ModuleList(_head(head, tensors) for head in spec["heads"])

    def forward(self, states: Tensor) -> Tensor:
        return torch.cat([head(states.float()) for head in self.heads], -1)


def _head(head: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for name in head["layers"]:
        layers += [_linear(name, tensors, head.get("rows")), ACTIVATIONS[head["activation"]]()]
    return nn.Sequential(*layers[:-1])


def _linear(name: str, tensors: Mapping[str, Tensor], rows: Sequence[int] | None) -> nn.Linear:
    if f"{name}.weight" not in tensors:
        raise ValueError(f"the checkpoint holds no {name}.weight")
    weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
    if rows is not None:
        weight, bias = weight[rows], bias if bias is None else bias[rows]
    device = torch.get_default_device()
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.to(device, torch.float32), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.to(device, torch.float32), requires_grad=False)
    return layer


def _tensors(folder: Path, layers: Sequence[str]) -> dict[str, Tensor]:
    wanted = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            found |= {name: opened.get_tensor(name) for name in wanted & set(opened.keys())}
    return found
