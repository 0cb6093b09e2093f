"""Discriminative reward models: a head reads the score from the last token's hidden state."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property, partial

import torch

from rewardhub.errors import ScoringError
from rewardhub.models.card import Card
from rewardhub.models.inputs import Encoded
from rewardhub.models.model import Loaded, attempt, finite, memory_errors, open_checkpoint
from rewardhub.scorer import digest_of, failure
from rewardhub.types import Column, Group, Score


class ScalarModel:
    """Scores each response by itself; the order and company of responses change nothing."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.loaded: Loaded = open_checkpoint(card, head=True)
        self.runner = self.loaded.runner()

    @cached_property
    def fingerprint(self) -> str:
        return self.loaded.fingerprint(self.runner.attention)

    def score(self, groups: Sequence[Group]) -> list[Column]:
        rows = [self.encode(group) for group in groups]
        ready: list[Encoded] = []
        kin: dict[str, list[int]] = defaultdict(list)
        for group, encoded in zip(groups, rows, strict=True):
            for row in encoded:
                if isinstance(row, Encoded):
                    kin[_prompt_key(group)].append(len(ready))
                    ready.append(row)
        with memory_errors():
            values = iter(self.values(ready, list(kin.values())))
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

    def values(self, rows: Sequence[Encoded], kin: Sequence[Sequence[int]]) -> list[float]:
        """The raw scores of sequences, of which those of like prompt are named together in ``kin``."""
        if not rows:
            return []
        head = self.loaded.backbone.head
        assert head is not None
        with torch.inference_mode():
            return [float(value) for value in head(self.runner.last_hidden(rows, kin)).cpu()]

    def _row(self, prefix: Encoded, group: Group, index: int) -> Encoded:
        answer = self.loaded.encoder.answer(group.responses[index], len(group.media))
        return self.loaded.check_length(prefix + answer)


def _prompt_key(group: Group) -> str:
    """Groups with this key in common have prompt and media in common, single calls of one prompt among them."""
    return digest_of(repr(group.prompt), *(media.data or b"" for media in group.media))
