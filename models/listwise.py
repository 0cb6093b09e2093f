"""Listwise reward models: all responses behind one prompt in one pass, each read at its last token."""

from collections.abc import Sequence
from functools import partial, reduce
from itertools import accumulate
from operator import add

from rewardhub.errors import ScoringError
from rewardhub.models.inputs import Encoded, Row
from rewardhub.models.memory import memory_errors
from rewardhub.models.model import attempt
from rewardhub.models.rows import media_of, prompt_of
from rewardhub.models.scalar import ScalarModel
from rewardhub.models.truncation import Prompt, fitted, flagged
from rewardhub.raised import failure
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
            flagged(each if isinstance(each, Score) else self.calibrated(float(each[place, 0])), row.truncated)
            for row, each in zip(ready, found, strict=True)
            for place in range(len(row.places))
        ])  # fmt: skip
        return [
            Column.of([next(scores) if each is None else each for each in failed], self.fingerprint)
            for _, failed in laid_out
        ]

    def _row(self, group: Group) -> tuple[Row | None, list[Score | None]]:
        """The row of all responses, and per response its failure or None."""
        images = [self._images(response) for response in group.responses]
        answers = [
            attempt(partial(self.encoder.answer, response, len(group.media), sum(images) - own))
            for response, own in zip(group.responses, images, strict=True)
        ]
        refused = self.engine.refused(group)
        read = [refused.get(at, each) if isinstance(each, Encoded) else each for at, each in enumerate(answers)]
        shown = [each for each in read if isinstance(each, Encoded)]
        try:
            prompt = Prompt(self.checkpoint, prompt_of(self.card, group), group.media, self.least)
            row = fitted(
                self.checkpoint, lambda less: _row(prompt.without(less, sum(images)), shown, self.back), prompt.ends
            )
        except ScoringError as error:
            return None, [each if isinstance(each, Score) else failure(error) for each in answers]
        return (row if shown else None), [each if isinstance(each, Score) else None for each in read]

    def _images(self, response: Response) -> int:
        """How many images the response shows; none where one of them cannot be."""
        try:
            return sum(len(self.encoder.patches(each)) for each in response.media)
        except ScoringError:
            return 0


def _row(prompt: Encoded, answers: Sequence[Encoded], back: int) -> Row:
    """All answers behind the prompt, each read ``back`` tokens before its last."""
    ends = accumulate(map(len, answers), initial=len(prompt) - 1 - back)
    return Row(reduce(add, answers, prompt), tuple(ends)[1:])
