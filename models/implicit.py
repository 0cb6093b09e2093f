"""Implicit rewards of DPO models: beta * (log pi(y|x) - log pi_ref(y|x)), arXiv 2305.18290."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from rewardhub.errors import ConfigError, InvalidInput
from rewardhub.models.budget import blank
from rewardhub.models.card import Card
from rewardhub.models.inputs import Encoded, Row
from rewardhub.models.memory import memory_errors
from rewardhub.models.model import Loaded, open_checkpoint
from rewardhub.models.pictures import cutting
from rewardhub.models.rows import RowModel
from rewardhub.models.runner import Runner
from rewardhub.models.sample_image import check_images
from rewardhub.scorer import digest_of
from rewardhub.types import Group, Response, Score

PLACES = 512
"""Tokens whose logits over the whole vocabulary are held at a time."""


class ImplicitModel(RowModel):
    """The sum over the tokens of the answer's turn behind its role, or with ``per_token`` their mean.

    The limit is that of the model with the shorter context.
    """

    reads = "states"

    def __init__(self, card: Card) -> None:
        super().__init__(card)
        assert card.implicit is not None
        self.spec = card.implicit
        self.reference = open_checkpoint(card.model_copy(update={"path": self.spec.reference}), head=False)
        self._check_tokens(self.reference)
        self._check_images(self.reference)
        limit = min(self.checkpoint.max_tokens, self.reference.max_tokens)
        self.checkpoint = replace(self.checkpoint, max_tokens=limit)
        self.reference_runner = self.reference.runner()
        self.header = len(self.encoder.pieces(self.encoder.template.opening(), ()))

    @property
    def runners(self) -> Sequence[Runner]:
        return *super().runners, self.reference_runner

    @cached_property
    def fingerprint(self) -> str:
        reference = self.reference.fingerprint(self.reference_runner.attention)
        return digest_of(self.engine.fingerprint, reference)

    def row(self, prefix: Encoded, group: Group, response: Response) -> Row:
        encoded = super().row(prefix, group, response).encoded
        if response.messages and [each.get("role") for each in response.messages] != ["assistant"]:
            reason = "an implicit reward is of what the policy wrote; a trajectory holds more than that"
            raise InvalidInput(reason, field="response.messages")
        return Row(encoded, tuple(range(len(prefix) + self.header - 1, len(encoded) - 1)))

    @torch.inference_mode()
    def readings(self, rows: Sequence[Row], kin: Sequence[Sequence[int]], groups: Sequence[Group]) -> list[Score]:
        if not rows or self.runner is None:
            return []
        sides = []
        for loaded, runner in ((self.loaded, self.runner), (self.reference, self.reference_runner)):
            states = runner.states([row.encoded for row in rows], kin, [row.places for row in rows])
            logits = loaded.backbone.logits
            sides.append([_log_likelihood(row, state, logits) for row, state in zip(rows, states, strict=True)])
        return [self._score(row, ours, base) for row, ours, base in zip(rows, *sides, strict=True)]

    def probe(self, tokens: int) -> int:
        tokens = max(2, min(tokens, self.checkpoint.max_tokens))
        with memory_errors():
            self.readings([Row(blank(tokens), (tokens - 2,))], [[0]], ())
        return tokens

    def _check_tokens(self, reference: Loaded) -> None:
        """Raises ``ConfigError`` where the reference reads other tokens than this model's tokenizer gives."""
        tokenizer = self.encoder.tokenizer
        rows = reference.backbone.base.get_input_embeddings().num_embeddings
        if not tokenizer.agrees(reference.encoder.tokenizer) or tokenizer.size > rows:
            reason = f"{reference.path} has another vocabulary than {self.checkpoint.path}"
            raise ConfigError(reason, field="implicit.reference")

    def _check_images(self, reference: Loaded) -> None:
        """Raises ``ConfigError`` where the reference was trained on images that are cut otherwise than here."""
        if not (self.encoder.family.image or reference.encoder.family.image):
            return
        ours, theirs = (
            {"model_type": each.reader.config["model_type"], **cutting(each.reader)}
            for each in (self.encoder, reference.encoder)
        )
        if differ := sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)):
            name = "model_type" if "model_type" in differ else differ[0]
            both = f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} in {self.checkpoint.path}"
            raise ConfigError(f"{reference.path} reads images otherwise: {both}", field="implicit.reference")
        check_images(reference.path, reference.backbone, self.encoder)

    def _score(self, row: Row, ours: float, base: float) -> Score:
        count = len(row.places) if self.spec.per_token else 1
        return self.calibrated(self.spec.beta * (ours - base) / count)


def _log_likelihood(row: Row, states: Tensor, logits: Callable[[Tensor], Tensor]) -> float:
    """The sum of log-probabilities of the tokens behind the row's places, from the states [K, H] there."""
    following = torch.from_numpy(row.encoded.ids[[place + 1 for place in row.places]]).to(states.device)
    return sum(
        float(torch.log_softmax(logits(state), -1).gather(-1, ids[:, None]).sum(dtype=torch.float64))
        for state, ids in zip(states.split(PLACES), following.split(PLACES), strict=True)
    )
