"""From a scored batch to a step: advantages -> token losses -> one number -> gradient."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rewardhub.errors import ConfigError, nearest
from rewardhub.grpo.advantages import ESTIMATORS, informative
from rewardhub.grpo.batch import Batch
from rewardhub.grpo.config import GrpoConfig
from rewardhub.grpo.losses import LOSSES, aggregate, k3, keep_mask
from rewardhub.grpo.policy import Policy
from rewardhub.grpo.rollout import Wave
from rewardhub.models.inputs import Encoded


class Updater:
    """The optimiser of a policy, and the reference it is held to where the loss has a KL term."""

    def __init__(self, config: GrpoConfig, policy: Policy) -> None:
        self.config, self.policy = config, policy
        self.parameters = list(policy.backbone.parameters())
        self.optimiser = torch.optim.AdamW(self.parameters, lr=config.learning_rate, weight_decay=0.0)
        self.reference = Policy(copy.deepcopy(policy.backbone), policy.encoder) if config.kl else None

    def step(self, batch: Batch) -> dict[str, Any]:
        """Takes ``updates`` optimiser steps on the batch, none where no response may train; what it measured."""
        groups = self._groups(batch)
        wave, rewards = batch.wave.select(groups), batch.rewards[groups]
        keep = keep_mask(
            wave.mask, rewards.to(self.policy.device), ~wave.ended, mask_truncated=self.config.mask_truncated
        )
        trained = int((keep.sum(-1) > 0).sum())
        loss = norm = None
        if trained:
            parts = {name: values[groups] for name, values in batch.parts.items()}
            advantages = self._advantages(rewards, parts, wave.lengths.cpu()).to(wave.mask)
            for _ in range(self.config.updates):
                self.optimiser.zero_grad()
                loss = self._backward(wave, advantages, keep)
                norm = nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm).item()
                self.optimiser.step()
        return {"loss": loss, "grad_norm": norm, "trained_responses": trained}

    def _groups(self, batch: Batch) -> list[int]:
        """All groups; with resampling, the first ``prompts`` of those that teach anything."""
        if not self.config.resample_rounds:
            return list(range(len(batch.rewards)))
        return [int(index) for index in informative(batch.rewards).nonzero()][: self.config.prompts]

    def _advantages(self, rewards_P_G: Tensor, parts: Mapping[str, Tensor], lengths_P_G: Tensor) -> Tensor:
        """Raises ``ConfigError`` where parts are wanted that the rewards do not have."""
        names = list(self.config.part_weights) or list(parts)
        for name in names:
            if name not in parts:
                raise ConfigError(f"the rewards have no part {name!r}{nearest(name, parts)}", field=name)
        if not names and self.config.advantage.startswith("gdpo"):
            raise ConfigError(f"{self.config.advantage} wants parts, the rewards have none", field="advantage")
        weights = torch.tensor([self.config.part_weights.get(name, 1.0) for name in names])
        # A response without a total takes part in no baseline, the parts it does have included.
        shared = [parts[name].masked_fill(rewards_P_G.isnan(), math.nan) for name in names] or [rewards_P_G]
        return ESTIMATORS[self.config.advantage](rewards_P_G, lengths_P_G, torch.stack(shared), weights)

    def _backward(self, wave: Wave, advantages_P_G: Tensor, mask_P_G_T: Tensor) -> float:
        """Accumulates the gradient wave by wave; the batch's loss."""
        whole, total = mask_P_G_T.flatten(0, 1), 0.0
        for start in range(0, len(wave.prompts), self.config.wave):
            span = slice(start, start + self.config.wave)
            tokens, old, mask = (each[span].flatten(0, 1) for each in (wave.tokens, wave.old, mask_P_G_T))
            losses = self._token_losses(wave.prompts[span], tokens, old, advantages_P_G[span].reshape(-1, 1), mask)
            loss = aggregate(losses, mask, self.config.aggregation, self.config.max_tokens, whole)
            loss.backward()
            total += loss.item()
        return total

    def _token_losses(
        self, prompts: Sequence[Encoded], tokens_N_T: Tensor, old_N_T: Tensor, advantages_N_1: Tensor, mask_N_T: Tensor
    ) -> Tensor:
        config = self.config
        logp = self.policy.logprobs(prompts, tokens_N_T, config.temperature)
        losses = LOSSES[config.loss](logp, old_N_T, advantages_N_1, mask_N_T, config.clip_low, config.clip_high)
        if self.reference:
            with torch.no_grad():
                reference = self.reference.logprobs(prompts, tokens_N_T, config.temperature)
            losses = losses + config.kl * k3(logp, reference)
        return losses
