"""Running many rows through a backbone: packed, with shared beginnings computed once, or padded."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rewardhub.models.attention import Plan
from rewardhub.models.backbone import Backbone
from rewardhub.models.batching import batches
from rewardhub.models.budget import measured_room
from rewardhub.models.cached import CachedRows
from rewardhub.models.inputs import Encoded, Encoder
from rewardhub.models.linear import rounded
from rewardhub.models.memory import NeverFits, memory_errors
from rewardhub.models.packing import MIN_SHARED, Pack, packs
from rewardhub.models.pictures import Patches
from rewardhub.models.prefixes import ImageMemory, Prefix, PrefixMemory, prompt_key
from rewardhub.models.progress import progress

IMAGE_BYTES = 64 * 1024 * 1024
"""Of features of images that are remembered, at most."""

CPU_JOIN = 2048
"""Families share a pack on a CPU up to so many tokens: more make no better use of the cores."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-1, torch.float16: 2e-2}
"""How far a state may be from that of a padded row, as a share of its length: rounding grows with the layers."""

Path = Literal["packed", "cached", "rows", "alone"]
_log = logging.getLogger(__name__)


class Runner:
    """Gives the hidden states of rows, after the final norm.

    ``attention`` is the path taken: the first of "packed" (full attention only) and "cached" that the
    self-check at construction found equal to padded full rows, else "rows"; "alone" where scores are to
    be reproducible to the last bit, where positions depend on the length of a batch's longest row, or where experts are
    chosen by numbers of half precision.
    ``drift`` is how far the state furthest from that of full rows was, as
    a share of its length. ``memory`` holds the prompts of the packed path, ``images`` what was seen in images, but not
    where scores are to be reproducible: in other company an image is rounded otherwise. ``tokens`` counts the tokens
    that went through the layers, ``padding`` those of them that stand behind a row's end.
    """

    def __init__(
        self,
        backbone: Backbone,
        encoder: Encoder,
        token_budget: int,
        *,
        share_prefix: bool = True,
        reproducible: bool = False,
        prefix_bytes: int = 0,
    ) -> None:
        self.backbone = backbone
        self.encoder = encoder
        self.token_budget = self._asked_budget = token_budget
        self._reproducible = reproducible
        alone = reproducible or _turns_by_length(backbone.text_config) or _chooses_by_rounded_numbers(backbone)
        self.memory = PrefixMemory(0)
        self.images = ImageMemory(0 if reproducible else min(prefix_bytes, IMAGE_BYTES))
        self.tokens = 0
        self.padding = 0
        self.attention: Path = "alone" if alone else "rows"
        self.drift = 0.0
        if share_prefix and not alone:
            self.attention = self._first_exact()
        self.measure()
        self.memory = PrefixMemory(prefix_bytes)

    def measure(self) -> None:
        """Sets what a batch may hold by the memory that is free now; a reproducible one keeps what was asked for."""
        room = measured_room(self)
        self._most = room.ever
        if not self._reproducible:
            self.token_budget = min(self._asked_budget, room.now)

    def last_hidden(self, rows: Sequence[Encoded], kin: Iterable[Sequence[int]]) -> Tensor:
        """The states [N, H] of the last tokens of N rows, in their order."""
        return torch.cat(self.states(rows, kin, [(len(row) - 1,) for row in rows]))

    @torch.inference_mode()
    def states(
        self, rows: Sequence[Encoded], kin: Iterable[Sequence[int]], places: Sequence[Sequence[int]]
    ) -> list[Tensor]:
        """For each row the states [K, H] of its tokens ``places``; ``kin`` lists rows that may begin alike.

        Raises ``MemoryError`` where there is no room, ``NeverFits`` for a row that would have none on its own device.
        """
        try:
            with memory_errors():
                return self._states(rows, kin, places)
        except MemoryError as error:
            longest = max(map(len, rows))
            if longest > self._most:
                raise NeverFits(f"{longest} tokens, the device has memory for about {self._most}") from error
            raise

    def _states(
        self, rows: Sequence[Encoded], kin: Iterable[Sequence[int]], places: Sequence[Sequence[int]]
    ) -> list[Tensor]:
        if self.attention == "packed":
            return self.packed(rows, kin, places)
        if self.attention == "cached":
            return self.cached(rows, kin, places)
        if self.attention == "alone":
            return [self.padded([row], [at])[0] for row, at in zip(rows, places, strict=True)]
        return self.padded(rows, places)

    def cached(
        self, rows: Sequence[Encoded], kin: Iterable[Sequence[int]], places: Sequence[Sequence[int]]
    ) -> list[Tensor]:
        """What rows of a kin share is read once, and its cache repeated for them."""
        run = CachedRows(self.backbone, self.encoder, self.token_budget)
        known = self.images.of(rows)
        states = run.states(rows, kin, places, known)
        self.images.keep(known)
        self.tokens += run.tokens
        return states

    def padded(self, rows: Sequence[Encoded], places: Sequence[Sequence[int]]) -> list[Tensor]:
        """Full rows, padded to the longest of their batch."""
        known = self.images.of(rows)
        found: dict[int, Tensor] = {}
        for batch in batches([len(row) for row in rows], self.token_budget):
            inputs = self.encoder.collate([rows[index] for index in batch])
            progress.holds(inputs.input_ids.numel())
            states = self.backbone.hidden(inputs.to(self.backbone.device), known)
            self.tokens += states.shape[0] * states.shape[1]
            self.padding += states.shape[0] * states.shape[1] - sum(len(rows[index]) for index in batch)
            found |= {index: state[list(places[index])] for index, state in zip(batch, states, strict=True)}
        self.images.keep(known)
        return [found[index] for index in range(len(rows))]

    def packed(
        self, rows: Sequence[Encoded], kin: Iterable[Sequence[int]], places: Sequence[Sequence[int]]
    ) -> list[Tensor]:
        """Rows behind one another, without padding and without any attention mask."""
        on_cpu = self.backbone.device.type == "cpu"
        join = min(self.token_budget, CPU_JOIN) if on_cpu else self.token_budget
        known = self.images.of(rows)
        past: dict[int, Prefix] = {}

        def remembered(members: Sequence[int]) -> int:
            prompt = rows[members[0]].prompt
            keys = {prompt_key(rows[index]) for index in members} if self.memory.budget and prompt else set()
            prefix = self.memory.get(keys.pop()) if len(keys) == 1 else None
            if prefix is None or min(min(places[index]) for index in members) < prompt:
                return 0
            past.update(dict.fromkeys(members, prefix))
            return prompt

        found: dict[int, Tensor] = {}
        for pack in packs(rows, kin, self.token_budget, join, remembered):
            found |= self._run(pack, rows, places, past, known)
        self.images.keep(known)
        return [found[index] for index in range(len(rows))]

    def _run(
        self,
        pack: Pack,
        rows: Sequence[Encoded],
        places: Sequence[Sequence[int]],
        past: Mapping[int, Prefix],
        known: dict[Patches, Tensor],
    ) -> dict[int, Tensor]:
        width = self._width(pack)
        inputs = self.encoder.collate([pack.sequence], width=width).to(self.backbone.device)
        wanted = pack.places(places)
        read = [place for row in wanted for place in row]
        fresh = self._fresh(pack, rows)
        plan = Plan(
            pack.families,
            [past.get(first) for first in pack.firsts],
            read,
            [(span, prefix) for _, span, prefix in fresh],
            ends_only=read == list(pack.ends),
            padding=width - len(pack.sequence),
        )
        progress.holds(width + sum(family.past for family in pack.families))
        states = self.backbone.packed(inputs, known, plan).split([len(row) for row in wanted])
        self.tokens += width
        self.padding += plan.padding
        for key, _, prefix in fresh:
            self.memory.put(key, prefix)
        return dict(zip(pack.rows, states, strict=True))

    def _width(self, pack: Pack) -> int:
        """The tokens of a pack with the padding behind it, which only a CPU wants."""
        return rounded(len(pack.sequence)) if self.backbone.device.type == "cpu" else len(pack.sequence)

    def _fresh(self, pack: Pack, rows: Sequence[Encoded]) -> list[tuple[bytes, slice, Prefix]]:
        """The prompts in the pack that are to be remembered, by their keys, and where they stand."""
        if not self.memory.budget:
            return []
        firsts = zip(pack.firsts, pack.families, pack.starts, strict=True)
        return [
            (prompt_key(rows[first]), slice(start, start + rows[first].prompt), Prefix())
            for first, family, start in firsts
            if rows[first].prompt >= MIN_SHARED and not family.past
        ]

    @torch.inference_mode()
    def _first_exact(self) -> Path:
        """The first path whose states of sample rows agree with padded rows' to the precision of their type."""
        rows, kin = self._samples()
        samples = ([(len(row) - 1,) for row in rows], [(len(row) // 2, len(row) - 1) for row in rows])
        wanted = [torch.cat(self.padded(rows, places)).float() for places in samples]
        if _sees_all(self.backbone.text_config) and self._agrees("packed", rows, kin, samples, wanted):
            return "packed"
        if self._agrees("cached", rows, kin, samples, wanted):
            return "cached"
        self.drift = 0.0
        return "rows"

    def _agrees(
        self, path: Literal["packed", "cached"], rows: Sequence[Encoded], kin: Sequence[Sequence[int]],
        samples: Sequence[Sequence[Sequence[int]]], wanted: Sequence[Tensor],
    ) -> bool:  # fmt: skip
        apart = 0.0
        for places, states in zip(samples, wanted, strict=True):
            try:
                found = torch.cat(getattr(self, path)(rows, kin, places)).float()
            except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError, KeyError) as error:
                _log.warning("%s rows are off: %s: %s", path, type(error).__name__, error)
                return False
            worst = float(((found - states).norm(dim=-1) / states.norm(dim=-1)).max())
            apart = max(apart, worst if math.isfinite(worst) else math.inf)
        self.drift = apart
        if apart > TOLERANCE[self.backbone.dtype]:
            _log.warning("%s rows are off: their states differ by %.2g of their length", path, apart)
        return apart <= TOLERANCE[self.backbone.dtype]

    def _samples(self) -> tuple[list[Encoded], list[list[int]]]:
        """Two families and a loner, of ids drawn evenly and unlike lengths."""
        rng = np.random.default_rng(0)

        def text(length: int) -> Encoded:
            ids = rng.integers(0, self.encoder.tokenizer.size, length)
            ids[ids == self.encoder.image_id] = 0
            return Encoded(ids, np.tile(np.arange(length), (3, 1)), (), (), length)

        first, second = text(40), text(9)
        rows = [first + text(length) for length in (1, 30, 7)] + [second + text(3), second + text(12), text(21)]
        return rows, [[0, 1, 2], [3, 4], [5]]


def _sees_all(config: Any) -> bool:
    """Whether every layer attends to all that stands before a token, however far: sample rows are short."""
    layers = getattr(config, "layer_types", None)
    if layers:
        return set(layers) == {"full_attention"}
    return getattr(config, "sliding_window", None) is None


def _chooses_by_rounded_numbers(backbone: Backbone) -> bool:
    """Whether rounding, which follows a batch's shape, may choose another expert: a score would move with its company
    by as much as scores differ. Neither rows that are not packed nor choosing in fp32 keep it from that.
    """
    return backbone.family.experts and backbone.dtype != torch.float32


def _turns_by_length(config: Any) -> bool:
    """Whether rotary positions depend on how long a sequence is: LongRoPE (arXiv 2402.13753) has two sets."""
    return "longrope" in str(getattr(config, "rope_parameters", None))
