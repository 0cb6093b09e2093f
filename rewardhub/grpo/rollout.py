"""Rollouts: responses are sampled for a wave of prompts, and each group is handed on when it is complete."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from rewardhub.grpo.policy import Policy
from rewardhub.grpo.sampling import chosen, draw
from rewardhub.models.inputs import Encoded
from rewardhub.types import Response


@dataclass(frozen=True, slots=True, eq=False)
class Wave:
    """G responses to each of P prompts, of at most T tokens: tensors [P, G, T], ``ended`` [P, G].

    ``mask`` is 1.0 on sampled tokens, the end token included; ``old`` holds their log-probabilities
    under the policy that sampled them; a row has ``ended`` unless it met the token limit.
    """

    prompts: tuple[Encoded, ...]
    tokens: Tensor
    mask: Tensor
    old: Tensor
    ended: Tensor

    @property
    def lengths(self) -> Tensor:
        """Tokens per response."""
        return self.mask.sum(-1)

    def select(self, groups: Sequence[int]) -> "Wave":
        """Only these groups, in this order."""
        tensors = (getattr(self, each.name)[list(groups)] for each in fields(self)[1:])
        return Wave(tuple(self.prompts[index] for index in groups), *tensors)

    def responses(self, index: int, policy: Policy) -> tuple[Response, ...]:
        """The responses of one group as a scorer sees them."""
        return tuple(
            Response(
                text=policy.encoder.tokenizer.decode(ids[: int(length) - int(ended)].tolist()),
                tokens=int(length),
                signals={"truncated": float(not ended)},
            )
            for ids, length, ended in zip(self.tokens[index], self.lengths[index], self.ended[index], strict=True)
        )


def join(waves: Sequence[Wave]) -> Wave:
    """The groups of all waves, in order."""
    tensors = (torch.cat([getattr(wave, each.name) for wave in waves]) for each in fields(Wave)[1:])
    return Wave(tuple(prompt for wave in waves for prompt in wave.prompts), *tensors)


def generate(
    policy: Policy,
    prompts: Sequence[Encoded],
    *,
    group_size: int,
    max_tokens: int,
    temperature: float,
    generator: torch.Generator | None,
    emit: Callable[[int, Wave], None] = lambda _index, _wave: None,
) -> Wave:
    """Samples one wave; without a generator the most likely token is taken each time.

    ``emit(index, wave)`` is called the moment the last member of a group ends: the group is final in
    ``wave`` and its rows leave the batch, while the other groups go on.
    """
    wave = _empty(policy, prompts, group_size, max_tokens)
    running = torch.arange(len(prompts), device=policy.device)
    with torch.no_grad():
        prefix = policy.prefill(prompts).repeat(group_size)
        for position in range(max_tokens):
            logp = policy.log_distribution(prefix.hidden, temperature)
            drawn = draw(logp, generator)
            _write(wave, running, position, drawn, chosen(logp, drawn), policy.end_id)
            more = ~wave.ended[running].all(-1) & (position + 1 < max_tokens)
            for index in running[~more].tolist():
                emit(index, wave)
            running = running[more]
            if not len(running):
                break
            rows = more.repeat_interleave(group_size)
            prefix = prefix if more.all() else prefix.select(rows)
            policy.extend(prefix, drawn[rows].unsqueeze(-1))
    return wave


def _empty(policy: Policy, prompts: Sequence[Encoded], group_size: int, max_tokens: int) -> Wave:
    shape = len(prompts), group_size, max_tokens
    zeros = torch.zeros(shape, device=policy.device)
    tokens = torch.full(shape, policy.end_id, device=policy.device)
    return Wave(tuple(prompts), tokens, zeros, zeros.clone(), zeros[..., 0].bool())


def _write(wave: Wave, groups: Tensor, position: int, drawn: Tensor, logp: Tensor, end_id: int) -> None:
    shape = len(groups), -1
    wave.tokens[groups, :, position] = drawn.view(shape)
    wave.old[groups, :, position] = logp.view(shape)
    wave.mask[groups, :, position] = (~wave.ended[groups]).float()
    wave.ended[groups] |= drawn.view(shape) == end_id
