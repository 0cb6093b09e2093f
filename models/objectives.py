"""Multi-objective reward models: one output per objective, mixed by a gate that reads the prompt.

ArmoRM, arXiv 2406.12845: R = scale * sum_k g_k(prompt) * (M r)_k, where g is the softmax, at a temperature, of
a small ReLU network over the prompt's state, r are the objectives, and M takes verbosity out of them.
"""

import torch
from torch import Tensor

from rewardhub.errors import ConfigError
from rewardhub.models.card import Card
from rewardhub.models.checkpoint import read_config, tensors_under
from rewardhub.models.gate import SCALE, TRANSFORM
from rewardhub.models.inputs import Encoded, Row
from rewardhub.models.rows import RowModel
from rewardhub.types import Group, Response, Score

TEMPERATURE, PUBLISHED_TEMPERATURE = "gating_temperature", 10.0
"""The field of config.json, and what the published code takes where it is missing."""


class ObjectivesModel(RowModel):
    """The value is the gated sum; the objectives are in ``details``.

    Without a gate in the checkpoint the value is the mean of the objectives.
    """

    reads = "gated"

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        count = len(card.classes)
        self.check_outputs(count, 2 * count)
        tensors = tensors_under(self.checkpoint.path, (SCALE, TRANSFORM))
        self.transform = tensors.get(TRANSFORM, torch.eye(count)).float()
        self.scale = tensors.get(SCALE, torch.ones(1)).float().reshape(-1)[0]
        self.temperature = self._temperature()
        if tuple(self.transform.shape) != (count, count):
            raise ConfigError(f"{card.name}: the transform is of {tuple(self.transform.shape)}, not {count} objectives")

    def row(self, prefix: Encoded, group: Group, response: Response) -> Row:
        """Read at the token that ends the prompt's last turn, and at the last token."""
        row = super().row(prefix, group, response)
        return Row(row.encoded, (len(prefix) - self.behind - 1, *row.places))

    def read(self, row: Row, outputs: Tensor) -> Score:
        count = len(self.card.classes)
        objectives = outputs[1, :count]
        score = self.calibrated(float(self._mixed(outputs[0, count:], objectives)))
        named = dict(zip(self.card.classes, objectives.tolist(), strict=True))
        return score if score.value is None else Score(score.value, details={"objectives": named})

    def _mixed(self, gate: Tensor, objectives: Tensor) -> Tensor:
        if not len(gate):
            return objectives.mean()
        shares = torch.softmax(gate / self.temperature, -1)
        return self.scale * (shares * (objectives @ self.transform)).sum()

    def _temperature(self) -> float:
        path = self.checkpoint.path
        found = read_config(path).get(TEMPERATURE, PUBLISHED_TEMPERATURE)
        if isinstance(found, bool) or not isinstance(found, int | float) or not found > 0:
            raise ConfigError(f"{path}: {TEMPERATURE} is {found!r}, not a number over 0", field="path")
        return float(found)
