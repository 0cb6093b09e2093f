"""Generative verifiers read without generating: after the answer the model is asked, and Yes weighed against No.

GenRM, arXiv 2408.15240: the reward is the probability of the favourable reply at the next token.
"""

import torch
from torch import Tensor

from rewardhub.models.card import Card
from rewardhub.models.inputs import Encoded, Row
from rewardhub.models.rows import RowModel
from rewardhub.types import Group, Response, Score


class YesNoModel(RowModel):
    """The value is P(first reply) among the card's two replies."""

    reads = "replies"
    asks = True

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        question = self.encoder.template.question(card.question)
        self.asking = self.encoder.pieces([*question, *self.checkpoint.reply_opening()], ())

    @property
    def least(self) -> int:
        return super().least + len(self.asking)

    def row(self, prefix: Encoded, group: Group, response: Response) -> Row:
        encoded = super().row(prefix, group, response).encoded + self.asking
        return Row(encoded, (len(encoded) - 1,))

    def read(self, row: Row, outputs: Tensor) -> Score:
        return Score(float(torch.sigmoid(outputs[0, 0] - outputs[0, 1])))
