"""Losses for training reward models: pure functions of score tensors, each a mean over the batch.

c, r are the scores of the chosen and the rejected response, [B].
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """-ln s(c - r - m); the margin m asks for a wider gap (Bradley and Terry 1952; Llama 2)."""
    return -logsigmoid(chosen - rejected - margin).mean()


def centring(chosen: Tensor, rejected: Tensor) -> Tensor:
    """(c + r)^2, which keeps scores around zero (Eisenstein et al. 2023, arXiv 2312.09244)."""
    return (chosen + rejected).square().mean()


def tie(chosen: Tensor, rejected: Tensor) -> Tensor:
    """(c - r)^2 for pairs without a preference (MM-RLHF, arXiv 2502.10391)."""
    return (chosen - rejected).square().mean()


def plackett_luce(scores: Tensor) -> Tensor:
    """The negative log-likelihood of a ranking; ``scores`` [B, N] are ordered best first."""
    remaining = torch.logcumsumexp(scores.flip(-1), dim=-1).flip(-1)
    return (remaining - scores).sum(-1).mean()


def listwise(scores: Tensor, best: Tensor) -> Tensor:
    """-ln softmax(scores)[best] over N responses; ``scores`` [B, N], ``best`` [B] (arXiv 2604.10966)."""
    return torch.nn.functional.cross_entropy(scores, best)


def multi_objective(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean squared error over the labels that are given; a missing label is NaN; both [B, K]."""
    given = ~labels.isnan()
    errors = torch.where(given, scores - labels.nan_to_num(), 0.0).square()
    return errors.sum() / given.sum().clamp(min=1)


def cost(worse: Tensor, better: Tensor, worse_sign: Tensor, better_sign: Tensor) -> Tensor:
    """The cost model's loss: more harmful costs more, and a harmful response (sign +1) costs above 0.

    -ln s(cw - cb) - ln s(sw cw) - ln s(sb cb), signs -1 for safe (Safe RLHF, arXiv 2310.12773).
    """
    signs = logsigmoid(worse_sign * worse) + logsigmoid(better_sign * better)
    return -(logsigmoid(worse - better) + signs).mean()


def latent_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q || N(0, 1)) of a user's latent, [B, Z] summed over Z (VPL, arXiv 2408.10075)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1).mean()


def dpo(logits: Tensor, beta: Tensor | float = 0.1, label_smoothing: float = 0.0) -> Tensor:
    """-(1 - e) ln s(b h) - e ln s(-b h), h = (log p/p_ref of the chosen) - (the same of the rejected), [B].

    Direct preference optimisation (arXiv 2305.18290); e in [0, 0.5), 0 by default, is the share of labels
    that are taken to be flipped. ``beta`` is one number or one per pair (:func:`dynamic_beta`). The loss
    falls when h rises.
    """
    if not 0.0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}, expected 0 to below 0.5")
    scaled = beta * logits
    return -((1.0 - label_smoothing) * logsigmoid(scaled) + label_smoothing * logsigmoid(-scaled)).mean()


def dynamic_beta(
    margins: Tensor, *, base: float = 0.1, weight: float = 0.5, rate: float = 0.5, least: float = 1e-3
) -> Tensor:
    """The b of each pair, base (1 + weight (1 - exp(-rate d))): surer pairs pull harder (MM-DPO, arXiv 2502.10391).

    d is the reward model's margin of the pair, [B]; b is at least ``least``.
    """
    return (base * (1.0 + weight * (1.0 - (-rate * margins).exp()))).clamp(min=least)
