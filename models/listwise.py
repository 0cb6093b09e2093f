"""Listwise reward models: all responses behind one prompt in one pass, each read at its last token."""

from collections.abc import Sequence

from rewardhub.errors import ScoringError
from rewardhub.models.inputs import Row
from rewardhub.models.memory import memory_errors
from rewardhub.models.rows import media_of
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
        with memory_errors():
            found = self.engine.outputs(ready, [[index] for index in range(len(ready))], media_of(groups))
        scores = iter([
            each if isinstance(each, Score) else self.calibrated(float(each[place, 0]))
            for row, each in zip(ready, found, strict=True)
            for place in range(len(row.places))
        ])  # fmt: skip
        return [
            Column.of([next(scores) if each is None else each for each in failed], self.fingerprint)
            for _, failed in laid_out
        ]

    def _row(self, group: Group) -> tuple[Row | None, list[Score | None]]:
        """The row of all responses, and per response its failure or None."""
        count, encoder = len(group.responses), self.encoder
        images = [self._images(response) for response in group.responses]
        try:
            encoded = self.checkpoint.check_prompt(encoder.prefix(self.prompt(group), group.media, sum(images)))
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
            self.checkpoint.check_length(encoded)
        except ScoringError as error:
            return None, [failure(error) if each is None else each for each in failed]
        return (Row(encoded, tuple(places)) if places else None), failed

    def _images(self, response: Response) -> int:
        """How many images the response shows; none where one of them cannot be."""
        try:
            return sum(len(self.encoder.patches(each)) for each in response.media)
        except ScoringError:
            return 0
