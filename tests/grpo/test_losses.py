"""Policy losses against published vectors."""

import math

import pytest
import torch
from torch import Tensor

from rewardhub.grpo import losses

ONE = torch.ones(1, 1)


def single(loss: losses.TokenLoss, ratio: float, advantage: float, low: float, high: float) -> float:
    logp = torch.tensor([[math.log(ratio)]], dtype=torch.float64)
    return loss(logp, torch.zeros_like(logp), advantage * ONE, ONE, low, high).item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "high", "kept"),
    [(1.25, 1, 0.2, 1.2), (1.25, 1, 0.28, 1.25), (0.7, -1, 0.2, -0.8), (0.7, -1, 0.28, -0.8)],
)
def test_clip_higher(ratio: float, advantage: float, high: float, kept: float):
    """DAPO lets a rising token rise further than PPO and treats a falling one alike."""
    assert single(losses.ppo, ratio, advantage, 0.2, high) == pytest.approx(-kept)


def test_a_clipped_token_has_no_gradient():
    """Beyond the clip, in the direction of the advantage, nothing is learnt."""
    logp = torch.tensor([[math.log(1.25), math.log(1.1)]], requires_grad=True)
    losses.ppo(logp, torch.zeros(1, 2), ONE, torch.ones(1, 2), 0.2, 0.2).sum().backward()
    assert logp.grad is not None
    assert logp.grad[0, 0] == 0
    assert logp.grad[0, 1].item() == pytest.approx(-1.1)


def test_ratio_is_capped_before_it_overflows():
    """A log ratio of ±10 becomes 1000 and .001."""
    capped = losses.ratio_of(torch.tensor([10.0, -10.0]), torch.zeros(2))
    torch.testing.assert_close(capped, torch.tensor([1000.0, 0.001]))
    assert losses.ratio_of(torch.tensor([1e4]), torch.zeros(1)).isfinite().all()


def test_gspo_has_one_ratio_per_sequence():
    """Log ratios [.1, -.2, .4] make 1.105171 at every token, masked tokens left out."""
    logp = torch.tensor([[0.1, -0.2, 0.4, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    loss = losses.gspo(logp, torch.zeros(1, 4), ONE, mask, 0.5, 0.5)
    torch.testing.assert_close(loss[0, :3], torch.full((3,), -1.105171, dtype=torch.float64), atol=1e-6, rtol=0)


def test_cispo_weighs_without_cutting():
    """A ratio of 6 weighs 5, and the gradient still flows through the log-probability."""
    logp = torch.tensor([[math.log(6)]], requires_grad=True)
    losses.cispo(logp, torch.zeros(1, 1), ONE, ONE, 0.0, 5.0).sum().backward()
    assert logp.grad is not None
    assert logp.grad.item() == pytest.approx(-5.0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "gate"), [(1, 1, 2.0), (1, -1, 1.904762), (1.5, 1, 2.489837), (1.5, -1, 2.393585)]
)
def test_sapo(ratio: float, advantage: float, gate: float):
    """The soft gate at τ 1.0 for rising and 1.05 for falling tokens."""
    assert single(losses.sapo, ratio, advantage, 1.05, 1.0) == pytest.approx(-gate * advantage, abs=1e-6)


@pytest.mark.parametrize(("d", "kl"), [(0.5, 0.148721), (-0.5, 0.106531), (0.0, 0.0)])
def test_k3(d: float, kl: float):
    """e^d - d - 1."""
    assert losses.k3(
        torch.tensor(0.0, dtype=torch.float64), torch.tensor(d, dtype=torch.float64)
    ).item() == pytest.approx(kl, abs=1e-6)


def two_sequences() -> tuple[Tensor, Tensor]:
    token_losses = torch.tensor([[1.0, 1.0] + [7.0] * 4, [-0.5] * 6])
    return token_losses, torch.tensor([[1.0, 1.0, 0, 0, 0, 0], [1.0] * 6])


@pytest.mark.parametrize(
    ("kind", "expected"), [("grpo", 0.25), ("dapo", -0.125), ("bnpo", -0.125), ("dr_grpo", -0.0625)]
)
def test_aggregation(kind: losses.Aggregation, expected: float):
    """Two tokens of 1.0 and six of -.5; padding counts nowhere."""
    assert losses.aggregate(*two_sequences(), kind, 8).item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["grpo", "dapo", "dr_grpo"])
def test_parts_add_up_to_the_whole(kind: losses.Aggregation):
    """Two halves against the whole batch's mask sum to the undivided loss."""
    values, mask = two_sequences()
    parts = [losses.aggregate(values[i : i + 1], mask[i : i + 1], kind, 8, mask) for i in (0, 1)]
    assert sum(parts).item() == pytest.approx(losses.aggregate(values, mask, kind, 8).item())


def test_bnpo_takes_the_mean_of_each_part():
    """Two parts of one sequence each: the mean of 1.0 and -.5."""
    values, mask = two_sequences()
    parts = [losses.aggregate(values[i : i + 1], mask[i : i + 1], "bnpo", 8, mask) for i in (0, 1)]
    assert sum(parts).item() == pytest.approx(0.25)


@pytest.mark.parametrize("kind", ["grpo", "dapo", "bnpo", "dr_grpo"])
def test_a_batch_without_active_tokens_costs_nothing(kind: losses.Aggregation):
    """An empty mask is a loss of 0, not NaN."""
    assert losses.aggregate(torch.ones(2, 3), torch.zeros(2, 3), kind, 3).item() == 0


def test_keep_mask():
    """A response without a reward never trains; a truncated one on request."""
    rewards, truncated = torch.tensor([1.0, math.nan, 0.0]), torch.tensor([False, False, True])
    plain = losses.keep_mask(torch.ones(3, 2), rewards, truncated, mask_truncated=False)
    assert plain.sum(-1).tolist() == [2, 0, 2]
    masked = losses.keep_mask(torch.ones(3, 2), rewards, truncated, mask_truncated=True)
    assert masked.sum(-1).tolist() == [2, 0, 0]
