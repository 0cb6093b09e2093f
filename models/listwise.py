"""Listwise reward models: all responses behind one prompt in one pass, each read at its last token."""

from collections.abc import Sequence

import torch

from rewardhub.errors import ScoringError
from rewardhub.models.model import memory_errors
from rewardhub.models.rows import Row
from rewardhub.models.scalar import ScalarModel
from rewardhub.scorer import failure
from rewardhub.types import Column, Group, Response, Score


class ListwiseModel(ScalarModel):
    """Every response sees those before it; the value is the head's output, by the card's calibration.

    A response that cannot be shown fails alone; where all together do not fit, all are ``over_limit``.
    """

    def score(self, groups: Sequence[Group]) -> list[Column]:
        laid_out = [self._row(group) for group in groups]
        ready = [row for row, _ in laid_out if row is not None]
        with memory_errors(), torch.inference_mode():
            states = self.runner.states(
                [row.encoded for row in ready], [[index] for index in range(len(ready))], [row.places for row in ready]
            )
            values = iter([value for state in states for value in self.head(state).tolist()])
        return [
            Column.of([self.calibrated(next(values)) if each is None else each for each in failed], self.fingerprint)
            for _, failed in laid_out
        ]

    def _row(self, group: Group) -> tuple[Row | None, list[Score | None]]:
        """The row of all responses, and per response its failure or None."""
        count, encoder = len(group.responses), self.loaded.encoder
        images = [self._images(response) for response in group.responses]
        try:
            encoded = self.loaded.check_prompt(encoder.prefix(self.prompt(group), group.media, sum(images)))
        except ScoringError as error:
            return None, [failure(error)] * count
        failed: list[Score | None] = [None] * count
        places: list[int] = []
        for index, response in enumerate(group.responses):
            try:
                answer = encoder.answer(response, len(group.media), sum(images) - images[index])
            except ScoringError as error:
                failed[index] = failure(error)
                continue
            encoded = encoded + answer
            places.append(len(encoded) - 1)
        try:
            self.loaded.check_length(encoded)
        except ScoringError as error:
            return None, [failure(error) if each is None else each for each in failed]
        return (Row(encoded, tuple(places)) if places else None), failed

    def _images(self, response: Response) -> int:
        """How many images the response shows; none where one of them cannot be."""
        try:
            return sum(len(self.loaded.encoder.patches(each)) for each in response.media)
        except ScoringError:
            return 0
