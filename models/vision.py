"""The attention of Qwen's vision encoders, whose windows and images are spans of one sequence of patches.

transformers runs its kernel once per span and layer; here spans of like length are one call, and on a GPU all are.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from rewardhub.models.decoder import rotated
from rewardhub.models.spans import Spans, attend_spans


class SpanAttention(nn.Module):
    """In the place of an attention module of transformers, with its projections."""

    def __init__(self, attention: Any, known: "KnownSpans") -> None:
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.num_heads, self.scaling = attention.num_heads, attention.scaling
        self._known = known

    def forward(
        self, hidden_states: Tensor, cu_seqlens: Tensor, position_embeddings: tuple[Tensor, Tensor], **_: Any
    ) -> Tensor:
        """States [S, H] of patches whose spans start at ``cu_seqlens`` [N + 1]; cosine and sine are [S, D]."""
        spans = self._known.of(cu_seqlens)
        made = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1))
        turn = (each[:, None, None].float() for each in position_embeddings)
        query, key = rotated(made[:, :2].float(), *turn).to(made.dtype).unbind(1)
        value = made[:, 2]
        out: Tensor = attend_spans(query, key, value, spans, spans, self.scaling, causal=False)[0]
        result: Tensor = self.proj(out.flatten(1))
        return result


class KnownSpans:
    """The spans of tensors, as long as these live: all layers of a pass are given the same, and reading one waits."""

    def __init__(self) -> None:
        self._known: Any = WeakTensorKeyDictionary()

    def of(self, starts: Tensor) -> Spans:
        if starts not in self._known:
            self._known[starts] = Spans(tuple(starts.diff().tolist()))
        found: Spans = self._known[starts]
        return found


def join_spans(model: nn.Module) -> int:
    """Puts span attention in place of the attention of vision encoders; returns how many modules were replaced.

    A module is replaced where it gives the same for a sample.
    """
    known = KnownSpans()
    count = 0
    for parent in list(model.modules()):
        attention: Any = getattr(parent, "attn", None)
        if isinstance(attention, nn.Module) and _fits(attention):
            ours = SpanAttention(attention, known)
            if _same(attention, ours):
                parent.attn = ours
                count += 1
    return count


def _fits(attention: Any) -> bool:
    has = all(hasattr(attention, name) for name in ("qkv", "proj", "num_heads", "scaling"))
    return has and {"cu_seqlens", "position_embeddings"} <= inspect.signature(attention.forward).parameters.keys()


@torch.inference_mode()
def _same(attention: Any, ours: SpanAttention) -> bool:
    """Whether both give the same for three spans of patches, up to the rounding of their type."""
    weight = next(attention.parameters())
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(12, attention.qkv.in_features, generator=generator).to(weight)
    angles = torch.randn(12, attention.qkv.in_features // attention.num_heads // 2, generator=generator).repeat(1, 2)
    turn = angles.cos().to(weight), angles.sin().to(weight)
    starts = torch.tensor([0, 4, 8, 12], dtype=torch.int32, device=weight.device)
    found, wanted = (each(states, starts, position_embeddings=turn).float() for each in (ours, attention))
    return bool((found - wanted).abs().max() <= 4 * torch.finfo(weight.dtype).eps * wanted.abs().max() + 1e-6)
