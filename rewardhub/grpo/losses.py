"""Policy losses on tokens: pure functions of log-probabilities, advantages and a mask.

Shapes: N responses of at most T tokens; masks are 1.0 on the tokens that train. A token loss is
N×T; :func:`aggregate` turns it into the number that is differentiated.
"""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

Aggregation = Literal["grpo", "dapo", "bnpo", "dr_grpo"]
RATIO_CAP = 1000.0


def ratio_of(logp: Tensor, old: Tensor) -> Tensor:
    """exp(logp - old), the log clamped to ±ln 1000 first so that no update overflows (arXiv 2505.02835)."""
    cap = math.log(RATIO_CAP)
    return (logp - old).clamp(-cap, cap).exp()


def clipped(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """-min(ρA, clip(ρ, 1-low, 1+high)A): PPO where low = high, DAPO's clip-higher where high is larger."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def ppo(logp_N_T: Tensor, old_N_T: Tensor, advantages_N_1: Tensor, _mask: Tensor, low: float, high: float) -> Tensor:
    """The clipped surrogate with one ratio per token (arXiv 2402.03300)."""
    return clipped(ratio_of(logp_N_T, old_N_T), advantages_N_1, low, high)


def gspo(logp_N_T: Tensor, old_N_T: Tensor, advantages_N_1: Tensor, mask: Tensor, low: float, high: float) -> Tensor:
    """The clipped surrogate with one ratio per sequence, exp(mean log ratio) (GSPO, arXiv 2507.18071)."""
    mean = ((logp_N_T - old_N_T) * mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    return clipped(ratio_of(mean, torch.zeros_like(mean)), advantages_N_1, low, high).expand_as(logp_N_T)


def cispo(logp_N_T: Tensor, old_N_T: Tensor, advantages_N_1: Tensor, _mask: Tensor, _low: float, high: float) -> Tensor:
    """-min(ρ, high)·A·logp, the weight without gradient: no token is cut off (CISPO, arXiv 2506.13585).

    ``high`` is the largest weight itself (TRL: 5.0), not an addition to 1.
    """
    weight = ratio_of(logp_N_T, old_N_T).clamp(max=high).detach()
    return -weight * advantages_N_1 * logp_N_T


def sapo(logp_N_T: Tensor, old_N_T: Tensor, advantages_N_1: Tensor, _mask: Tensor, low: float, high: float) -> Tensor:
    """-(4/τ)·σ(τ(ρ-1))·A: a soft gate in place of the clip (SAPO, arXiv 2511.20347).

    ``high`` is τ for A > 0 (1.0), ``low`` for A <= 0 (1.05).
    """
    tau = torch.where(advantages_N_1 > 0, high, low)
    gate = 4 / tau * torch.sigmoid(tau * (ratio_of(logp_N_T, old_N_T) - 1))
    return -gate * advantages_N_1


TokenLoss = Callable[[Tensor, Tensor, Tensor, Tensor, float, float], Tensor]
"""(logp_N_T, old_N_T, advantages_N_1, mask_N_T, low, high) -> losses_N_T."""

LOSSES: Mapping[str, TokenLoss] = {"ppo": ppo, "gspo": gspo, "cispo": cispo, "sapo": sapo}


def k3(logp: Tensor, reference: Tensor) -> Tensor:
    """e^d - d - 1 with d = reference - logp: the low-variance, non-negative estimate of KL(π‖ref) per token."""
    d = reference - logp
    return d.exp() - d - 1


def aggregate(
    losses_N_T: Tensor, mask_N_T: Tensor, kind: Aggregation, max_tokens: int, whole_mask: Tensor | None = None
) -> Tensor:
    """One number from the token losses; ``whole_mask`` is the batch's mask where these are a part of it.

    ``grpo``: the mean over responses of their token means. ``dapo``: the sum over the active tokens of
    the whole batch. ``bnpo``: over those of the part, parts weighing by rows. ``dr_grpo``: the sum over
    N·max_tokens. The parts' numbers add up to the batch's. A response without active tokens counts in
    no mean; without any the loss is 0.
    """
    whole = mask_N_T if whole_mask is None else whole_mask
    summed, lengths = (losses_N_T * mask_N_T).sum(-1), mask_N_T.sum(-1)
    if kind == "grpo":
        return (summed / lengths.clamp(min=1)).sum() / (whole.sum(-1) > 0).sum().clamp(min=1)
    if kind == "dr_grpo":
        return summed.sum() / (len(whole) * max_tokens)
    if kind == "bnpo":
        return summed.sum() / lengths.sum().clamp(min=1) * (len(mask_N_T) / len(whole))
    return summed.sum() / whole.sum().clamp(min=1)


def keep_mask(mask_N_T: Tensor, rewards_N: Tensor, truncated_N: Tensor, *, mask_truncated: bool) -> Tensor:
    """The mask without responses that have no reward (NaN) and, on request, without truncated ones.

    Masking truncated responses is DAPO's overlong filtering: their reward says little about their tokens.
    """
    keep = ~rewards_N.isnan()
    if mask_truncated:
        keep &= ~truncated_N
    return mask_N_T * keep.unsqueeze(-1)
