"""The loop on colour naming: it learns, it logs, it streams, and failures never train."""

import json
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import torch
from PIL import Image

from rewardhub.errors import ConfigError, HubUnreachable, InvalidInput
from rewardhub.grpo import GrpoConfig, train
from rewardhub.grpo.advantages import ESTIMATORS
from rewardhub.grpo.batch import Batch, Collector
from rewardhub.grpo.config import config_of
from rewardhub.grpo.loop import reinforce, run
from rewardhub.grpo.losses import LOSSES
from rewardhub.grpo.policy import Policy
from rewardhub.grpo.task import ColourTask
from rewardhub.grpo.update import Updater
from rewardhub.types import Group, GroupScores, Status

SMALL = GrpoConfig(steps=2, warmup_steps=2, warmup_batch=4, prompts=4, group_size=4, wave=2, reserved=8)
CLOCKED = {"reward_hidden_ms", "reward_exposed_ms", "generation_ms", "update_ms"}


def collector(config: GrpoConfig, policy: Policy, task: ColourTask, rewards: Any) -> Collector:
    return Collector(config, policy, task.examples(1), task, rewards)


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in policy.backbone.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sampled_accuracy_rises(out: Path, colour_rewards: Any):
    """One seed: at least .15 over the warm start on reserved images, with the control beside it."""
    result = train(config_of({"steps": 50, "reserved": 128}), colour_rewards(), out)
    assert result.gain >= 0.15
    assert result.control
    assert result.control.start == result.grpo.start
    assert result.control.end.sampled > result.control.start.sampled
    assert [step for step, _ in result.grpo.points] == list(range(0, 51, 5))
    assert result.statuses == {"ok": 50 * 16 * 8}
    assert "+ 50 steps of GRPO" in result.summary()
    assert "SFT (control)" in result.summary()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sampled_accuracy_rises_with_every_seed(out: Path, colour_rewards: Any, seed: int):
    """Three seeds at the default length: sampled accuracy up by .3, greedy accuracy not down."""
    result = train(config_of({"seed": seed}), colour_rewards(), out)
    assert result.gain >= 0.3
    assert result.grpo.end.greedy >= result.grpo.start.greedy - 0.05


VARIANTS: list[dict[str, Any]] = [
    *({"advantage": name} for name in sorted(ESTIMATORS)),
    {"loss": "gspo"},
    {"loss": "cispo", "clip_high": 5.0},
    {"loss": "sapo", "clip_low": 1.05, "clip_high": 1.0},
    {"aggregation": "grpo"},
    {"kl": 0.01},
    {"updates": 2},
    {"resample_rounds": 2},
]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_learns(out: Path, colour_rewards: Any, variant: dict[str, Any]):
    """Forty steps raise sampled accuracy by .1, though every fourth score fails."""
    flaky = colour_rewards(
        fails=lambda name, index: Status.UNAVAILABLE if crc32(f"{name}/{index}".encode()) % 4 == 0 else None
    )
    result = train(config_of({"steps": 40, "reserved": 128, "control": False, **variant}), flaky, out)
    assert result.gain >= 0.1
    assert result.statuses["unavailable"] > 0.2 * result.statuses["ok"]


def test_a_run_leaves_its_files(out: Path, colour_rewards: Any, tmp_path: Path):
    """A log line per step, curves, the result and a policy folder."""
    (tmp_path / "grpo.toml").write_text("".join(f"{name} = {value}\n" for name, value in small_fields()))
    told: list[dict[str, Any]] = []
    result = run(tmp_path / "grpo.toml", colour_rewards(), out, told.append)
    rows = [json.loads(line) for line in result.log.read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1]
    assert told == rows
    assert all(row["statuses"] == {"ok": 16} and set(row["parts"]) == {"format", "accuracy"} for row in rows)
    assert all(
        row["reward"] == pytest.approx(0.9 * row["parts"]["accuracy"] + 0.1 * row["parts"]["format"]) for row in rows
    )
    assert all(CLOCKED <= row.keys() and row["reward_exposed_ms"] > 0 for row in rows)
    with Image.open(result.curves) as image:
        assert image.format == "PNG"
        assert image.width > 800
    record = json.loads((out / "result.json").read_text())
    assert record["config"]["steps"] == 2
    assert len(record["result"]["control"]["points"]) == 3
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {each.name for each in result.policy.iterdir()}


def small_fields() -> Iterator[tuple[str, Any]]:
    for name in ("steps", "warmup_steps", "warmup_batch", "prompts", "group_size", "wave", "reserved"):
        yield name, getattr(SMALL, name)


def test_a_run_is_reproducible(out: Path, colour_rewards: Any):
    """The same seed gives the same steps to the last bit; another seed gives others."""
    config = replace(SMALL, control=False)

    def rows(name: str, seed: int) -> list[dict[str, Any]]:
        result = train(replace(config, seed=seed), colour_rewards(), out / name)
        lines = [json.loads(line) for line in result.log.read_text().splitlines()]
        return [{key: value for key, value in line.items() if key not in CLOCKED} for line in lines]

    assert rows("a", 0) == rows("b", 0)
    assert rows("c", 1) != rows("d", 0)


def test_what_the_rewards_see(policy: Policy, task: ColourTask, colour_rewards: Any):
    """Whole groups with the image, the reference, distinct names and the call's run and step."""
    rewards = colour_rewards()
    config = replace(SMALL, run="r1", recipe="demo_colour", deadline_ms=5000)
    batch = collector(config, policy, task, rewards).collect(7)
    groups: list[Group] = [group for _, group in rewards.seen]
    assert len({group.id for group in groups}) == 4
    assert all(len(group.responses) == 4 and group.media[0].data and group.expected == 0 for group in groups)
    assert all(group.reference["answer"] for group in groups)
    (call,) = rewards.calls
    assert (call.recipe, call.run, call.step, call.policy_version, call.deadline_ms) == (
        "demo_colour",
        "r1",
        7,
        "7",
        5000,
    )
    assert batch.right == batch.parts["accuracy"].sum()


def test_rewards_run_while_other_groups_generate(
    policy: Policy, task: ColourTask, colour_rewards: Any, monkeypatch: pytest.MonkeyPatch
):
    """The second wave does not begin before the first one's groups have reached the rewards."""
    rewards = colour_rewards()
    arrived, begun = threading.Event(), []
    original, encode = rewards.scores, policy.encode

    def scores(group: Group) -> GroupScores:
        arrived.set()
        return original(group)

    def encoding(example: Any) -> Any:
        begun.append(len(begun) < 2 or arrived.wait(10))
        return encode(example)

    monkeypatch.setattr(rewards, "scores", scores)
    monkeypatch.setattr(policy, "encode", encoding)
    batch = collector(SMALL, policy, task, rewards).collect(0)
    assert begun == [True] * 4
    assert batch.wait.hidden_ms > 0


def test_the_whole_wait_is_measured(policy: Policy, task: ColourTask, colour_rewards: Any):
    """Rewards of 20 ms a group: hidden and exposed together are all of it, and some is hidden."""
    config = replace(SMALL, prompts=12, wave=1, group_size=2)
    wait = collector(config, policy, task, colour_rewards(delay_s=0.02)).collect(0).wait
    assert wait.hidden_ms + wait.exposed_ms >= 12 * 20
    assert wait.hidden_ms > 0


def test_failures_are_counted_and_do_not_train(policy: Policy, task: ColourTask, colour_rewards: Any):
    """Every third score fails: the statuses say so and the other responses train."""
    rewards = colour_rewards(fails=lambda _id, index: Status.UNAVAILABLE if index % 3 == 0 else None)
    (row,) = reinforce(replace(SMALL, steps=1), policy, task, rewards)
    assert row["statuses"] == {"ok": 8, "unavailable": 8}
    assert row["trained_responses"] == 8
    assert row["responses"] == 16
    assert math.isfinite(row["loss"])


@pytest.mark.parametrize("advantage", sorted(ESTIMATORS))
def test_an_unscored_response_does_not_move_the_policy(
    policy: Policy, task: ColourTask, colour_rewards: Any, advantage: str
):
    """Whatever its tokens and the parts that it does have, the step is the same, KL term included."""
    rewards = colour_rewards(fails=lambda _id, index: Status.TIMEOUT if index == 1 else None)
    config = replace(SMALL, advantage=advantage, kl=0.1, part_weights={"accuracy": 1.0, "format": 0.1})
    batch = collector(config, policy, task, rewards).collect(0)
    parts = {name: values.clone() for name, values in batch.parts.items()}
    parts["format"][:, 1] = 1.0
    other = replace(batch, parts=parts, wave=replace(batch.wave, tokens=batch.wave.tokens.clone()))
    other.wave.tokens[:, 1] = torch.randint(0, 300, other.wave.tokens[:, 1].shape)
    assert not torch.equal(batch.wave.tokens, other.wave.tokens)
    moved = stepped(config, policy, batch)
    assert not torch.equal(moved, torch.cat([value.flatten() for value in weights(policy).values()]))
    torch.testing.assert_close(moved, stepped(config, policy, other), atol=1e-7, rtol=0)


def stepped(config: GrpoConfig, policy: Policy, batch: Batch) -> torch.Tensor:
    """The weights after one step on a batch, flat; the policy itself stays."""
    before = weights(policy)
    Updater(config, policy).step(batch)
    after = torch.cat([value.flatten() for value in policy.backbone.state_dict().values()])
    policy.backbone.load_state_dict(before)
    return after


@pytest.mark.parametrize("resample_rounds", [0, 1])
def test_without_any_reward_there_is_no_step(
    policy: Policy, task: ColourTask, colour_rewards: Any, resample_rounds: int
):
    """All scores failed, resampled ones too: nothing is learnt, nothing is made up, and the run goes on."""
    rewards = colour_rewards(fails=lambda _id, _index: Status.INTERNAL_ERROR)
    before = weights(policy)
    (row,) = reinforce(replace(SMALL, steps=1, kl=0.1, resample_rounds=resample_rounds), policy, task, rewards)
    assert same(before, weights(policy))
    assert (row["loss"], row["reward"], row["trained_responses"]) == (None, None, 0)
    assert row["parts"] == {"format": None, "accuracy": None}
    assert row["statuses"] == {"internal_error": 16 * (1 + resample_rounds)}
    assert row["zero_std_share"] == 1.0
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize("status", [Status.INVALID_INPUT, Status.REFERENCE_UNPARSEABLE])
def test_a_recipe_that_scores_nothing_ends_the_run(
    policy: Policy, task: ColourTask, colour_rewards: Any, status: Status
):
    """Every score of the first step is the caller's fault: no step is wasted on it."""
    rewards = colour_rewards(fails=lambda _id, _index: status)
    with pytest.raises(InvalidInput, match=f"recipe 'demo_colour' scores no response: {status}"):
        list(reinforce(SMALL, policy, task, rewards))
    assert len(rewards.calls) == 1 and rewards.calls[0].details


def test_an_unreachable_hub_ends_the_run(
    policy: Policy, task: ColourTask, colour_rewards: Any, monkeypatch: pytest.MonkeyPatch
):
    """What concerns the whole call is raised to the caller."""
    rewards = colour_rewards()

    def gone(_group: Group) -> GroupScores:
        raise HubUnreachable("no answer")

    monkeypatch.setattr(rewards, "scores", gone)
    with pytest.raises(HubUnreachable):
        list(reinforce(SMALL, policy, task, rewards))


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("aggregation", ["grpo", "dapo", "bnpo", "dr_grpo"])
def test_every_loss_raises_what_was_rewarded(
    policy: Policy, task: ColourTask, colour_rewards: Any, loss: str, aggregation: Any
):
    """A step makes the batch's better responses more likely than its worse ones."""
    high, low = {"cispo": (5.0, 0.2), "sapo": (1.0, 1.05)}.get(loss, (0.28, 0.2))
    config = replace(SMALL, loss=loss, aggregation=aggregation, clip_low=low, clip_high=high, updates=2)
    config = replace(config, group_size=8, prompts=8, learning_rate=3e-4)
    batch = collector(config, policy, task, colour_rewards()).collect(0)
    wave, advantages = batch.wave, ESTIMATORS["grpo"](batch.rewards, batch.rewards, batch.rewards, batch.rewards)
    assert advantages.abs().sum() > 0

    @torch.no_grad()
    def lift() -> float:
        logp = policy.logprobs(wave.prompts, wave.tokens.flatten(0, 1), 1.0).view_as(wave.mask) * wave.mask
        return float((logp.sum(-1) * advantages).sum())

    before = lift()
    row = Updater(config, policy).step(batch)
    assert math.isfinite(row["loss"])
    assert lift() > before


def test_waves_do_not_change_the_gradient(policy: Policy, task: ColourTask, colour_rewards: Any):
    """The gradient accumulated wave by wave is that of the whole batch."""
    batch = collector(SMALL, policy, task, colour_rewards()).collect(0)

    def gradient(wave: int) -> torch.Tensor:
        config = replace(SMALL, wave=wave, aggregation="grpo", max_grad_norm=1e9, learning_rate=1e-9)
        updater = Updater(config, policy)
        updater.step(batch)
        return torch.cat([each.grad.flatten() for each in updater.parameters if each.grad is not None])

    whole = gradient(4)
    assert whole.abs().max() > 1e-4
    torch.testing.assert_close(gradient(1), whole, atol=1e-6, rtol=1e-4)


def test_dynamic_sampling_replaces_groups_that_teach_nothing(policy: Policy, task: ColourTask, colour_rewards: Any):
    """Groups with equal rewards are resampled, and only informative ones train."""
    config = replace(SMALL, prompts=6, group_size=2, resample_rounds=4)
    rewards = colour_rewards()
    batch = collector(config, policy, task, rewards).collect(0)
    assert len(batch.rewards) > 6
    assert len({group.id for _, group in rewards.seen}) == len(batch.rewards)
    useful = int((batch.rewards[:, 0] != batch.rewards[:, 1]).sum())
    row = Updater(config, policy).step(batch)
    assert row["trained_responses"] == 2 * min(useful, 6)


def test_a_weighted_part_that_is_missing_is_refused(policy: Policy, task: ColourTask, colour_rewards: Any):
    """The message names the nearest part."""
    config = replace(SMALL, advantage="gdpo", part_weights={"acuracy": 1.0})
    batch = collector(config, policy, task, colour_rewards()).collect(0)
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        Updater(config, policy).step(batch)
    with pytest.raises(ConfigError, match="gdpo wants parts"):
        Updater(replace(config, part_weights={}), policy).step(replace(batch, parts={}))


def test_reserved_images_are_never_trained_on(task: ColourTask):
    """No stream yields one, streams differ, and a stream is the same each time."""
    reserved = {each.media[0].sha256 for each in task.reserved(64)}
    assert len(reserved) == 64

    def first(stream: int) -> list[str]:
        examples = task.examples(stream)
        return [next(examples).media[0].sha256 for _ in range(500)]

    assert not reserved & {*first(0), *first(1), *first(2)}
    assert first(1) == first(1)
    assert not {*first(1)} & {*first(2)}


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("<answer>red</answer>", True),
        ("<answer> red </answer> so", True),
        ("red", False),
        ("<answer>blue</answer>", False),
        ("<answer>red", True),
        ("", False),
    ],
)
def test_the_truth(task: ColourTask, text: str, right: bool):
    """Right is what stands first between the tags."""
    example = replace(task.reserved(1)[0], reference={"answer": "red"})
    assert task.is_right(example, text) == right
