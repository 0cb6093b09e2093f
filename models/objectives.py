"""Multi-objective reward models: one output per objective, mixed by a gate that reads the prompt.

ArmoRM, arXiv 2406.12845: R = scale * sum_k g_k(prompt) * (M r)_k, where g is the softmax, at a temperature, of
a small ReLU network over the prompt's state, r are the objectives, and M takes verbosity out of them.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from rewardhub.errors import ConfigError
from rewardhub.models.card import Card
from rewardhub.models.checkpoint import read_config, tensors_under
from rewardhub.models.head import linear_layers
from rewardhub.models.inputs import Encoded
from rewardhub.models.rows import Row, RowModel
from rewardhub.types import Group, Response, Score

GATE = "gating"
TRANSFORM = "reward_transform_matrix"
TEMPERATURE, PUBLISHED_TEMPERATURE = "gating_temperature", 10.0
"""The field of config.json, and what the published code takes where it is missing."""


class ObjectivesModel(RowModel):
    """The value is the gated sum; the objectives are in ``details``.

    Without a gate in the checkpoint the value is the mean of the objectives.
    """

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        self.head.check_outputs(len(card.classes))
        tensors = tensors_under(self.loaded.path, (GATE, TRANSFORM))
        self._take(tensors, len(card.classes))
        encoder = self.loaded.encoder
        self.behind = len(encoder.pieces([encoder.template.style.behind], ()))

    def row(self, prefix: Encoded, group: Group, response: Response) -> Row:
        """Read at the token that ends the prompt's last turn, and at the last token."""
        row = super().row(prefix, group, response)
        return Row(row.encoded, (len(prefix) - self.behind - 1, *row.places))

    def read(self, row: Row, states: Tensor) -> Score:
        objectives = self.head(states[1:]).reshape(-1)
        score = self.calibrated(float(self._mixed(states[0].float(), objectives)))
        named = dict(zip(self.card.classes, objectives.tolist(), strict=True))
        return score if score.value is None else Score(score.value, details={"objectives": named})

    def _mixed(self, prompt: Tensor, objectives: Tensor) -> Tensor:
        if not self.gate:
            return objectives.mean()
        state = prompt
        for layer in self.gate[:-1]:
            state = torch.relu(layer(state))
        shares = torch.softmax(self.gate[-1](state) / self.temperature, -1)
        return self.scale * (shares * (objectives @ self.transform)).sum()

    def _take(self, tensors: Mapping[str, Tensor], count: int) -> None:
        device = self.loaded.backbone.device
        self.gate = [layer.to(device) for layer in linear_layers(tensors, f"{GATE}.layers")]
        self.transform = tensors.get(TRANSFORM, torch.eye(count)).float().to(device)
        self.temperature = self._temperature()
        self.scale = tensors.get(f"{GATE}.logit_scale", torch.ones(1)).float().to(device).reshape(-1)[0]
        sizes = (self.gate[-1].out_features if self.gate else count, *self.transform.shape)
        if set(sizes) != {count}:
            raise ConfigError(f"{self.card.name}: gate and transform are for {sizes} objectives, not {count}")

    def _temperature(self) -> float:
        found = read_config(self.loaded.path).get(TEMPERATURE, PUBLISHED_TEMPERATURE)
        if isinstance(found, bool) or not isinstance(found, int | float) or not found > 0:
            raise ConfigError(f"{self.loaded.path}: {TEMPERATURE} is {found!r}, not a number over 0", field="path")
        return float(found)
