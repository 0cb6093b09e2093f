"""The training loop: seeded batches of pairs, Bradley-Terry loss, metrics as JSON lines."""

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rewardhub.errors import ConfigError, OverLimit, ScoringError
from rewardhub.models.backbone import Backbone, load_headless, pick_device
from rewardhub.models.checkpoint import download
from rewardhub.models.head import new_head
from rewardhub.models.inputs import Encoded, Encoder
from rewardhub.models.pictures import Pixels
from rewardhub.reward_modeling.config import TrainConfig
from rewardhub.reward_modeling.data import Pair, read_pairs
from rewardhub.reward_modeling.export import export
from rewardhub.reward_modeling.losses import bradley_terry, centring, tie

METRICS = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of held-out pairs; accuracy counts a pair as right where chosen > rejected, strictly."""

    chosen: list[float]
    rejected: list[float]

    @property
    def accuracy(self) -> float:
        right = sum(c > r for c, r in zip(self.chosen, self.rejected, strict=True))
        return right / max(1, len(self.chosen))

    @property
    def margin(self) -> float:
        gaps = [c - r for c, r in zip(self.chosen, self.rejected, strict=True)]
        return sum(gaps) / max(1, len(gaps))


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run wrote and reached; ``evaluation`` is of the model as exported."""

    card: Path
    metrics: Path
    steps: int
    pairs: int
    seconds: float
    before: Evaluation
    evaluation: Evaluation
    eval_pairs: list[Pair] = field(repr=False, default_factory=list)

    def summary(self) -> str:
        return (
            f"{self.steps} steps on {self.pairs} pairs in {self.seconds:.1f} s: pair accuracy "
            f"{self.before.accuracy:.3f} -> {self.evaluation.accuracy:.3f} on {len(self.eval_pairs)} held-out pairs\n"
            f"card: {self.card}\nmetrics: {self.metrics}"
        )


def train(config: TrainConfig, out: Path) -> TrainResult:
    """Trains, evaluates and exports; writes ``checkpoint/``, ``card.toml`` and ``metrics.jsonl`` to ``out``.

    The same configuration gives the same model on the same CPU. Raises ``ConfigError`` for unusable
    data or a base that cannot be loaded.
    """
    start = time.perf_counter()
    torch.manual_seed(config.seed)
    base = config.base or download(config.repository, config.revision)
    training, held_out = _split(config)
    trainer = Trainer(config, base)
    trainer.check([*training, *held_out])
    out.mkdir(parents=True, exist_ok=True)
    before = trainer.evaluate(held_out)
    with (out / METRICS).open("w", encoding="utf-8") as lines:
        for record in trainer.run(training, held_out):
            lines.write(json.dumps(record) + "\n")
            lines.flush()
    evaluation = trainer.evaluate(held_out)
    summary = f"trained on {len(training)} pairs, held-out pair accuracy {evaluation.accuracy:.3f}"
    card = export(trainer.backbone, base, config, out, summary)
    seconds = time.perf_counter() - start
    return TrainResult(card, out / METRICS, config.steps, len(training), seconds, before, evaluation, held_out)


class Trainer:
    """A backbone with a fresh head, its encoder and its optimiser."""

    def __init__(self, config: TrainConfig, base: Path) -> None:
        self.config = config
        self.device = torch.device(pick_device(config.device))
        self.backbone: Backbone = load_headless(base, device=str(self.device))
        self.backbone.head = new_head(self.backbone.hidden_size, config.activation, config.seed).to(self.device)
        if config.checkpointing:
            self.backbone.model.gradient_checkpointing_enable()
        self.encoder = Encoder(base, system=config.system, pixels=Pixels(most=config.max_pixels))
        self.optimizer = torch.optim.AdamW(
            self.backbone.parameters(), lr=config.rate, betas=(0.9, 0.95), weight_decay=config.weight_decay
        )

    def run(self, training: Sequence[Pair], held_out: Sequence[Pair]) -> Iterator[dict[str, Any]]:
        """One record per step, and one per evaluation on held-out pairs."""
        for step, batch in zip(range(1, self.config.steps + 1), self.shuffled(training), strict=False):
            yield {"step": step, **self.step(step, batch)}
            if step % self.config.eval_every == 0:
                evaluation = self.evaluate(held_out)
                yield {"step": step, "eval_accuracy": evaluation.accuracy, "eval_margin": evaluation.margin}

    def step(self, step: int, batch: Sequence[Pair]) -> dict[str, float]:
        """One optimiser step on ``batch``; the metrics are of the scores before it."""
        begun = time.perf_counter()
        rate = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.backbone.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss, chosen, rejected = self.backward(batch)
        if not math.isfinite(loss):
            raise ConfigError(f"the loss is not finite at step {step}; lower the rate", field="rate")
        norm = torch.nn.utils.clip_grad_norm_(self.backbone.parameters(), self.config.max_norm)
        self.optimizer.step()
        gap = chosen - rejected
        return {
            "loss": loss,
            "accuracy": (gap > 0).float().mean().item(),
            "margin": gap.mean().item(),
            "mean": torch.cat([chosen, rejected]).mean().item(),
            "grad_norm": norm.item(),
            "rate": rate,
            "seconds": time.perf_counter() - begun,
        }

    def backward(self, batch: Sequence[Pair]) -> tuple[float, Tensor, Tensor]:
        """Adds the batch's gradients, a micro-batch at a time; returns its loss and scores [B] each."""
        size = self.config.micro_batch or len(batch)
        total = 0.0
        scores: list[Tensor] = []
        for start in range(0, len(batch), size):
            micro = batch[start : start + size]
            chosen, rejected = self.scores(micro)
            loss = self.loss(chosen, rejected, micro) * (len(micro) / len(batch))
            loss.backward()
            total += loss.item()
            scores.append(torch.stack([chosen, rejected]).detach())
        chosen, rejected = torch.cat(scores, dim=1)
        return total, chosen, rejected

    def loss(self, chosen: Tensor, rejected: Tensor, batch: Sequence[Pair]) -> Tensor:
        """Bradley-Terry on preferences, squared difference on ties, each by its share; plus centring."""
        tied = torch.tensor([pair.tie for pair in batch], device=chosen.device)
        margin = torch.tensor([pair.margin for pair in batch], device=chosen.device)
        total = self.config.centre * centring(chosen, rejected)
        if not tied.all():
            decided = ~tied
            share = decided.float().mean()
            total = total + share * bradley_terry(chosen[decided], rejected[decided], margin[decided])
        if tied.any():
            share = tied.float().mean()
            total = total + self.config.tie_weight * share * tie(chosen[tied], rejected[tied])
        return total

    def scores(self, batch: Sequence[Pair]) -> tuple[Tensor, Tensor]:
        """Scores of chosen and rejected responses, [B] each; a pair's prompt and images are encoded once."""
        encoded = [self.encode(pair) for pair in batch]
        rows = [chosen for chosen, _ in encoded] + [rejected for _, rejected in encoded]
        with self.autocast():
            scores = self.backbone.scores(self.encoder.collate(rows).to(self.device))
        return scores[: len(batch)], scores[len(batch) :]

    def check(self, pairs: Sequence[Pair]) -> None:
        """Encodes every pair once, so that a bad one is found before hours of training, not after."""
        for pair in pairs:
            try:
                self.encode(pair)
            except ScoringError as error:
                raise ConfigError(f"{pair.place}: {error.message}", field=error.field or "data") from error

    def encode(self, pair: Pair) -> tuple[Encoded, Encoded]:
        """The chosen and the rejected sequence; raises ``OverLimit`` for more tokens than the model takes."""
        prefix = self.encoder.prefix(pair.prompt, pair.media)
        chosen, rejected = (
            prefix + self.encoder.answer(each, len(pair.images)) for each in (pair.chosen, pair.rejected)
        )
        limit = min(self.config.max_tokens or self.backbone.max_length, self.backbone.max_length)
        if max(len(chosen), len(rejected)) > limit:
            raise OverLimit(f"{max(len(chosen), len(rejected))} tokens, over the limit of {limit}")
        return chosen, rejected

    @torch.no_grad()
    def evaluate(self, pairs: Sequence[Pair]) -> Evaluation:
        """Scores of ``pairs`` in their order; ties do not count."""
        self.backbone.eval()
        result = Evaluation([], [])
        for start in range(0, len(pairs), self.config.batch):
            chosen, rejected = self.scores(pairs[start : start + self.config.batch])
            result.chosen.extend(chosen.tolist())
            result.rejected.extend(rejected.tolist())
        return result

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, then a cosine to 0."""
        config = self.config
        if step <= config.warmup:
            return config.rate * step / config.warmup
        done = (step - config.warmup) / max(1, config.steps - config.warmup)
        return config.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def shuffled(self, pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
        """Batches without end; each pass over the data is in another order."""
        rng = random.Random(self.config.seed)
        waiting: list[Pair] = []
        while True:
            while len(waiting) < self.config.batch:
                waiting += rng.sample(list(pairs), len(pairs))
            yield waiting[: self.config.batch]
            waiting = waiting[self.config.batch :]

    def autocast(self) -> AbstractContextManager[Any]:
        if self.config.dtype == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def _split(config: TrainConfig) -> tuple[list[Pair], list[Pair]]:
    pairs = read_pairs(config.data)
    if config.eval_data is not None:
        return pairs, _decided(read_pairs(config.eval_data), config.eval_data)
    random.Random(config.seed).shuffle(pairs)
    kept = max(1, round(len(pairs) * config.eval_fraction))
    if len(pairs) - kept < 1:
        raise ConfigError(f"{config.data} holds {len(pairs)} pairs, too few to keep some from training", field="data")
    return pairs[:-kept], _decided(pairs[-kept:], config.data)


def _decided(held_out: list[Pair], path: Path) -> list[Pair]:
    decided = [pair for pair in held_out if not pair.tie]
    if not decided:
        raise ConfigError(f"all {len(held_out)} pairs of {path} kept for evaluation are ties", field="eval_data")
    return decided
