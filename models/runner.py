"""Running many rows through a backbone: packed, with shared beginnings computed once, or padded."""

import logging
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rewardhub.models.attention import packed
from rewardhub.models.backbone import Backbone
from rewardhub.models.batching import in_batches
from rewardhub.models.inputs import Encoded, Encoder
from rewardhub.models.packing import Pack, packs
from rewardhub.models.pictures import Patches

CPU_JOIN = 2048
"""Families share a pack on a CPU up to so many tokens: more make no better use of the cores."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_log = logging.getLogger(__name__)


class Runner:
    """Gives the hidden state of each row's last token.

    ``attention`` is the path taken: "packed" where the self-check at construction found it equal to
    padded full rows, else "rows".
    """

    def __init__(self, backbone: Backbone, encoder: Encoder, token_budget: int, *, share_prefix: bool = True) -> None:
        self.backbone = backbone
        self.encoder = encoder
        self.token_budget = token_budget
        self.attention: Literal["packed", "rows"] = "rows"
        if share_prefix and self._packing_is_exact():
            self.attention = "packed"

    @torch.inference_mode()
    def last_hidden(self, rows: Sequence[Encoded], kin: Iterable[Sequence[int]]) -> Tensor:
        """The states [N, H] of N rows, in their order; ``kin`` lists rows that may begin alike."""
        if self.attention == "packed":
            return self.packed(rows, kin)
        return self.padded(rows)

    def padded(self, rows: Sequence[Encoded]) -> Tensor:
        """Full rows, padded to the longest of their batch."""
        known: dict[Patches, Tensor] = {}

        def run(batch: list[int]) -> Tensor:
            inputs = self.encoder.collate([rows[index] for index in batch])
            return self.backbone.last_hidden(inputs.to(self.backbone.device), known)

        return in_batches([len(row) for row in rows], self.token_budget, run)

    def packed(self, rows: Sequence[Encoded], kin: Iterable[Sequence[int]]) -> Tensor:
        """Rows behind one another, without padding and without any attention mask."""
        on_cpu = self.backbone.device.type == "cpu"
        join = min(self.token_budget, CPU_JOIN) if on_cpu else self.token_budget
        known: dict[Patches, Tensor] = {}
        states = torch.empty(len(rows), self.backbone.hidden_size, dtype=self.backbone.dtype)
        states = states.to(self.backbone.device)
        for pack in packs(rows, kin, self.token_budget, join):
            states[list(pack.rows)] = self._run(pack, known)
        return states

    def _run(self, pack: Pack, known: dict[Patches, Tensor]) -> Tensor:
        inputs = self.encoder.collate([pack.sequence]).to(self.backbone.device)
        language_model = self.backbone.base.language_model
        with packed(language_model):
            output = language_model(
                inputs_embeds=self.backbone.embed(inputs, known),
                position_ids=inputs.position_ids,
                attention_mask={"full_attention": None},
                use_cache=False,
                families=pack.families,
            )
        return output.last_hidden_state[0, list(pack.ends)]

    @torch.inference_mode()
    def _packing_is_exact(self) -> bool:
        """Whether packed and padded states of sample rows agree to the precision of their type."""
        layers = self.backbone.base.config.text_config.layer_types
        if set(layers) != {"full_attention"}:
            return False
        rows, kin = self._samples()
        try:
            wanted, found = self.padded(rows).float(), self.packed(rows, kin).float()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            _log.warning("shared prefixes are off: %s: %s", type(error).__name__, error)
            return False
        limit = TOLERANCE[self.backbone.dtype] * float(wanted.abs().max())
        exact = bool(torch.isfinite(wanted).all()) and float((found - wanted).abs().max()) <= limit
        if not exact:
            _log.warning("shared prefixes are off: packed states differ by %.2g", float((found - wanted).abs().max()))
        return exact

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
