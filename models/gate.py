"""The gate of a multi-objective model: from the prompt's state to a weight per objective."""

from pathlib import Path

import torch
from torch import Tensor

from rewardhub.errors import ConfigError
from rewardhub.models.checkpoint import tensors_under
from rewardhub.models.head import linear_layers

GATE = "gating"
LAYERS = f"{GATE}.layers"
SCALE = f"{GATE}.logit_scale"
TRANSFORM = "reward_transform_matrix"
SIDE_TENSORS = (f"{GATE}.", TRANSFORM)
"""Beginnings of the names of tensors that are neither the backbone's nor the head's."""


class Gate:
    """The layers stored as ``gating.layers.N``, with ReLU between, in fp32; ``width`` is 0 where there are none.

    Raises ``ConfigError`` for layers that do not follow on states of ``hidden`` numbers.
    """

    def __init__(self, path: Path, device: torch.device, hidden: int) -> None:
        self.layers = [layer.to(device) for layer in linear_layers(tensors_under(path, (GATE,)), LAYERS)]
        if self.layers and self.layers[0].in_features != hidden:
            reason = f"{path}: the gate takes {self.layers[0].in_features} inputs, the model gives {hidden}"
            raise ConfigError(reason, field="path")
        self.width = self.layers[-1].out_features if self.layers else 0

    def __call__(self, states: Tensor) -> Tensor:
        """The logits [N, K] of weights, from states [N, H]."""
        found = states.float()
        if not self.layers:
            return found.new_zeros(len(found), 0)
        for layer in self.layers[:-1]:
            found = torch.relu(layer(found))
        return self.layers[-1](found)
