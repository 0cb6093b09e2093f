"""Discriminative reward and cost models: a head reads one number from the last token's hidden state."""

import math
from collections.abc import Sequence

from torch import Tensor

from rewardhub.models.card import Card
from rewardhub.models.inputs import Encoded, Row
from rewardhub.models.rows import RowModel
from rewardhub.types import Group, Score


class ScalarModel(RowModel):
    """The value is the head's output, higher is better, by the card's calibration."""

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        self.check_outputs(1)

    def read(self, row: Row, outputs: Tensor) -> Score:
        return self.calibrated(float(outputs[0, 0]))

    def encode(self, group: Group) -> list[Encoded | Score]:
        """One sequence per response, or the score that says why there is none."""
        return [row.encoded if isinstance(row, Row) else row for row in self.rows(group)]

    def values(self, rows: Sequence[Encoded], kin: Sequence[Sequence[int]]) -> list[float]:
        """The raw scores of sequences, of which those of like prompt are named together in ``kin``."""
        found = self.engine.outputs([Row(row, (len(row) - 1,)) for row in rows], kin, ())
        return [math.nan if isinstance(each, Score) else float(each[0, 0]) for each in found]


class CostModel(ScalarModel):
    """A cost: positive is unsafe, whichever sign the checkpoint was trained with (Safe-RLHF, arXiv 2310.12773)."""

    def read(self, row: Row, outputs: Tensor) -> Score:
        sign = 1.0 if self.card.positive_is == "unsafe" else -1.0
        return self.calibrated(sign * float(outputs[0, 0]))
