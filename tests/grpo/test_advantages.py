"""Advantages against published vectors, and what a missing reward does to them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rewardhub.grpo import advantages as adv

NAN = math.nan
COMMON = [[1, 0, 0, 1, 0, 0, 0, 0]]
BATCH = [[1, 0, 0, 1], [1, 1, 1, 0]]


def rows(values: list[list[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def near(actual: Tensor, expected: list[list[float]], tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(actual, rows(expected), atol=tolerance, rtol=0)


def binary(high: float, low: float) -> list[list[float]]:
    return [[high if value else low for value in COMMON[0]]]


def test_grpo_as_trl():
    """ddof 1, eps 1e-4."""
    near(adv.grpo(rows(COMMON)), binary(1.619835, -0.539945))


def test_grpo_as_verl():
    """ddof 1, eps 1e-6; a lone reward keeps its value."""
    near(adv.grpo(rows(COMMON), eps=1e-6, lone_is_raw=True), binary(1.620182, -0.540061))
    near(adv.grpo(rows([[0.7]]), eps=1e-6, lone_is_raw=True), [[0.7]], 1e-5)


def test_grpo_with_the_population_deviation():
    """ddof 0, eps 1e-4, as GRPO-Zero divides."""
    near(adv.grpo(rows(COMMON), ddof=0), binary(1.731651, -0.577217))


def test_grpo_of_four():
    """[1,0,0,1] is .8660 or .8659 by the sample deviation, 1.0 or .9998 by the population's."""
    four = rows([[1, 0, 0, 1]])
    assert adv.grpo(four, eps=1e-6)[0, 0].item() == pytest.approx(0.8660, abs=5e-5)
    assert adv.grpo(four)[0, 0].item() == pytest.approx(0.8659, abs=5e-5)
    assert adv.grpo(four, ddof=0)[0, 0].item() == pytest.approx(0.9998, abs=5e-5)


def test_dr_grpo():
    """The mean is subtracted and nothing is divided."""
    near(adv.dr_grpo(rows(COMMON)), binary(0.75, -0.25))
    near(adv.dr_grpo(rows([[1, 0]])), [[0.5, -0.5]])


def test_rloo():
    """The baseline is the mean of the other members."""
    near(adv.rloo(rows(COMMON)), binary(0.857143, -0.285714))
    near(adv.rloo(rows([[2, 1, 0, 1]])), [[4 / 3, 0, -4 / 3, 0]])
    near(adv.rloo(rows([[1, 0, 0]])), [[1, -0.5, -0.5]])


def test_opo():
    """The baseline weighs rewards by length."""
    near(adv.opo(rows([[1, 0, 1, 0]]), torch.tensor([[10, 20, 30, 40]])), [[0.6, -0.4, 0.6, -0.4]])


def test_reinforce_pp():
    """Returns whitened over the batch's tokens, with either divisor."""
    one = torch.ones(2, 4)
    near(adv.reinforce_pp(rows(BATCH), one), [[0.724569, -1.207615, -1.207615, 0.724569], [0.724569] * 3 + [-1.207615]])
    ddof0 = adv.reinforce_pp(rows(BATCH), one, ddof=0)
    near(ddof0, [[0.774597, -1.290994, -1.290994, 0.774597], [0.774597] * 3 + [-1.290994]])
    near(adv.reinforce_pp(rows(BATCH), 9 * one, ddof=0), ddof0.tolist())


def test_reinforce_pp_counts_tokens():
    """A response of three tokens weighs as three responses of one."""
    long = adv.reinforce_pp(rows([[1, 0]]), torch.tensor([[3, 1]]))
    short = adv.reinforce_pp(rows([[1, 1, 1, 0]]), torch.ones(1, 4))
    near(long, [[short[0, 0].item(), short[0, 3].item()]])


def test_reinforce_pp_baseline():
    """The group mean goes first, then the batch is whitened."""
    one = torch.ones(2, 4)
    near(adv.reinforce_pp_baseline(rows(BATCH), one), [[1, -1, -1, 1], [0.5, 0.5, 0.5, -1.5]])
    expected = [[1.069045, -1.069045, -1.069045, 1.069045], [0.534522, 0.534522, 0.534522, -1.603567]]
    near(adv.reinforce_pp_baseline(rows(BATCH), one, ddof=0), expected)


def test_gdpo():
    """TRL's and verl's numbers; the scale of a part does not matter, unlike with sum-then-normalise."""
    parts = rows([[1, 0, 1, 0], [0, 1, 1, 0]]).unsqueeze(1)
    weights = torch.ones(2)
    near(adv.normalise_then_sum(parts, weights), [[0, 0, 1.224658, -1.224658]])
    near(adv.gdpo_verl(parts, weights, torch.ones(1, 4)), [[0, 0, 1.224744, -1.224744]])
    scaled = parts * torch.tensor([1.0, 0.1]).view(2, 1, 1)
    near(adv.normalise_then_sum(scaled, weights), [[0.00095, -0.00095, 1.22466, -1.22466]], 1e-5)
    near(adv.grpo(scaled.sum(0)), [[0.775421, -0.775421, 0.947737, -0.947737]])


def test_batch_std():
    """Centred in the group, divided by the deviation of all rewards."""
    near(
        adv.batch_std(rows(BATCH), eps=0),
        [
            [0.5 / 0.517549, -0.5 / 0.517549] + [-0.5 / 0.517549, 0.5 / 0.517549],
            [0.25 / 0.517549] * 3 + [-0.75 / 0.517549],
        ],
        1e-5,
    )


def test_stable_reinforce_drops_outliers():
    """One 1 among fifteen 0 is 3.873 deviations away and is zeroed, the others stay; among eight it is not."""
    sixteen, eight = rows([[0] * 8, [0] * 7 + [1]]), rows([[0] * 7 + [1]])
    near(adv.stable_reinforce(sixteen, sigma=4), [[-0.258199] * 8, [-0.258199] * 7 + [3.872983]])
    near(adv.stable_reinforce(sixteen), [[-0.258199] * 8, [-0.258199] * 7 + [0]])
    near(adv.stable_reinforce(eight), [[-0.377964] * 7 + [2.645751]])


def test_informative_groups():
    """0 of 8 and 8 of 8 teach nothing, 3 of 8 does; a missing reward does not make a difference."""
    batch = rows([[0] * 8, [1] * 3 + [0] * 5, [1] * 8, [1, NAN, NAN, 1, 1, 1, 1, 1], [NAN] * 8, [NAN] * 6 + [0, 1]])
    assert adv.informative(batch).tolist() == [False, True, False, False, False, True]


def test_none_as_trl():
    """[1, None, 0, 1]: None leaves the baseline and has advantage 0."""
    near(adv.grpo(rows([[1, NAN, 0, 1]])), [[0.577250, 0, -1.154501, 0.577250]])


@pytest.mark.parametrize("name", sorted(adv.ESTIMATORS))
def test_a_missing_reward_changes_no_other_advantage(name: str):
    """With and without the unscored members the scored ones get the same advantage, and the unscored 0."""
    full = rows([[1, 0, 0, 1, 0.5, 0.25], [0, 1, 1, 0, 0.25, 1]])
    holes = torch.cat([full, torch.full((2, 2), NAN, dtype=torch.float64)], dim=1)
    lengths = torch.tensor([[3, 5, 2, 4, 7, 1, 9, 2]] * 2)

    def estimate(rewards: Tensor) -> Tensor:
        parts = torch.stack([rewards, 1 - rewards.square()])
        return adv.ESTIMATORS[name](rewards, lengths[:, : rewards.shape[1]], parts, torch.tensor([1.0, 0.5]))

    torch.testing.assert_close(estimate(holes)[:, :6], estimate(full))
    assert torch.equal(estimate(holes)[:, 6:], torch.zeros(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(adv.ESTIMATORS))
def test_nothing_known_is_nothing_learnt(name: str):
    """A batch without any reward has advantage 0 everywhere."""
    rewards = rows([[NAN] * 4] * 2)
    parts = rewards.unsqueeze(0)
    assert not adv.ESTIMATORS[name](rewards, torch.ones(2, 4), parts, torch.ones(1)).any()


@given(
    st.lists(st.floats(-10, 10), min_size=2, max_size=8),
    st.floats(-5, 5),
)
def test_a_constant_added_to_a_group_changes_nothing(values: list[float], shift: float):
    """Centred estimators ignore a constant; their advantages of a group sum to 0."""
    for estimate in (adv.dr_grpo, adv.rloo, adv.grpo):
        plain, moved = estimate(rows([values])), estimate(rows([values]) + shift)
        torch.testing.assert_close(plain, moved, atol=1e-6, rtol=1e-6)
        assert abs(plain.sum().item()) < 1e-6


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, NAN]), min_size=1, max_size=8))
def test_equal_rewards_have_no_advantage(values: list[float]):
    """Where no two known rewards differ, rounding is not blown up into an advantage."""
    rewards = rows([values])
    if not adv.informative(rewards)[0]:
        for estimate in (adv.dr_grpo, adv.rloo, adv.grpo):
            assert estimate(rewards).abs().max() < 1e-10
