"""From a scored batch to a step: advantages -> token losses -> one number -> gradient."""

import copy
import math
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
        wave, rewards = batch.wave.select(groups), batch.rewards[groups].to(self.policy.device)
        advantages = self._advantages(batch)[groups].to(wave.mask)
        mask = keep_mask(wave.mask, rewards, ~wave.ended, mask_truncated=self.config.mask_truncated)
        trained = int((mask.sum(-1) > 0).sum())
        loss = norm = None
        for _ in range(self.config.updates if trained else 0):
            self.optimiser.zero_grad()
            loss = self._backward(wave, advantages, mask)
            norm = nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm).item()
            self.optimiser.step()
        return {"loss": loss, "grad_norm": norm, "trained_responses": trained}

    def _groups(self, batch: Batch) -> list[int]:
        """All groups; with resampling, the first ``prompts`` of those that teach anything."""
        if not self.config.resample_rounds:
            return list(range(len(batch.rewards)))
        return [int(index) for index in informative(batch.rewards).nonzero()][: self.config.prompts]

    def _advantages(self, batch: Batch) -> Tensor:
        names = list(self.config.part_weights) or list(batch.parts)
        for name in names:
            if name not in batch.parts:
                raise ConfigError(f"the rewards have no part {name!r}{nearest(name, batch.parts)}", field=name)
        nothing = torch.full_like(batch.rewards, math.nan).unsqueeze(0)
        parts = torch.stack([batch.parts[name] for name in names]) if names else nothing
        weights = torch.tensor([self.config.part_weights.get(name, 1.0) for name in names] or [1.0])
        lengths = batch.wave.lengths.cpu()
        return ESTIMATORS[self.config.advantage](batch.rewards, lengths, parts, weights)

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
        self, prompts: Any, tokens_N_T: Tensor, old_N_T: Tensor, advantages_N_1: Tensor, mask_N_T: Tensor
    ) -> Tensor:
        config = self.config
        logp = self.policy.logprobs(prompts, tokens_N_T, config.temperature)
        losses = LOSSES[config.loss](logp, old_N_T, advantages_N_1, mask_N_T, config.clip_low, config.clip_high)
        if self.reference:
            with torch.no_grad():
                reference = self.reference.logprobs(prompts, tokens_N_T, config.temperature)
            losses = losses + config.kl * k3(logp, reference)
        return losses
