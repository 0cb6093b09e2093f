"""One step's batch: rollouts of fresh prompts, and their rewards as tensors."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rewardhub.errors import InternalError, InvalidInput
from rewardhub.grpo.advantages import informative
from rewardhub.grpo.config import GrpoConfig
from rewardhub.grpo.policy import Policy
from rewardhub.grpo.reward_stream import RewardStream, Wait
from rewardhub.grpo.rollout import Wave, generate, join
from rewardhub.grpo.task import Example, Task
from rewardhub.types import Blame, Call, Column, Group, GroupScores, Rewards


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Scored groups: ``rewards`` and each of ``parts`` are P×G in float64, NaN where a response has none.

    ``right`` counts responses that are right by the task's truth, ``cached`` scores that a cache gave.
    """

    wave: Wave
    rewards: Tensor
    parts: dict[str, Tensor]
    right: int
    statuses: Counter[str]
    cached: int
    wait: Wait

    def __add__(self, other: "Batch") -> "Batch":
        nothing = torch.full_like(self.rewards, math.nan), torch.full_like(other.rewards, math.nan)
        parts = {
            name: torch.cat([self.parts.get(name, nothing[0]), other.parts.get(name, nothing[1])])
            for name in self.parts | other.parts
        }
        return Batch(
            join([self.wave, other.wave]), torch.cat([self.rewards, other.rewards]), parts,
            self.right + other.right, self.statuses + other.statuses, self.cached + other.cached,
            Wait(self.wait.hidden_ms + other.wait.hidden_ms, self.wait.exposed_ms + other.wait.exposed_ms),
        )  # fmt: skip


class Collector:
    """Samples prompts and responses and has them scored while other groups still generate."""

    def __init__(
        self, config: GrpoConfig, policy: Policy, examples: Iterator[Example], task: Task, rewards: Rewards
    ) -> None:
        self.config, self.policy, self.task, self.rewards = config, policy, task, rewards
        self.examples = examples
        self.generator = torch.Generator(policy.device).manual_seed(config.seed)

    def collect(self, step: int) -> Batch:
        """A batch with ``prompts`` groups, and more where groups are resampled (DAPO's dynamic sampling)."""
        batch = self._round(step, 0, self.config.prompts)
        for number in range(1, self.config.resample_rounds + 1):
            missing = self.config.prompts - int(informative(batch.rewards).sum())
            if missing <= 0:
                break
            batch += self._round(step, number, missing)
        return batch

    def _round(self, step: int, number: int, count: int) -> Batch:
        config = self.config
        examples = list(itertools.islice(self.examples, count))
        names = [f"{config.run or 'grpo'}-{step}-{number}-{index}" for index in range(count)]
        call = Call(
            recipe=config.recipe, run=config.run, step=step, policy_version=str(step), deadline_ms=config.deadline_ms,
            details=step == 0,
        )  # fmt: skip
        with RewardStream(self.rewards, call) as stream:
            senders = [
                _Sender(stream, self.policy, self.task, names[start:stop], examples[start:stop])
                for start, stop in _spans(count, config.wave)
            ]
            waves = [self._generate(sender) for sender in senders]
            scores, wait = stream.finish()
        if step == 0:
            _check_usable(config.recipe, scores[names[0]], scores.values())
        return _batch(join(waves), [scores[name] for name in names], sum(each.right for each in senders), wait)

    def _generate(self, sender: "_Sender") -> Wave:
        return generate(
            self.policy,
            [self.policy.encode(each) for each in sender.examples],
            group_size=self.config.group_size,
            max_tokens=self.config.max_tokens,
            temperature=self.config.temperature,
            generator=self.generator,
            emit=sender.send,
        )


@dataclass(slots=True)
class _Sender:
    """Hands the complete groups of one wave to the reward stream."""

    stream: RewardStream
    policy: Policy
    task: Task
    names: Sequence[str]
    examples: Sequence[Example]
    right: int = 0

    def send(self, index: int, wave: Wave) -> None:
        example, responses = self.examples[index], wave.responses(index, self.policy)
        self.stream.send(
            Group(self.names[index], example.prompt, responses, reference=example.reference, media=example.media)
        )
        self.right += sum(self.task.is_right(example, response.text) for response in responses)


def _check_usable(recipe: str, first: GroupScores, scores: Iterable[GroupScores]) -> None:
    """A recipe that can score nothing is told before hours of training; an outage is waited out."""
    if all(status.blame is Blame.CALLER for each in scores for status in each.total.statuses):
        score = first[0]
        reason = score.details.get("reason", "")
        raise InvalidInput(f"recipe {recipe!r} scores no response: {score.status}: {reason}", field="recipe")


def _spans(count: int, size: int) -> list[tuple[int, int]]:
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def _batch(wave: Wave, scores: Sequence[GroupScores], right: int, wait: Wait) -> Batch:
    size = wave.ended.shape[1]
    names = sorted({name for each in scores for name in each.parts})
    return Batch(
        wave,
        _tensor([_row(each, each.total, size) for each in scores]),
        {name: _tensor([_row(each, each.parts.get(name), size) for each in scores]) for name in names},
        right,
        Counter(str(status) for each in scores for status in each.total.statuses),
        sum(sum(each.total.cached or ()) for each in scores),
        wait,
    )


def _row(scores: GroupScores, column: Column | None, size: int) -> list[float]:
    """The column's values by response index, NaN for None: a failure is never a number."""
    row = [math.nan] * size
    if column is None:
        return row
    indices = scores.indices or range(size)
    if sorted(indices) != list(range(size)) or len(column) != size:
        raise InternalError(f"{len(column)} scores for the {size} responses of group {scores.id!r}")
    for index, value in zip(indices, column.values, strict=True):
        row[index] = math.nan if value is None else value
    return row


def _tensor(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)
