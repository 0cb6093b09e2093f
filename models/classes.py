"""Classifiers: the probability of one outcome, or a level of safety, from a head with several outputs."""

import torch
from torch import Tensor

from rewardhub.models.card import Card
from rewardhub.models.inputs import Row
from rewardhub.models.rows import RowModel
from rewardhub.types import Score


class ClassModel(RowModel):
    """Reads the probabilities of the card's classes at the last token."""

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        self.check_outputs(len(card.classes))


class OutcomeModel(ClassModel):
    """The value is the probability of the ``positive`` class."""

    def read(self, row: Row, outputs: Tensor) -> Score:
        return Score(_chances(outputs)[self.card.classes.index(self.card.positive)])


class SafetyModel(ClassModel):
    """The value is the most probable level, counted from 0; the probability of it is the confidence."""

    def read(self, row: Row, outputs: Tensor) -> Score:
        chances = _chances(outputs)
        best = max(range(len(chances)), key=chances.__getitem__)
        levels = dict(zip(self.card.classes, chances, strict=True))
        return Score(
            float(best), confidence=chances[best], details={"level": self.card.classes[best], "chances": levels}
        )


def _chances(outputs: Tensor) -> list[float]:
    """The softmax over classes at the row's only place, in fp32."""
    return [float(chance) for chance in torch.softmax(outputs[0], -1)]
