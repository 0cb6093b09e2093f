"""Reward heads: one linear layer, or two with ReLU, SiLU or tanh between, in fp32."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from rewardhub.errors import ConfigError
from rewardhub.models.checkpoint import tensors_under

Activation = Literal["none", "relu", "silu", "tanh"]
Reads = Literal["head", "gated", "replies", "states"]
"""What is read of a state: the head's outputs, those and a gate's, the logits of two replies, the state itself."""

SAVED_PREFIX = "language_model.score"
"""Where vLLM looks for the head of a Qwen2.5-VL classifier."""

PREFIXES = (
    "score",
    SAVED_PREFIX,
    "model.score",
    "v_head.summary",
    "value_head.summary",
    "v_head",
    "value_head",
    "rm_head",
    "regression_layer",
)
"""Names of heads in published layouts: transformers, vLLM, value heads of TRL, LLaMA-Factory and OpenRLHF, MM-RLHF,
ArmoRM."""


class RewardHead(nn.Module):
    """Maps hidden states [B, H] to scores [B], or [B, K] where it has K > 1 outputs, computed in fp32.

    Two-layer heads: SiLU as in BaseReward (arXiv 2509.16127), tanh as in MM-RLHF (arXiv 2502.10391), ReLU as in
    Qwen2.5-Math-PRM (arXiv 2501.07301).
    """

    def __init__(self, layers: list[nn.Linear], activation: Activation = "none") -> None:
        super().__init__()
        if (activation == "none") != (len(layers) == 1):
            raise ConfigError(f"a head of {len(layers)} layers with activation {activation!r}", field="head")
        self.layers = nn.ModuleList(layers).float()
        self.activation = {"none": nn.Identity(), "relu": nn.ReLU(), "silu": nn.SiLU(), "tanh": nn.Tanh()}[activation]

    @property
    def inputs(self) -> int:
        return int(self.layers[0].in_features)  # type: ignore[arg-type]

    @property
    def outputs(self) -> int:
        return int(self.layers[-1].out_features)  # type: ignore[arg-type]

    def forward(self, pooled: Tensor) -> Tensor:
        state = pooled.float()
        for layer in self.layers[:-1]:
            state = self.activation(layer(state))
        return self.layers[-1](state).squeeze(-1)

    def named_tensors(self) -> dict[str, Tensor]:
        """The tensors under the names that a checkpoint of ours stores them by."""
        single = len(self.layers) == 1
        tensors: dict[str, Tensor] = {}
        for index, layer in enumerate(self.layers):
            stem = SAVED_PREFIX if single else f"{SAVED_PREFIX}.{2 * index}"
            tensors |= {f"{stem}.{name}": value for name, value in layer.state_dict().items()}
        return tensors


def softcapped(logits: Tensor, cap: float | None) -> Tensor:
    """Logits as Gemma's language heads give them, held within ``cap``; without one they are as they are."""
    return torch.tanh(logits / cap) * cap if cap else logits


def new_head(hidden: int, activation: Activation, seed: int) -> RewardHead:
    """A fresh head of ``hidden`` inputs: normal weights of deviation 1/sqrt(hidden + 1), no bias."""
    sizes = [(hidden, 1)] if activation == "none" else [(hidden, hidden), (hidden, 1)]
    generator = torch.Generator().manual_seed(seed)
    layers = [nn.Linear(inputs, outputs, bias=False) for inputs, outputs in sizes]
    for layer in layers:
        nn.init.normal_(layer.weight, std=(hidden + 1) ** -0.5, generator=generator)
    return RewardHead(layers, activation)


def read_head(path: Path, hidden: int, activation: Activation, prefix: str = "") -> RewardHead:
    """The head of a checkpoint folder, see :func:`head_from`, for states of ``hidden`` numbers."""
    head = head_from(tensors_under(path, (prefix,) if prefix else PREFIXES), activation, prefix)
    if head.inputs != hidden:
        raise ConfigError(f"{path}: the head takes {head.inputs} inputs, the model gives {hidden}", field="head")
    return head


def head_from(tensors: Mapping[str, Tensor], activation: Activation, prefix: str = "") -> RewardHead:
    """The head stored among ``tensors`` under ``prefix``, or under the one published name that is found.

    Raises ``ConfigError`` where there is none, where there are two that differ, or where a tensor is not that of a
    linear layer.
    """
    found = [layers for stem in ((prefix,) if prefix else PREFIXES) if (layers := layers_under(tensors, stem))]
    for other in found[1:]:
        if not _equal(tensors, found[0], other):
            both = f"{found[0][0]!r} and {other[0]!r}"
            raise ConfigError(f"the checkpoint holds two heads, {both}: name one by `prefix`", field="head.prefix")
    return RewardHead(_layers(tensors, head_layers(tensors, prefix)), activation)


def head_layers(tensors: Iterable[str], prefix: str = "") -> list[str]:
    """The names of the head's layers among names of tensors; see :func:`head_from`."""
    names = set(tensors)
    for stem in (prefix,) if prefix else PREFIXES:
        layers = layers_under(names, stem)
        if layers:
            return layers
    looked = prefix or ", ".join(PREFIXES)
    raise ConfigError(f"the checkpoint holds no reward head under: {looked}", field="head")


def linear_layers(tensors: Mapping[str, Tensor], stem: str) -> list[nn.Linear]:
    """The linear layers stored as ``stem.N``, in the order of N; none where there are none."""
    return _layers(tensors, layers_under(tensors, stem))


def layers_under(tensors: Iterable[str], stem: str) -> list[str]:
    """The names of the linear layers ``stem``, or ``stem.N`` in the order of N, among names of tensors."""
    tensors = set(tensors)
    if f"{stem}.weight" in tensors:
        return [stem]
    numbers = [name.removeprefix(f"{stem}.").removesuffix(".weight") for name in tensors if name.startswith(stem)]
    ordered = sorted({int(number) for number in numbers if number.isdecimal()})
    return [f"{stem}.{number}" for number in ordered if f"{stem}.{number}.weight" in tensors]


def _equal(tensors: Mapping[str, Tensor], ours: list[str], theirs: list[str]) -> bool:
    """Whether two heads have the same layers."""
    if len(ours) != len(theirs):
        return False
    for pair in zip(ours, theirs, strict=True):
        for part in ("weight", "bias"):
            one, other = (tensors.get(f"{name}.{part}") for name in pair)
            if (one is None) != (other is None) or (one is not None and other is not None and not one.equal(other)):
                return False
    return True


def _layers(tensors: Mapping[str, Tensor], names: list[str]) -> list[nn.Linear]:
    layers = [_linear(tensors, name) for name in names]
    for name, (before, layer) in zip(names[1:], pairwise(layers), strict=True):
        if before.out_features != layer.in_features:
            reason = f"{name} takes {layer.in_features} inputs, the layer before it gives {before.out_features}"
            raise ConfigError(reason, field="head")
    return layers


def _linear(tensors: Mapping[str, Tensor], name: str) -> nn.Linear:
    weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
    if weight.ndim != 2:
        raise ConfigError(f"{name}.weight has {weight.ndim} dimensions, a linear layer has 2", field="head")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ConfigError(f"{name}.bias is of {tuple(bias.shape)}, not {weight.shape[0]} outputs", field="head")
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.data = weight.detach().float().clone()
    if bias is not None:
        layer.bias.data = bias.detach().float().clone()
    return layer
