"""Discriminative reward models: a head reads the score from the last token's hidden state."""

from collections.abc import Sequence
from functools import cached_property, partial

from rewardhub.errors import ScoringError
from rewardhub.models.card import Card
from rewardhub.models.inputs import Encoded
from rewardhub.models.model import Loaded, attempt, finite, memory_errors, open_checkpoint
from rewardhub.models.prefix import RowRunner
from rewardhub.scorer import failure
from rewardhub.types import Column, Group, Score


class ScalarModel:
    """Scores each response by itself; the order and company of responses change nothing."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.loaded: Loaded = open_checkpoint(card, head=True)
        self.runner = RowRunner(self.loaded.backbone, self.loaded.encoder, card.token_budget)

    @cached_property
    def fingerprint(self) -> str:
        return self.loaded.fingerprint(self.runner.attention)

    def score(self, groups: Sequence[Group]) -> list[Column]:
        rows = [self.encode(group) for group in groups]
        ready = [row for group in rows for row in group if isinstance(row, Encoded)]
        with memory_errors():
            values = iter(self.values(ready))
        return [
            Column.of([finite(next(values)) if isinstance(row, Encoded) else row for row in group], self.fingerprint)
            for group in rows
        ]

    def encode(self, group: Group) -> list[Encoded | Score]:
        """One sequence per response, or the score that says why there is none."""
        try:
            prefix = self.loaded.check_prompt(self.loaded.encoder.prefix(group.prompt, group.media))
        except ScoringError as error:
            return [failure(error)] * len(group.responses)
        return [attempt(partial(self._row, prefix, group, index)) for index in range(len(group.responses))]

    def values(self, rows: Sequence[Encoded]) -> list[float]:
        """The raw scores of sequences; not-a-number where the model computed none."""
        if not rows:
            return []
        head = self.loaded.backbone.head
        assert head is not None
        return [float(value) for value in head(self.runner.last_hidden(rows)).cpu()]

    def _row(self, prefix: Encoded, group: Group, index: int) -> Encoded:
        answer = self.loaded.encoder.answer(group.responses[index], len(group.media))
        return self.loaded.check_length(prefix + answer)
