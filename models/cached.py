"""Shared beginnings for models with windows or recurrent layers: one cache, repeated for the rows behind it.

Every row goes on from a copy of the cache that the shared tokens left, in batches of like length. Long
sequences are read in stretches, so that a window's mask has at most ``STRETCH`` rows.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from rewardhub.models.backbone import Backbone, Features
from rewardhub.models.batching import batches
from rewardhub.models.inputs import Encoded, Encoder, Inputs
from rewardhub.models.packing import MIN_SHARED, cut, shared_length
from rewardhub.models.progress import progress

STRETCH = 1024
"""Tokens that are read at a time."""
DEEPER = "deepstack_visual_embeds"


class CachedRows:
    """Runs rows of a backbone; ``tokens`` counts what went through the layers, padding included."""

    def __init__(self, backbone: Backbone, encoder: Encoder, token_budget: int) -> None:
        self.backbone = backbone
        self.encoder = encoder
        self.token_budget = token_budget
        self.tokens = 0

    def states(
        self,
        rows: Sequence[Encoded],
        kin: Iterable[Sequence[int]],
        places: Sequence[Sequence[int]],
        known: Features,
    ) -> list[Tensor]:
        """For each row the states [K, H] of its tokens ``places``; ``known`` features are added to."""
        found: dict[int, Tensor] = {}
        loners: list[int] = []
        for members in kin:
            shared = self._shared([rows[index] for index in members])
            if not shared:
                loners += members
                continue
            cache = self._new_cache()
            head = self._read([cut(rows[members[0]], 0, shared)], cache, known)[0]
            for batch, states in self._tails(rows, members, shared, cache, known):
                both = {index: torch.cat([head, tail]) for index, tail in zip(batch, states, strict=True)}
                found |= {index: both[index][list(places[index])] for index in batch}
        for batch, states in self._tails(rows, loners, 0, None, known):
            found |= {index: state[list(places[index])] for index, state in zip(batch, states, strict=True)}
        return [found[index] for index in range(len(rows))]

    def _shared(self, rows: Sequence[Encoded]) -> int:
        shared = shared_length(rows) if len(rows) > 1 else 0
        # Masks that let an image's tokens see one another are built for a sequence without a past.
        late = self.backbone.family.whole_forward and any(row.spans and row.spans[-1][1] > shared for row in rows)
        return shared if shared >= MIN_SHARED and not late else 0

    def _tails(
        self, rows: Sequence[Encoded], members: Sequence[int], shared: int, cache: Any, known: Features
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Batches of rows behind their shared tokens, with the states of those."""
        # Whole rows count: each holds a copy of what is shared.
        for batch in batches([len(rows[index]) for index in members], self.token_budget):
            chosen = [members[each] for each in batch]
            past = self._new_cache() if cache is None else repeated(cache, len(chosen))
            progress.holds(sum(len(rows[index]) for index in chosen))
            yield chosen, self._read([cut(rows[index], shared, len(rows[index])) for index in chosen], past, known)

    def _read(self, rows: Sequence[Encoded], cache: Any, known: Features) -> Tensor:
        """The states [B, L, H] of rows that go on from the cache, padded on the right."""
        inputs = self.encoder.collate(rows).to(self.backbone.device)
        self.tokens += inputs.input_ids.numel()
        progress.holds(inputs.input_ids.numel())
        embedded = self.backbone.embedded(inputs, known)
        states = [
            self.backbone.run(
                _columns(embedded, start, stop), _stretch(inputs, start, stop), past_key_values=cache, use_cache=True
            )
            for start, stop in pairwise(self._stops(rows, inputs))
        ]
        return torch.cat(states, 1)

    def _stops(self, rows: Sequence[Encoded], inputs: Inputs) -> list[int]:
        """Where stretches begin and end: never within an image.

        Where an image's tokens see one another all images are in the first stretch, which has no past.
        """
        width = inputs.input_ids.shape[1]
        spans = [span for row in rows for span in row.spans]
        if self.backbone.family.whole_forward and spans:
            spans = [(0, max(end for _, end in spans))]
        stops = [0]
        while stops[-1] < width:
            stop = min(stops[-1] + STRETCH, width)
            stop = min((start for start, end in spans if start < stop < end and start > stops[-1]), default=stop)
            if any(start < stop < end for start, end in spans):
                stop = max(end for start, end in spans if start < stop < end)
            stops.append(min(stop, width))
        return stops

    def _new_cache(self) -> Any:
        return DynamicCache(config=self.backbone.text_config)


def repeated(cache: Any, count: int) -> Any:
    """A copy of a cache of one row, for ``count`` rows; keys, values and recurrent states alike."""
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in copied.layers:
        for name, value in vars(layer).items():
            if isinstance(value, dict):
                setattr(layer, name, {key: _repeat(each, count) for key, each in value.items()})
            else:
                setattr(layer, name, _repeat(value, count))
    return copied


def _repeat(value: Any, count: int) -> Any:
    if isinstance(value, Tensor) and value.ndim > 1:
        return value.repeat_interleave(count, 0)
    return value


def _columns(embedded: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    """What stands in these columns of a batch; what later layers add is one row per placeholder, row by row."""
    found = {name: value[:, start:stop] for name, value in embedded.items() if name != DEEPER}
    if DEEPER in embedded:
        places = embedded["visual_pos_masks"].nonzero()[:, 1]
        here = (start <= places) & (places < stop)
        found[DEEPER] = [each[here] for each in embedded[DEEPER]]
    return found


def _stretch(inputs: Inputs, start: int, stop: int) -> Inputs:
    return Inputs(
        inputs.input_ids[:, start:stop], inputs.attention_mask[:, start:stop], inputs.position_ids[:, :, start:stop],
        inputs.mm_token_type_ids[:, start:stop], inputs.images, inputs.image_order, inputs.reader,
    )  # fmt: skip
