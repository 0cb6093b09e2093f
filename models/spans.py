"""Attention from spans of tokens to spans of tokens, with the log-sum-exp that lets parts be merged.

Shapes: queries [S, heads, D], keys and values [K, key heads, D], each key head serving its share of the
heads; the spans lie behind one another and fill the tensors.
"""

from collections.abc import Iterator
from itertools import accumulate, groupby

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import repeat_kv

Parts = tuple[Tensor, Tensor]
"""Attention [S, heads, D] and the log-sum-exp of its logits, in fp32, [S, heads]."""


class Spans:
    """Lengths of spans that lie behind one another."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self.lengths = lengths
        self.longest = max(lengths, default=0)
        self._starts: Tensor | None = None

    def starts(self, device: torch.device) -> Tensor:
        """Where each span starts, and the end of the last, [N + 1] int32."""
        if self._starts is None:
            self._starts = torch.tensor([*accumulate(self.lengths, initial=0)], dtype=torch.int32, device=device)
        return self._starts


def attend_spans(
    query: Tensor, key: Tensor, value: Tensor, asking: Spans, asked: Spans, scaling: float, *, causal: bool
) -> Parts:
    """Softmax attention of each span of queries to the span of keys of like number.

    ``causal`` lets a token see itself and those before it; the spans are then the same on both sides.
    """
    if query.is_cuda and query.dtype != torch.float32:
        out, weight, *_ = torch.ops.aten._flash_attention_forward(
            query, key, value, asking.starts(query.device), asked.starts(query.device),
            asking.longest, asked.longest, 0.0, causal, False, scale=scaling,
        )  # fmt: skip
        return out, weight.transpose(0, 1)
    parts = [attend(*batch, scaling, causal=causal) for batch in _batches(query, key, value, asking, asked)]
    flat = [(out.flatten(0, 1), weight.flatten(0, 1)) for out, weight in parts]
    if len(flat) == 1:
        return flat[0]
    return torch.cat([out for out, _ in flat]), torch.cat([weight for _, weight in flat])


def _batches(
    query: Tensor, key: Tensor, value: Tensor, asking: Spans, asked: Spans
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Neighbouring spans of like length as batches [N, T, heads, D]."""
    at, start = 0, 0
    for (asks, answers), alike in groupby(zip(asking.lengths, asked.lengths, strict=True)):
        count = len(list(alike))
        stop, end = at + count * asks, start + count * answers
        yield (
            query[at:stop].unflatten(0, (count, asks)),
            key[start:end].unflatten(0, (count, answers)),
            value[start:end].unflatten(0, (count, answers)),
        )
        at, start = stop, end


def attend(query: Tensor, key: Tensor, value: Tensor, scaling: float, *, causal: bool) -> Parts:
    """Softmax attention of a batch [N, T, heads, D] to [N, K, key heads, D], in its type's own kernel."""
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    if not query.is_cuda:
        out, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, scale=scaling
        )
        return out.transpose(1, 2), weight.transpose(1, 2)
    key, value = (repeat_kv(each, query.shape[1] // each.shape[1]) for each in (key, value))
    out, weight, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, None, True, 0.0, causal, scale=scaling
    )
    return out.transpose(1, 2), weight[..., : query.shape[2]].transpose(1, 2)
