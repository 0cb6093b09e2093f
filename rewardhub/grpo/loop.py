"""The training loop, in order: prompts -> rollouts -> rewards, streamed -> advantages -> loss -> step."""

import copy
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from rewardhub.grpo.advantages import informative
from rewardhub.grpo.batch import Batch, Collector
from rewardhub.grpo.config import GrpoConfig, load_config
from rewardhub.grpo.policy import Policy, load_policy
from rewardhub.grpo.report import GrpoResult, Trained, draw_curves
from rewardhub.grpo.supervised import Evaluation, supervise
from rewardhub.grpo.task import ColourTask, Task
from rewardhub.grpo.update import Updater
from rewardhub.types import Rewards

WARM_UP, ROLLOUTS, CONTROL = 0, 1, 2
"""The task's streams: every phase draws examples of its own."""

EVALUATIONS = 10
"""How often a run is evaluated on reserved examples, besides before its first step."""

Row = dict[str, Any]


def run(config_path: Path, rewards: Rewards, out: Path, on_row: Callable[[Row], None] | None = None) -> GrpoResult:
    """:func:`train` with the configuration of a TOML file."""
    return train(load_config(config_path), rewards, out, on_row=on_row)


def train(
    config: GrpoConfig,
    rewards: Rewards,
    out: Path,
    *,
    task: Task | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> GrpoResult:
    """Warms a policy up, trains it by GRPO and, from the same warm start, a control by as many supervised steps.

    Writes ``steps.jsonl``, ``curves.png``, ``result.json`` and the folder ``policy`` into ``out``. Raises
    what the rewards raise for a whole call; a response without a reward never trains. The task is
    colour naming unless another is given; ``on_row`` is told each step's line of the log.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _threads(config.threads):
        torch.manual_seed(config.seed)
        task = task or ColourTask(config.seed, config.reserved)
        policy = load_policy(config.model, out, seed=config.seed, device=config.device)
        evaluation = Evaluation(config, policy, task)
        for _ in _supervised(config, policy, task, WARM_UP, config.warmup_steps):
            pass
        warm = copy.deepcopy(policy.backbone.state_dict())
        rows: list[Row] = []
        grpo = _measured(config, evaluation, _logged(reinforce(config, policy, task, rewards), rows, out, on_row))
        policy.save(out / "policy")
        control = None
        if config.control:
            policy.backbone.load_state_dict(warm)
            control = _measured(config, evaluation, _supervised(config, policy, task, CONTROL, config.steps))
    draw_curves(out / "curves.png", rows, grpo, control)
    return _result(config, rows, grpo, control, out)


def reinforce(config: GrpoConfig, policy: Policy, task: Task, rewards: Rewards) -> Iterator[Row]:
    """GRPO, step by step; yields what each step measured."""
    collector = Collector(config, policy, task.examples(ROLLOUTS), task, rewards)
    updater = Updater(config, policy)
    for step in range(config.steps):
        started = time.perf_counter()
        batch = collector.collect(step)
        collected = time.perf_counter()
        update = updater.step(batch)
        yield {
            "step": step,
            **update,
            **_statistics(batch),
            "generation_ms": 1000 * (collected - started) - batch.wait.exposed_ms,
            "update_ms": 1000 * (time.perf_counter() - collected),
        }


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """A tiny policy gains nothing from more threads and loses much where they wait for a busy core."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _statistics(batch: Batch) -> Row:
    rewards = batch.rewards
    return {
        "reward": _mean(rewards),
        "parts": {name: _mean(values) for name, values in batch.parts.items()},
        "sampled_accuracy": batch.right / rewards.numel(),
        "zero_std_share": 1 - informative(rewards).double().mean().item(),
        "responses": rewards.numel(),
        "tokens": batch.wave.lengths.mean().item(),
        "truncated_share": 1 - batch.wave.ended.double().mean().item(),
        "statuses": dict(batch.statuses),
        "cached": batch.cached,
        "reward_hidden_ms": batch.wait.hidden_ms,
        "reward_exposed_ms": batch.wait.exposed_ms,
    }


def _mean(values: torch.Tensor) -> float | None:
    """The mean of what is known; None where nothing is."""
    known = values[~values.isnan()]
    return known.mean().item() if len(known) else None


def _supervised(config: GrpoConfig, policy: Policy, task: Task, stream: int, steps: int) -> Iterator[float]:
    return supervise(
        policy, task.examples(stream), steps=steps, batch=config.warmup_batch,
        learning_rate=config.warmup_learning_rate, max_grad_norm=config.max_grad_norm,
    )  # fmt: skip


def _logged(rows: Iterator[Row], kept: list[Row], out: Path, on_row: Callable[[Row], None] | None) -> Iterator[Row]:
    """Keeps each row and writes it as a JSON line at once, so that a run that dies leaves its log."""
    with (out / "steps.jsonl").open("w", encoding="utf-8") as log:
        for row in rows:
            kept.append(row)
            log.write(json.dumps(row) + "\n")
            log.flush()
            if on_row:
                on_row(row)
            yield row


def _measured(config: GrpoConfig, evaluation: Evaluation, steps: Iterator[Any]) -> Trained:
    """Runs the steps, evaluating before, in between and at the end; evaluation is not in the seconds."""
    every = max(1, config.steps // EVALUATIONS)
    points = [(0, evaluation())]
    seconds, started = 0.0, time.perf_counter()
    for step, _ in enumerate(steps, start=1):
        if step % every == 0 or step == config.steps:
            seconds += time.perf_counter() - started
            points.append((step, evaluation()))
            started = time.perf_counter()
    return Trained(points, seconds)


def _result(config: GrpoConfig, rows: list[Row], grpo: Trained, control: Trained | None, out: Path) -> GrpoResult:
    result = GrpoResult(
        grpo=grpo,
        control=control,
        statuses=dict(sum((Counter(row["statuses"]) for row in rows), Counter())),
        reward_hidden_ms=sum(row["reward_hidden_ms"] for row in rows),
        reward_exposed_ms=sum(row["reward_exposed_ms"] for row in rows),
        log=out / "steps.jsonl",
        curves=out / "curves.png",
        policy=out / "policy",
    )
    record = {"config": config.as_dict(), "result": asdict(result)}
    (out / "result.json").write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
    return result
