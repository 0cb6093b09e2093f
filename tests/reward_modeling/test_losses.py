"""Losses give the published values on worked examples."""

import math

import pytest
import torch
from torch import tensor

from rewardhub.reward_modeling import losses


def close(value: torch.Tensor, wanted: float) -> bool:
    return value.item() == pytest.approx(wanted, abs=2e-6)


def test_bradley_terry():
    """-ln s(gap): ln 2 for equal scores, less for a right order, 0.313262 for a gap of 1."""
    assert close(losses.bradley_terry(tensor([2.0]), tensor([1.0])), 0.313262)
    assert close(losses.bradley_terry(tensor([1.0]), tensor([1.0])), math.log(2))
    assert close(losses.bradley_terry(tensor([2.0]), tensor([0.0])), 0.126928)


def test_margin():
    """A margin is taken off the gap."""
    assert close(losses.bradley_terry(tensor([2.0]), tensor([1.0]), 0.5), 0.474077)
    assert close(losses.bradley_terry(tensor([2.0]), tensor([0.0]), tensor([1.0])), 0.313262)


def test_bradley_terry_is_stable():
    """A gap of -1000 costs 1000, not infinity."""
    assert close(losses.bradley_terry(tensor([-500.0]), tensor([500.0])), 1000.0)


def test_centring():
    """The squared sum, a mean over pairs."""
    assert close(0.01 * losses.centring(tensor([2.0]), tensor([1.0])), 0.09)
    assert close(0.01 * losses.centring(tensor([1.0, 0.0]), tensor([1.0, 0.0])), 0.02)


def test_tie():
    """The squared difference."""
    assert close(losses.tie(tensor([1.2]), tensor([1.0])), 0.04)


def test_plackett_luce():
    """The likelihood of a whole ranking; two entries are Bradley-Terry."""
    assert close(losses.plackett_luce(tensor([[2.0, 1.0, 0.0]])), 0.720868)
    assert close(losses.plackett_luce(tensor([[2.0, 1.0]])), 0.313262)


def test_listwise():
    """Cross-entropy of the best of N."""
    assert close(losses.listwise(tensor([[2.0, 1.0, 0.0]]), tensor([0])), 0.407606)


def test_multi_objective_skips_missing_labels():
    """The mean runs over the labels that are there, and none is no loss."""
    assert close(losses.multi_objective(tensor([[3.0, 4.0]]), tensor([[4.0, math.nan]])), 1.0)
    assert close(losses.multi_objective(tensor([[3.0]]), tensor([[math.nan]])), 0.0)
    scores = tensor([[3.0, 4.0]], requires_grad=True)
    losses.multi_objective(scores, tensor([[4.0, math.nan]])).backward()
    assert scores.grad.tolist() == [[-2.0, 0.0]]


def test_cost():
    """The more harmful costs more, and the sign of each cost is learned."""
    value = losses.cost(tensor([1.0]), tensor([-0.5]), tensor([1.0]), tensor([-1.0]))
    assert close(value, 0.988752)


def test_latent_divergence():
    """Mean 1 and variance 1 are half a nat from the prior."""
    assert close(losses.latent_divergence(tensor([[1.0]]), tensor([[0.0]])), 0.5)
    assert close(losses.latent_divergence(tensor([[0.0, 0.0]]), tensor([[0.0, 0.0]])), 0.0)


def test_dpo():
    """-ln s(b h): 0.5981 and 0.7981 for h of 2 and -2 at b = 0.1; smoothing mixes the two."""
    assert close(losses.dpo(tensor([2.0])), 0.598139)
    assert close(losses.dpo(tensor([-2.0])), 0.798139)
    assert close(losses.dpo(tensor([2.0]), label_smoothing=0.25), 0.75 * 0.598139 + 0.25 * 0.798139)
    assert close(losses.dpo(tensor([2.0, -2.0]), tensor([0.1, 0.2])), (0.598139 + 0.913015) / 2)
    with pytest.raises(ValueError, match="label_smoothing is 1.0"):
        losses.dpo(tensor([2.0]), label_smoothing=1.0)


def test_dynamic_beta():
    """0.1 without a margin, 0.1197 and 0.1459 for margins of 1 and 5, never below a thousandth."""
    found = losses.dynamic_beta(tensor([0.0, 1.0, 5.0, -100.0])).tolist()
    assert found == pytest.approx([0.1, 0.119673, 0.145896, 0.001], abs=2e-6)
