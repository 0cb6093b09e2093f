"""Attention over packed rows: no mask is built, and what rows share is attended to once for all of them.

A row's own tokens attend to the shared tokens without a mask and to themselves causally; the two
parts are merged by their log-sum-exp, which is exact (as in ring attention, arXiv 2310.01889).
Shapes: queries [S, heads, D]; keys and values [S, key heads, D].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import repeat_kv

from rewardhub.models.packing import Family
from rewardhub.models.prefixes import Prefix

Parts = tuple[Tensor, Tensor]
"""Attention [T, heads, D] and the log-sum-exp of its logits, in fp32, [T, heads]."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a packed sequence attends.

    ``pasts`` holds what comes before each family without being in the sequence; ``keeps`` are spans of
    the sequence whose keys and values are to be remembered. The states at the places ``read`` are asked
    for; with ``ends_only`` those are the last tokens of all rows, in order.
    """

    families: Sequence[Family]
    pasts: Sequence[Prefix | None]
    read: Sequence[int]
    keeps: Sequence[tuple[slice, Prefix]] = ()
    ends_only: bool = False

    def remember(self, key: Tensor, value: Tensor) -> None:
        """Adds one layer's keys and values to the prefixes to be kept."""
        for span, prefix in self.keeps:
            prefix.keys.append(key[span].clone())
            prefix.values.append(value[span].clone())

    def placed(self) -> Iterator[tuple[slice, list[slice], Prefix | None]]:
        """Each family's shared tokens, its rows' own tokens, and what comes before them."""
        at = 0
        for family, past in zip(self.families, self.pasts, strict=True):
            stops = list(accumulate(family.own, initial=at + family.shared))
            yield slice(at, at + family.shared), [slice(*span) for span in pairwise(stops)], past
            at = stops[-1]


@dataclass(frozen=True, slots=True)
class Layer:
    """The queries, keys and values of layer ``index``; the logits are multiplied by ``scaling``."""

    index: int
    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float

    def all_tokens(self, plan: Plan) -> Tensor:
        """The attention [S, heads, D] of every token; that of padding behind the last row is 0."""
        out = torch.empty_like(self.query)
        end = 0
        for shared, rows, past in plan.placed():
            before = self._past(past)
            if shared.stop > shared.start:
                out[shared] = self._merged(self._causal(shared), self.query[shared], before)
            context = self._context(shared, before)
            own = slice(rows[0].start, rows[-1].stop)
            out[own] = self._merged(_joined([self._causal(row) for row in rows]), self.query[own], context)
            end = own.stop
        out[end:] = 0
        return out

    def ends(self, plan: Plan) -> Tensor:
        """The attention [rows, heads, D] of each row's last token; the queries are those of these tokens only."""
        found: list[Tensor] = []
        queries = iter(self.query.split(1))
        for shared, rows, past in plan.placed():
            lasts = [next(queries) for _ in rows]
            own = [
                attend(last, self.key[row], self.value[row], self.scaling, causal=False)
                for last, row in zip(lasts, rows, strict=True)
            ]
            found.append(self._merged(_joined(own), torch.cat(lasts), self._context(shared, self._past(past))))
        return torch.cat(found)

    def _causal(self, span: slice) -> Parts:
        return attend(self.query[span], self.key[span], self.value[span], self.scaling, causal=True)

    def _merged(self, own: Parts, query: Tensor, context: tuple[Tensor, Tensor] | None) -> Tensor:
        return own[0] if context is None else merge(*own, *attend(query, *context, self.scaling, causal=False))

    def _past(self, past: Prefix | None) -> tuple[Tensor, Tensor] | None:
        return None if past is None else (past.keys[self.index], past.values[self.index])

    def _context(self, shared: slice, before: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
        """The keys and values of what all rows of a family begin with."""
        if shared.stop == shared.start:
            return before
        own = self.key[shared], self.value[shared]
        return own if before is None else (torch.cat([before[0], own[0]]), torch.cat([before[1], own[1]]))


def attend(query: Tensor, key: Tensor, value: Tensor, scaling: float, causal: bool) -> Parts:
    """Softmax attention of [T, heads, D] to [S, key heads, D], each key head serving its share of the heads."""
    query, key, value = (each.transpose(0, 1).unsqueeze(0) for each in (query, key, value))
    if query.device.type == "cpu":
        out, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, scale=scaling
        )
        return out[0].transpose(0, 1), weight[0].transpose(0, 1)
    key, value = (repeat_kv(each, query.shape[1] // each.shape[1]) for each in (key, value))
    if query.dtype == torch.float32:
        out, weight, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, causal, scale=scaling
        )
    else:
        out, weight, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, causal, False, scale=scaling
        )
    return out[0].transpose(0, 1), weight[0, :, : query.shape[2]].transpose(0, 1).float()


def merge(first: Tensor, first_weight: Tensor, second: Tensor, second_weight: Tensor) -> Tensor:
    """The attention over both key sets, from the attention over each and its log-sum-exp."""
    share = torch.sigmoid(second_weight - first_weight).unsqueeze(-1)
    return torch.lerp(first.float(), second.float(), share).to(first.dtype)


def _joined(parts: Sequence[Parts]) -> Parts:
    if len(parts) == 1:
        return parts[0]
    return torch.cat([out for out, _ in parts]), torch.cat([weight for _, weight in parts])
