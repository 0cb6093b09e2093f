"""Critique, then score: the model writes what is wrong with an answer, and its head reads the critique's end.

MM-RLHF-Reward, arXiv 2502.10391: the value is the mean of the head's output over several critiques.
"""

from collections.abc import Sequence

import torch

from rewardhub.errors import InternalError
from rewardhub.models.card import Card
from rewardhub.models.inputs import Encoded, Row
from rewardhub.models.rows import RowModel
from rewardhub.models.writing import Writer
from rewardhub.raised import failure
from rewardhub.types import Group, Response, Score


class CritiqueModel(RowModel):
    """The critiques and the head's output for each are in ``details``."""

    has_language_head = True
    asks = True

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        self.check_outputs(1)
        self.spec = card.critique
        self.room = self.spec.max_tokens + 1
        self.writer = Writer(self.loaded, max_tokens=self.spec.max_tokens, temperature=self.spec.temperature)
        template = self.encoder.template
        self.asking = self.encoder.pieces([*template.question(self.spec.question), *template.opening()], ())

    @property
    def least(self) -> int:
        return super().least + len(self.asking)

    def row(self, prefix: Encoded, group: Group, response: Response) -> Row:
        """The question behind the answer."""
        encoded = super().row(prefix, group, response).encoded + self.asking
        return Row(encoded, (len(encoded) - 1,))

    def readings(self, rows: Sequence[Row], kin: Sequence[Sequence[int]], groups: Sequence[Group]) -> list[Score]:
        return [self._score(row.encoded) for row in rows]

    def _score(self, row: Encoded) -> Score:
        try:
            written = self.writer.write(row, self.spec.count)
        except InternalError as error:
            return failure(error)
        texts = [each.text for each in written]
        assert self.loaded.backbone.head is not None
        values = [float(value) for value in self.loaded.backbone.head(torch.stack([each.state for each in written]))]
        score = self.calibrated(sum(values) / len(values))
        return score if score.value is None else Score(score.value, details={"critiques": texts, "values": values})
