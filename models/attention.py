"""Attention over packed rows: no mask is built, and what rows share is attended to once for all of them.

A row's own tokens attend to the shared tokens without a mask and to themselves causally; the two
parts are merged by their log-sum-exp, which is exact (as in ring attention, arXiv 2310.01889).
Shapes: query [1, heads, S, D]; key and value [1, key heads, S, D].
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

from rewardhub.models.packing import Family

NAME = "rewardhub_packed"


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    families: Sequence[Family],
    **_unused: Any,
) -> tuple[Tensor, None]:
    """The attention function that ``transformers`` calls in every layer; returns [1, S, heads, D]."""
    if attention_mask is not None:
        raise ValueError("packed rows take no attention mask")
    wide_key, wide_value = (repeat_kv(each, module.num_key_value_groups) for each in (key, value))
    done: list[Tensor] = []
    at = 0
    for family in families:
        shared, stop = slice(at, at + family.shared), at + family.tokens
        own = slice(shared.stop, stop)
        if family.shared:
            done.append(attend(_at(query, shared), _at(wide_key, shared), _at(wide_value, shared), scaling, True)[0])
        parts = []
        start = own.start
        for length in family.own:
            row = slice(start, start + length)
            parts.append(attend(_at(query, row), _at(wide_key, row), _at(wide_value, row), scaling, True))
            start += length
        outs, weights = torch.cat([out for out, _ in parts], 2), torch.cat([weight for _, weight in parts], 2)
        if family.shared:
            across = attend_grouped(_at(query, own), _at(key, shared), _at(value, shared), scaling)
            outs = merge(outs, weights, *across)
        done.append(outs)
        at = stop
    return torch.cat(done, 2).transpose(1, 2).contiguous(), None


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
def packed(model: Any) -> Iterator[None]:
    """Runs the language model's layers with :func:`packed_attention` for a while."""
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def _at(tensor: Tensor, span: slice) -> Tensor:
    return tensor[:, :, span]


AttentionInterface.register(NAME, packed_attention)
