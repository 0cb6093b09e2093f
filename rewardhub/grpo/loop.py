"""The training loop, in order: prompts -> rollouts -> rewards, streamed -> advantages -> loss -> step."""

import copy
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rewardhub.errors import ConfigError, nearest
from rewardhub.grpo.advantages import ESTIMATORS, informative
from rewardhub.grpo.batch import Batch, Collector
from rewardhub.grpo.config import GrpoConfig, load_config
from rewardhub.grpo.losses import LOSSES, aggregate, k3, keep_mask
from rewardhub.grpo.policy import Policy, load_policy
from rewardhub.grpo.report import GrpoResult, Trained, draw_curves
from rewardhub.grpo.supervised import Accuracy, evaluate, supervise
from rewardhub.grpo.task import ColourTask, Task
from rewardhub.types import Rewards

EVALUATIONS = 10
"""How often a run is evaluated on reserved examples, besides before the first step."""

Row = dict[str, Any]


def run(config_path: Path, rewards: Rewards, out: Path) -> GrpoResult:
    """:func:`train` with the configuration of a TOML file."""
    return train(load_config(config_path), rewards, out)


def train(config: GrpoConfig, rewards: Rewards, out: Path, task: Task | None = None) -> GrpoResult:
    """Warms a policy up, trains it by GRPO, and trains its control by as many supervised steps.

    Writes ``steps.jsonl``, ``curves.png``, ``result.json`` and the folder ``policy`` into ``out``. Raises
    what the rewards raise; a response without a reward is left out of training.
    """
    out.mkdir(parents=True, exist_ok=True)
    task = task or ColourTask(config.seed, config.reserved)
    policy = load_policy(config.model, out, seed=config.seed, device=config.device)
    torch.manual_seed(config.seed)
    for _ in _supervised(config, policy, task, stream=0, steps=config.warmup_steps, batch=config.warmup_batch):
        pass
    warm = copy.deepcopy(policy.backbone.state_dict())
    rows: list[Row] = []
    with (out / "steps.jsonl").open("w", encoding="utf-8") as log:
        grpo = _trained(config, policy, task, _logged(Trainer(config, policy, task, rewards).steps(), rows, log.write))
    policy.backbone.model.save_pretrained(str(out / "policy"))
    control = None
    if config.control:
        policy.backbone.load_state_dict(warm)
        size = config.prompts * config.group_size
        control = _trained(config, policy, task, _supervised(config, policy, task, 2, config.steps, size))
    draw_curves(out / "curves.png", rows, grpo, control)
    return _result(config, out, rows, grpo, control)


class Trainer:
    """GRPO on one policy: an optimiser, the reference weights where there is a KL term, the collector."""

    def __init__(self, config: GrpoConfig, policy: Policy, task: Task, rewards: Rewards) -> None:
        self.config, self.policy = config, policy
        self.collector = Collector(config, policy, task, rewards)
        self.parameters = list(policy.backbone.parameters())
        self.optimiser = torch.optim.AdamW(self.parameters, lr=config.learning_rate, weight_decay=0.0)
        self.reference = Policy(copy.deepcopy(policy.backbone), policy.encoder) if config.kl else None

    def steps(self) -> Iterator[Row]:
        """Trains, and yields what each step measured."""
        for step in range(self.config.steps):
            started = time.perf_counter()
            batch = self.collector.collect(step)
            collected = time.perf_counter()
            update = self.update(batch)
            yield {
                "step": step,
                **update,
                **_measured(batch),
                "rollout_ms": 1000 * (collected - started) - batch.wait.exposed_ms,
                "update_ms": 1000 * (time.perf_counter() - collected),
            }

    def update(self, batch: Batch) -> Row:
        """Takes ``updates`` optimiser steps on the batch; none where no response may train."""
        groups = self._trainable(batch)
        advantages = self._advantages(batch)[groups]
        wave, rewards = batch.wave.select(groups), batch.rewards_P_G[groups]
        truncated = ~wave.ended_P_G
        mask = keep_mask(wave.mask_P_G_T, rewards.to(truncated.device), truncated, self.config.mask_truncated)
        row: Row = {"loss": None, "grad_norm": None, "trained_responses": int((mask.sum(-1) > 0).sum())}
        for _ in range(self.config.updates if row["trained_responses"] else 0):
            self.optimiser.zero_grad()
            row["loss"] = sum(self._backward(wave, advantages, mask))
            row["grad_norm"] = nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm).item()
            self.optimiser.step()
        return row
