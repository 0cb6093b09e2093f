"""Attention whose logits are held within a bound, a part of the queries at a time.

torch's own attention has no such bound, and that of transformers holds the logits of all pairs of tokens at once, which
are the square of a prompt: no token budget is kept that way. Here they are ``MOST`` at most, whatever the length.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rewardhub.models.progress import progress

CAPPED = "rewardhub_capped"
"""The name by which transformers knows it."""

MOST = 1 << 24
"""Logits that are held at a time: 64 MiB in fp32."""


def capped_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None,
    *, scaling: float, softcap: float | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention [B, L, heads, D] of queries [B, heads, L, D], the softmax in fp32.

    ``mask`` [B or 1, 1, L, S] is true where a token is seen; without one they are seen causally, or all.
    """
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    asked, seen = query.shape[2], key.shape[2]
    if mask is None and asked > 1 and getattr(module, "is_causal", True):
        places = torch.arange(seen, device=query.device)
        mask = (places[seen - asked :, None] >= places)[None, None]
    step = max(1, MOST // (query.shape[0] * query.shape[1] * seen))
    found = torch.empty_like(query)
    for start in range(0, asked, step):
        progress.step()
        part = slice(start, start + step)
        logits = query[:, :, part] @ key.transpose(2, 3) * scaling
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        if mask is not None:
            logits.masked_fill_(~mask[:, :, part], torch.finfo(logits.dtype).min)
        found[:, :, part] = nn.functional.softmax(logits, -1, dtype=torch.float32).to(query.dtype) @ value
    return found.transpose(1, 2).contiguous(), None


ALL_ATTENTION_FUNCTIONS.register(CAPPED, capped_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(CAPPED, sdpa_mask)
