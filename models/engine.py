"""What computes the outputs of rows: a model in this process, or one that vLLM serves."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from rewardhub.errors import RewardHubError
from rewardhub.models.budget import blank
from rewardhub.models.card import Card
from rewardhub.models.gate import Gate
from rewardhub.models.head import Reads
from rewardhub.models.inputs import Encoded, Row
from rewardhub.models.memory import memory_errors
from rewardhub.models.model import Checkpoint, Loaded, RewardModel, open_checkpoint
from rewardhub.models.runner import Runner
from rewardhub.models.vllm import VllmEngine
from rewardhub.models.writing import Writer
from rewardhub.raised import failure
from rewardhub.types import Group, Media, Score


class Engine(Protocol):
    """Reads rows with what a kind :data:`~rewardhub.models.head.Reads`; ``width`` is the number of its outputs."""

    @property
    def checkpoint(self) -> Checkpoint: ...

    @property
    def runner(self) -> Runner | None: ...

    @property
    def width(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    def refused(self, group: Group) -> Mapping[int, Score]:
        """The responses that it cannot read as they are, by their places, each with the score that says why."""
        ...

    def outputs(
        self, rows: Sequence[Row], kin: Iterable[Sequence[int]], media: Sequence[Media]
    ) -> Sequence[Tensor | Score]:
        """For each row the outputs [K, O] at its places, in fp32 on the CPU, or the score that says why not.

        ``kin`` lists rows that may begin alike, ``media`` all that rows show.
        """
        ...

    def texts(self, rows: Sequence[Encoded], count: int, media: Sequence[Media]) -> list[list[str] | Score]:
        """What the model writes behind each row, ``count`` times, as the card's votes say; or why it does not."""
        ...

    def probe(self, tokens: int) -> int:
        """Reads one row of so many tokens, or as many as a row may have, and returns how many."""
        ...

    @property
    def alive(self) -> bool: ...

    def close(self) -> None: ...


def open_engine(card: Card, reads: Reads, *, language: bool = False) -> Engine:
    """Loads the card's checkpoint here, or has vLLM serve it; raises ``ConfigError`` where that fails."""
    return VllmEngine(card, reads) if card.backend == "vllm" else LocalEngine(card, reads, language=language)


class LocalEngine:
    """A checkpoint in this process."""

    alive = True

    def __init__(self, card: Card, reads: Reads, *, language: bool = False) -> None:
        has_head = reads in {"head", "gated"}
        self.checkpoint: Loaded = open_checkpoint(card, head=has_head, language=language)
        self.runner: Runner = self.checkpoint.runner()
        self.choices = self.checkpoint.replies() if reads == "replies" else []
        self.head = self.checkpoint.backbone.head
        backbone = self.runner.backbone
        gated = reads == "gated"
        self.gate = Gate(self.checkpoint.path, backbone.device, backbone.hidden_size) if gated else None
        self.width = (self.head.outputs if self.head else len(self.choices)) + (self.gate.width if self.gate else 0)

    @cached_property
    def fingerprint(self) -> str:
        return self.checkpoint.fingerprint(self.runner.attention)

    @cached_property
    def writer(self) -> Writer:
        votes = self.checkpoint.card.votes
        return Writer(self.checkpoint, max_tokens=votes.max_tokens, temperature=votes.temperature)

    def refused(self, group: Group) -> dict[int, Score]:
        return {}

    @torch.inference_mode()
    def outputs(self, rows: Sequence[Row], kin: Iterable[Sequence[int]], media: Sequence[Media]) -> list[Tensor]:
        if not rows:
            return []
        states = self.runner.states([row.encoded for row in rows], kin, [row.places for row in rows])
        if self.runner.attention == "alone":
            return [self._read(state) for state in states]
        return list(self._read(torch.cat(states)).split([len(row.places) for row in rows]))

    def texts(self, rows: Sequence[Encoded], count: int, media: Sequence[Media]) -> list[list[str] | Score]:
        return [self._written(row, count) for row in rows]

    def probe(self, tokens: int) -> int:
        tokens = min(tokens, self.runner.backbone.max_length)
        self.outputs([Row(blank(tokens), (tokens - 1,))], [[0]], ())
        return tokens

    def close(self) -> None:
        return

    def _written(self, row: Encoded, count: int) -> list[str] | Score:
        try:
            return [each.text for each in self.writer.write(row, count)]
        except RewardHubError as error:
            return failure(error)

    def _read(self, states: Tensor) -> Tensor:
        if self.choices:
            return self.checkpoint.backbone.logits_of(states, self.choices).cpu()
        assert self.head is not None
        outputs = self.head(states).reshape(len(states), -1)
        return (torch.cat([outputs, self.gate(states)], -1) if self.gate else outputs).cpu()


class EngineModel(RewardModel):
    """What the kinds share that read outputs of rows, here or from vLLM."""

    def __init__(self, card: Card, reads: Reads, *, language: bool = False) -> None:
        self.card = card
        self.engine = open_engine(card, reads, language=language)
        self.checkpoint = self.engine.checkpoint

    @cached_property
    def fingerprint(self) -> str:
        return self.engine.fingerprint

    @property
    def loaded(self) -> Loaded:
        """The checkpoint in this process."""
        assert isinstance(self.engine, LocalEngine)
        return self.engine.checkpoint

    @property
    def runner(self) -> Runner | None:
        """What runs rows here; None where another process does."""
        return self.engine.runner

    @property
    def runners(self) -> Sequence[Runner]:
        return () if self.runner is None else (self.runner,)

    def probe(self, tokens: int) -> int:
        """See :class:`~rewardhub.models.model.RewardModel`."""
        with memory_errors():
            return self.engine.probe(tokens)

    @property
    def alive(self) -> bool:
        return self.engine.alive

    def close(self) -> None:
        self.engine.close()
