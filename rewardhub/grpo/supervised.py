"""Supervised steps (the warm start and its control), and how any policy is measured."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rewardhub.grpo.config import GrpoConfig
from rewardhub.grpo.policy import Policy
from rewardhub.grpo.rollout import generate
from rewardhub.grpo.task import Example, Task

EVALUATION_SAMPLES = 4
EVALUATION_BATCH = 64


class Accuracy(NamedTuple):
    """The share of right answers on reserved examples: sampled at the run's temperature, and greedy."""

    sampled: float
    greedy: float


def supervise(
    policy: Policy, examples: Iterator[Example], *, steps: int, batch: int, learning_rate: float, max_grad_norm: float
) -> Iterator[float]:
    """Yields the loss of each of ``steps`` AdamW steps on the right answers' tokens (cross entropy, nats)."""
    optimiser = torch.optim.AdamW(policy.backbone.parameters(), lr=learning_rate)
    for _ in range(steps):
        chosen = list(itertools.islice(examples, batch))
        tokens, mask = _targets(policy, chosen)
        logp = policy.logprobs([policy.encode(each) for each in chosen], tokens, 1.0)
        loss = -(logp * mask).sum() / mask.sum()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.backbone.parameters(), max_grad_norm)
        optimiser.step()
        yield loss.item()


class Evaluation:
    """Measures a policy on reserved examples by the task's truth, each time with the same random numbers."""

    def __init__(self, config: GrpoConfig, policy: Policy, task: Task) -> None:
        self.config, self.policy, self.task = config, policy, task
        self.examples = task.reserved(config.reserved)
        self.prompts = [policy.encode(each) for each in self.examples]

    def __call__(self) -> Accuracy:
        generator = torch.Generator(self.policy.device).manual_seed(self.config.seed)
        return Accuracy(self._share(EVALUATION_SAMPLES, generator), self._share(1, None))

    def _share(self, samples: int, generator: torch.Generator | None) -> float:
        right = 0
        for start in range(0, len(self.prompts), EVALUATION_BATCH):
            wave = generate(
                self.policy, self.prompts[start : start + EVALUATION_BATCH], group_size=samples,
                max_tokens=self.config.max_tokens, temperature=self.config.temperature, generator=generator,
            )  # fmt: skip
            for index in range(len(wave.prompts)):
                example, responses = self.examples[start + index], wave.responses(index, self.policy)
                right += sum(self.task.is_right(example, response.text) for response in responses)
        return right / (samples * len(self.prompts))


def _targets(policy: Policy, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """The answers' tokens [N, T] with the end token, padded on the right, and their mask."""
    rows = [[*policy.encoder.tokenizer.encode(each.target), policy.end_id] for each in examples]
    width = max(len(row) for row in rows)
    tokens = torch.tensor([row + [policy.end_id] * (width - len(row)) for row in rows], device=policy.device)
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (width - len(row)) for row in rows], device=policy.device)
    return tokens, mask
