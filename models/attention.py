"""Attention over packed rows: no mask is built, and what rows share is attended to once for all of them.

A row's own tokens attend to the shared tokens without a mask and to themselves causally; the two
parts are merged by their log-sum-exp, which is exact (as in ring attention, arXiv 2310.01889).
Shapes: query [1, heads, S, D]; key and value [1, key heads, S, D].
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

from rewardhub.models.packing import Family
from rewardhub.models.prefixes import Prefix

NAME = "rewardhub_packed"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a packed sequence attends.

    ``pasts`` holds what comes before each family without being in the sequence; ``keeps`` are spans of
    the sequence whose keys and values are to be remembered. From layer ``ends_from`` on only the last
    token of each row is read, so only those attend.
    """

    families: Sequence[Family]
    pasts: Sequence[Prefix | None]
    keeps: Sequence[tuple[slice, Prefix]] = ()
    ends_from: int = 1 << 30


@dataclass(frozen=True, slots=True)
class _Layer:
    """The tensors of one layer; ``wide`` keys and values are repeated for every query head."""

    query: Tensor
    key: Tensor
    value: Tensor
    wide_key: Tensor
    wide_value: Tensor
    scaling: float

    def causal(self, span: slice) -> tuple[Tensor, Tensor]:
        """The tokens of ``span`` attending to themselves."""
        query, key, value = (_at(each, span) for each in (self.query, self.wide_key, self.wide_value))
        return attend(query, key, value, self.scaling, True)

    def last(self, span: slice) -> tuple[Tensor, Tensor]:
        """The last token of ``span`` attending to all of it."""
        query = _at(self.query, slice(span.stop - 1, span.stop))
        return attend(query, _at(self.wide_key, span), _at(self.wide_value, span), self.scaling, False)


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    plan: Plan,
    **_unused: Any,
) -> tuple[Tensor, None]:
    """The attention function that ``transformers`` calls in every layer; returns [1, S, heads, D]."""
    if attention_mask is not None:
        raise ValueError("packed rows take no attention mask")
    for span, prefix in plan.keeps:
        prefix.keys.append(_at(key, span).clone())
        prefix.values.append(_at(value, span).clone())
    wide_key, wide_value = (repeat_kv(each, module.num_key_value_groups) for each in (key, value))
    layer = _Layer(query, key, value, wide_key, wide_value, scaling)
    ends_only = module.layer_idx >= plan.ends_from
    _, heads, tokens, width = query.shape
    out = (query.new_zeros if ends_only else query.new_empty)(1, tokens, heads, width)
    at = 0
    for family, past in zip(plan.families, plan.pasts, strict=True):
        before = None if past is None else (past.keys[module.layer_idx], past.values[module.layer_idx])
        _attend_family(layer, family, at, before, ends_only, out)
        at += family.tokens
    return out, None


def _attend_family(
    layer: _Layer, family: Family, at: int, before: tuple[Tensor, Tensor] | None, ends_only: bool, out: Tensor
) -> None:
    """Fills ``out`` [1, S, heads, D] at the family's tokens, or at the last token of each of its rows."""
    context = before
    shared = slice(at, at + family.shared)
    if family.shared:
        if not ends_only:
            out[:, shared] = _merged(layer, layer.causal(shared), shared, before).transpose(1, 2)
        own = (_at(layer.key, shared), _at(layer.value, shared))
        context = own if before is None else (torch.cat([before[0], own[0]], 2), torch.cat([before[1], own[1]], 2))
    stops = list(accumulate(family.own, initial=shared.stop))
    spans = [slice(start, stop) for start, stop in pairwise(stops)]
    parts = [layer.last(span) if ends_only else layer.causal(span) for span in spans]
    joined = torch.cat([piece for piece, _ in parts], 2), torch.cat([weight for _, weight in parts], 2)
    places = [stop - 1 for stop in stops[1:]] if ends_only else slice(shared.stop, stops[-1])
    out[:, places] = _merged(layer, joined, places, context).transpose(1, 2)


def _merged(
    layer: _Layer, own: tuple[Tensor, Tensor], places: slice | list[int], context: tuple[Tensor, Tensor] | None
) -> Tensor:
    """The attention of the queries at ``places`` to themselves, merged with that to ``context``."""
    if context is None:
        return own[0]
    return merge(*own, *attend_grouped(layer.query[:, :, places], *context, layer.scaling))


def attend(query: Tensor, key: Tensor, value: Tensor, scaling: float, causal: bool) -> tuple[Tensor, Tensor]:
    """Softmax attention with the log-sum-exp of its logits: [1, H, T, D] and, in fp32, [1, H, T]."""
    if query.device.type == "cpu":
        out, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, scale=scaling
        )
    elif query.dtype == torch.float32:
        out, weight, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, 0.0, causal, scale=scaling
        )
    else:
        out, weight, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, causal, False, scale=scaling
        )
    return out, weight[..., : query.shape[2]].float()


def attend_grouped(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Unmasked attention with fewer key heads: the query heads of a key head are queued behind each other."""
    heads, tokens, width = query.shape[1:]
    queued = query.reshape(1, key.shape[1], heads // key.shape[1] * tokens, width)
    out, weight = attend(queued, key, value, scaling, causal=False)
    return out.reshape(1, heads, tokens, width), weight.reshape(1, heads, tokens)


def merge(first: Tensor, first_weight: Tensor, second: Tensor, second_weight: Tensor) -> Tensor:
    """The attention over both key sets, from the attention over each and its log-sum-exp."""
    share = torch.sigmoid(second_weight - first_weight).unsqueeze(-1)
    return torch.lerp(first.float(), second.float(), share).to(first.dtype)


@contextmanager
def packed(model: Any, read: Sequence[int]) -> Iterator[None]:
    """Runs the language model's layers with :func:`packed_attention` for a while.

    Only the states at the places ``read`` of the sequence come out right: behind the last layer's
    attention nothing is computed for the others.
    """
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        with only_at(model.layers[-1], read):
            yield
    finally:
        config._attn_implementation = before


@contextmanager
def only_at(layer: Any, places: Sequence[int]) -> Iterator[None]:
    """The layer's feed-forward part is computed at these places of [1, S, H]; elsewhere it is 0."""
    shape: list[torch.Size] = []
    index = list(places)

    def narrow(_module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        shape.append(inputs[0].shape)
        return (inputs[0][:, index], *inputs[1:])

    def widen(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        whole = output.new_zeros(shape.pop())
        whole[:, index] = output
        return whole

    with layer.mlp.register_forward_pre_hook(narrow), layer.mlp.register_forward_hook(widen):
        yield


def _at(tensor: Tensor, span: slice) -> Tensor:
    return tensor[:, :, span]


AttentionInterface.register(NAME, packed_attention)
