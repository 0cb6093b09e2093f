"""Supervised steps (the warm start and its control), and how any policy is measured."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

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


def evaluate(
    policy: Policy, task: Task, examples: Sequence[Example], *, max_tokens: int, temperature: float, seed: int
) -> Accuracy:
    """Measures the policy on these examples by the task's truth, always with the same random numbers."""
    generator = torch.Generator(policy.device).manual_seed(seed)
    sampled = greedy = 0
    for start in range(0, len(examples), EVALUATION_BATCH):
        part = examples[start : start + EVALUATION_BATCH]
        prompts = [policy.encode(each) for each in part]
        for samples, source in ((EVALUATION_SAMPLES, generator), (1, None)):
            wave = generate(
                policy, prompts, group_size=samples, max_tokens=max_tokens, temperature=temperature, generator=source
            )
            right = sum(
                task.is_right(example, response.text)
                for index, example in enumerate(part)
                for response in wave.responses(index, policy)
            )
            sampled, greedy = (sampled + right, greedy) if source else (sampled, greedy + right)
    return Accuracy(sampled / (EVALUATION_SAMPLES * len(examples)), greedy / len(examples))


def _targets(policy: Policy, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """The answers' tokens [N, T] with the end token, padded on the right, and their mask."""
    rows = [[*policy.encoder.tokenizer.encode(each.target), policy.end_id] for each in examples]
    width = max(len(row) for row in rows)
    tokens = torch.tensor([row + [policy.end_id] * (width - len(row)) for row in rows], device=policy.device)
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (width - len(row)) for row in rows], device=policy.device)
    return tokens, mask
