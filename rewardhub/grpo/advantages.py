"""Advantages of rollout groups: pure functions of the rewards, each with its ddof and epsilon declared.

Rewards are P×G tensors (P groups of G responses) in float64, NaN where a response has no reward.
Such a response is left out of every mean and deviation and gets advantage 0: a missing reward is
never a number. Libraries differ in the divisor (ddof) and in epsilon, so on the rewards
[1,0,0,1,0,0,0,0] "GRPO" is 1.6198 (TRL), 1.6202 (verl) or 1.7317 (GRPO-Zero).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def grpo(rewards_P_G: Tensor, *, ddof: int = 1, eps: float = 1e-4, lone_is_raw: bool = False) -> Tensor:
    """(r - mean) / (std + eps) within the group (arXiv 2402.03300).

    A group with one known reward gets 0, or the reward itself where ``lone_is_raw`` (verl takes mean 0
    and std 1 there).
    """
    mean, std = _mean(rewards_P_G), _std(rewards_P_G, ddof)
    if lone_is_raw:
        lone = _count(rewards_P_G) == 1
        mean, std = mean.masked_fill(lone, 0.0), std.masked_fill(lone, 1.0)
    return _settled((rewards_P_G - mean) / (std + eps))


def dr_grpo(rewards_P_G: Tensor) -> Tensor:
    """R - mean: no division by the deviation (Dr. GRPO, arXiv 2503.20783)."""
    return _settled(rewards_P_G - _mean(rewards_P_G))


def rloo(rewards_P_G: Tensor) -> Tensor:
    """r_i - mean of the others = (r_i - mean)·n/(n-1) (RLOO, arXiv 2402.14740); 0 where there are none."""
    count = _count(rewards_P_G)
    return dr_grpo(rewards_P_G) * count / (count - 1).clamp(min=1)


def opo(rewards_P_G: Tensor, lengths_P_G: Tensor) -> Tensor:
    """R - Σ L·r / Σ L: the length-weighted baseline (OPO, arXiv 2505.23585); lengths are in tokens."""
    weight = lengths_P_G.to(rewards_P_G) * _known(rewards_P_G)
    baseline = (weight * rewards_P_G.nan_to_num(0.0)).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
    return _settled(rewards_P_G - baseline)


def batch_std(rewards_P_G: Tensor, *, ddof: int = 1, eps: float = 1e-4) -> Tensor:
    """(r - group mean) / (std of the whole batch's rewards + eps) (TRL ``scale_rewards="batch"``)."""
    std = _std(rewards_P_G.reshape(1, -1), ddof)
    return _settled((rewards_P_G - _mean(rewards_P_G)) / (std + eps))


def reinforce_pp(rewards_P_G: Tensor, lengths_P_G: Tensor, *, ddof: int = 1) -> Tensor:
    """REINFORCE++ (arXiv 2501.03262): returns whitened over the batch, each token counting once.

    With discount 1 all tokens of a response share its return. ddof 1 is verl's, 0 OpenRLHF's. The KL
    term belongs in the loss here, not in the return.
    """
    return whiten(rewards_P_G, lengths_P_G, ddof=ddof)


def reinforce_pp_baseline(rewards_P_G: Tensor, lengths_P_G: Tensor, *, ddof: int = 1) -> Tensor:
    """REINFORCE++-baseline: the group mean is subtracted, then the batch is whitened by tokens."""
    centred = rewards_P_G - _mean(rewards_P_G)
    return whiten(centred, lengths_P_G, ddof=ddof)


def normalise_then_sum(parts_K_P_G: Tensor, weights_K: Tensor, *, eps: float = 1e-4) -> Tensor:
    """GDPO (arXiv 2601.05242) as TRL computes it: each part normalised in its group, summed, whitened.

    z_k = (r_k - mean_k) / (std_k + eps); s = Σ w_k z_k; A = (s - mean s) / (std s + eps) over the
    batch, ddof 1. A response that lacks any part has no advantage.
    """
    total = _weighted_z(parts_K_P_G, weights_K, eps)
    flat = total.reshape(1, -1)
    return _settled((total - _mean(flat)) / (_std(flat, 1) + eps))


def gdpo_verl(parts_K_P_G: Tensor, weights_K: Tensor, lengths_P_G: Tensor) -> Tensor:
    """GDPO as verl computes it: eps 1e-6 in the parts, the sum whitened by tokens."""
    return whiten(_weighted_z(parts_K_P_G, weights_K, 1e-6), lengths_P_G, ddof=1)


def whiten(values_P_G: Tensor, lengths_P_G: Tensor, *, ddof: int, eps: float = 1e-8) -> Tensor:
    """(x - mean) / sqrt(var + eps) over the tokens of the batch: a response weighs its length."""
    weight = lengths_P_G.to(values_P_G) * _known(values_P_G)
    values, tokens = values_P_G.nan_to_num(0.0), weight.sum()
    mean = (weight * values).sum() / tokens.clamp(min=1)
    variance = (weight * (values - mean).square()).sum() / (tokens - ddof).clamp(min=1)
    return _settled((values_P_G - mean) * torch.rsqrt(variance + eps))


def stable_reinforce(rewards_P_G: Tensor, *, sigma: float = 3.0) -> Tensor:
    """(r - mean) / std over the batch, ddof 0, and 0 beyond ``sigma`` (StableReinforce, arXiv 2505.02835)."""
    flat = rewards_P_G.reshape(1, -1)
    z = _settled((rewards_P_G - _mean(flat)) / _std(flat, 0).clamp(min=1e-8))
    return z.masked_fill(z.abs() > sigma, 0.0)


def informative(rewards_P_G: Tensor) -> Tensor:
    """Which groups teach anything: at least two different known rewards (DAPO, arXiv 2503.14476)."""
    high = rewards_P_G.nan_to_num(nan=-torch.inf).amax(-1)
    return high > rewards_P_G.nan_to_num(nan=torch.inf).amin(-1)


Estimator = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(rewards_P_G, lengths_P_G, parts_K_P_G, weights_K) -> advantages_P_G."""

ESTIMATORS: Mapping[str, Estimator] = {
    "grpo": lambda r, _n, _k, _w: grpo(r),
    "grpo_verl": lambda r, _n, _k, _w: grpo(r, eps=1e-6, lone_is_raw=True),
    "grpo_population": lambda r, _n, _k, _w: grpo(r, ddof=0),
    "dr_grpo": lambda r, _n, _k, _w: dr_grpo(r),
    "rloo": lambda r, _n, _k, _w: rloo(r),
    "opo": lambda r, n, _k, _w: opo(r, n),
    "batch_std": lambda r, _n, _k, _w: batch_std(r),
    "reinforce_pp": lambda r, n, _k, _w: reinforce_pp(r, n),
    "reinforce_pp_baseline": lambda r, n, _k, _w: reinforce_pp_baseline(r, n),
    "stable_reinforce": lambda r, _n, _k, _w: stable_reinforce(r),
    "gdpo": lambda _r, _n, k, w: normalise_then_sum(k, w),
    "gdpo_verl": lambda _r, n, k, w: gdpo_verl(k, w, n),
}


def _known(rewards: Tensor) -> Tensor:
    return ~rewards.isnan()


def _count(rewards: Tensor) -> Tensor:
    return _known(rewards).sum(-1, keepdim=True)


def _mean(rewards: Tensor) -> Tensor:
    return rewards.nanmean(-1, keepdim=True)


def _std(rewards: Tensor, ddof: int) -> Tensor:
    """0 where no more than ``ddof`` rewards are known."""
    squares = (rewards - _mean(rewards)).square().nansum(-1, keepdim=True)
    return (squares / (_count(rewards) - ddof).clamp(min=1)).sqrt()


def _weighted_z(parts_K_P_G: Tensor, weights_K: Tensor, eps: float) -> Tensor:
    z = (parts_K_P_G - _mean(parts_K_P_G)) / (_std(parts_K_P_G, 1) + eps)
    return (weights_K.to(z).view(-1, 1, 1) * z).sum(0)


def _settled(advantages: Tensor) -> Tensor:
    return advantages.nan_to_num(0.0)
