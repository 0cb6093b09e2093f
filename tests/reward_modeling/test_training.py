"""A tiny reward model learns colours, and is served with the scores it was trained to."""

import importlib.util
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from rewardhub.errors import ConfigError
from rewardhub.models import load, load_card
from rewardhub.reward_modeling import TrainResult, load_config, run, train
from rewardhub.reward_modeling.config import TrainConfig
from rewardhub.reward_modeling.data import Pair, read_pairs
from rewardhub.reward_modeling.loop import Evaluation, Trainer
from rewardhub.reward_modeling.toy import write_toy
from rewardhub.types import Group, Status

families = Path(__file__).parents[1] / "models" / "tiny_families.py"
spec = importlib.util.spec_from_file_location("tiny_families", families)
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_digest_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


FEW = {"pairs": 64, "eval_pairs": 16}
"""Pairs, for what says nothing of how well a model learns: evaluating it takes longer than a few steps."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), steps=120)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("small"), **FEW)


@pytest.fixture(scope="module")
def trained(toy: Path) -> TrainResult:
    return run(toy, toy.parent / "out")


def test_learns_to_tell_colours(trained):
    """From a coin flip to at least 85 of 100 pairs right on images it never saw, within two minutes."""
    assert trained.before.accuracy < 0.65
    assert trained.evaluation.accuracy >= 0.85
    assert trained.seconds < 120
    assert "pair accuracy" in trained.summary()


def test_is_served_as_trained(trained):
    """The exported card loads, and its scores equal the trainer's to 1e-5."""
    model = load(load_card(trained.card))
    groups = [
        Group(str(index), pair.prompt, (pair.chosen, pair.rejected), media=pair.media)
        for index, pair in enumerate(trained.eval_pairs)
    ]
    columns = model.score(groups)
    for column, *wanted in zip(columns, trained.evaluation.chosen, trained.evaluation.rejected, strict=True):
        assert column.statuses == [Status.OK, Status.OK]
        assert column.values == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("kind", ["qwen3_vl", "internvl", "gemma3", "smolvlm", "qwen2", "llama"])
def test_each_family_is_served_as_trained(tmp_path, kind):
    """The checkpoint bears the names of its own family, and a model of text is one that transformers itself loads."""
    base = tiny_families.build(kind, tmp_path / "base")
    (base / "value_head.safetensors").unlink()
    texts = [(f"What {n}?", f"It is red {n}.", "blue, maybe " * (1 + n % 3)) for n in range(12)]
    rows = [dict(zip(("prompt", "chosen", "rejected"), each, strict=True)) for each in texts]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = TrainConfig(base=base, data=tmp_path / "pairs.jsonl", steps=1, batch=2, warmup=0, rate=1e-3, system="")
    result = train(config, tmp_path / "out")
    path = tmp_path / "out" / "checkpoint"
    model = load(load_card(result.card))
    groups = [Group("0", pair.prompt, (pair.chosen, pair.rejected)) for pair in result.eval_pairs]
    wanted = [*zip(result.evaluation.chosen, result.evaluation.rejected, strict=True)]
    for group, values in zip(groups, wanted, strict=True):
        assert model.score([group])[0].values == pytest.approx(values, abs=1e-5)
    (named,) = json.loads((path / "config.json").read_text())["architectures"]
    assert named.lower().startswith(kind.replace("_", ""))
    if kind in {"qwen2", "llama"}:
        classifier = AutoModelForSequenceClassification.from_pretrained(str(path), dtype=torch.float32).eval()
        assert type(classifier).__name__ == named
        encoded = model.encode(groups[0])[0]
        with torch.no_grad():
            logits = classifier(input_ids=torch.from_numpy(encoded.ids)[None]).logits
        assert float(logits) == pytest.approx(wanted[0][0], abs=1e-5)


def test_metrics_are_one_line_per_step(trained):
    """Loss, accuracy, margin and rate of every step, and evaluations between, all finite."""
    lines = [json.loads(line) for line in trained.metrics.read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, trained.steps + 1))
    assert {"accuracy", "margin", "mean", "grad_norm", "rate", "seconds"} <= set(steps[0])
    assert [line["step"] for line in lines if "eval_accuracy" in line] == list(range(40, trained.steps + 1, 40))
    assert sum(line["loss"] for line in steps[-20:]) < 0.7 * sum(line["loss"] for line in steps[:20])


def test_the_same_seed_gives_the_same_model(small, tmp_path):
    """Two runs agree in every score; another seed does not."""
    config = load_config(small).model_copy(update={"steps": 3, "batch": 8})
    first, second = train(config, tmp_path / "a"), train(config, tmp_path / "b")
    other = train(config.model_copy(update={"seed": 1}), tmp_path / "c")
    assert first.evaluation == second.evaluation
    assert first.evaluation != other.evaluation


def test_other_heads_and_autocast_train(small, tmp_path):
    """A two-layer head under bfloat16 autocast trains, is exported and is served."""
    config = load_config(small).model_copy(update={"steps": 3, "batch": 8, "activation": "silu", "dtype": "bfloat16"})
    result = train(config, tmp_path)
    pair = result.eval_pairs[0]
    column = load(load_card(result.card)).score([Group("0", pair.prompt, (pair.chosen,), media=pair.media)])[0]
    assert column.values[0] == pytest.approx(result.evaluation.chosen[0], abs=0.1)


def test_micro_batches_and_checkpointing_change_nothing(toy):
    """Gradients of a batch are the same in one piece, in uneven pieces, and with activations recomputed."""
    gradients = []
    for fields in ({}, {"micro_batch": 3}, {"checkpointing": True}):
        config = load_config(toy).model_copy(update=fields)
        trainer = Trainer(config, config.base)
        pairs = train_pairs(toy)[:8]
        trainer.backbone.train()
        loss, *_ = trainer.backward([*pairs[:7], replace(pairs[7], tie=True)])
        weights = trainer.backbone.base.language_model.layers[0].mlp.up_proj.weight
        gradients.append((loss, weights.grad, trainer.backbone.base.visual.patch_embed.proj.weight.grad))
    for loss, *other in gradients[1:]:
        assert loss == pytest.approx(gradients[0][0], abs=1e-6)
        for found, wanted in zip(other, gradients[0][1:], strict=True):
            assert torch.allclose(found, wanted, atol=1e-7)


@pytest.mark.parametrize(("line", "words"), [
    ({"chosen": "z" * 3000}, "tokens, over the limit"), ({"media": [{"path": "bad.png"}]}, "expected PNG"),
    ({"prompt": [{"role": "robot", "content": "x"}]}, "unknown role"),
])  # fmt: skip
def test_bad_pairs_are_found_before_training(toy, tmp_path, line, words):
    """A pair that cannot be shown to the model ends the run at once, with its line."""
    (tmp_path / "bad.png").write_bytes(b"no")
    good = {"prompt": "p", "chosen": "a", "rejected": "b"}
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(each) for each in (good, good | line, good)))
    config = load_config(toy).model_copy(update={"data": tmp_path / "pairs.jsonl"})
    with pytest.raises(ConfigError, match=words) as caught:
        train(config, tmp_path / "out")
    assert "pairs.jsonl:2: " in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_ties_alone_evaluate_nothing(toy, tmp_path):
    """An accuracy over no pair is no number."""
    line = {"prompt": "p", "chosen": "red", "rejected": "blue", "tie": True}
    (tmp_path / "ties.jsonl").write_text(json.dumps(line))
    config = load_config(toy).model_copy(update={"eval_data": tmp_path / "ties.jsonl"})
    with pytest.raises(ConfigError, match=r"all 1 pairs of .*ties\.jsonl kept for evaluation are ties"):
        train(config, tmp_path / "out")


def test_the_toy_is_reproducible(small, tmp_path):
    """The same arguments write the same bytes."""
    write_toy(tmp_path, **FEW)
    for file in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        assert file.read_bytes() == (small.parent / file.relative_to(tmp_path)).read_bytes()


def test_rate_rises_and_falls(toy):
    """Linear warm-up to the rate, then a cosine to nothing."""
    config = load_config(toy).model_copy(update={"warmup": 4, "steps": 20, "rate": 1.0})
    rates = [Trainer(config, config.base).rate(step) for step in range(1, 21)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert all(before > after for before, after in pairwise(rates[3:]))
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)


def test_ties_and_margins_reach_the_loss(toy):
    """Equal scores cost nothing on a tie and ln 2 on a preference; a margin costs more."""
    config = load_config(toy).model_copy(update={"centre": 0.0})
    trainer = Trainer(config, config.base)
    pair = train_pairs(toy)[0]
    tied, wide = replace(pair, tie=True), replace(pair, margin=1.0)
    zero = torch.zeros(2)
    assert trainer.loss(zero, zero, [tied, tied]).item() == 0.0
    assert trainer.loss(zero, zero, [pair, tied]).item() == pytest.approx(0.693147 / 2, abs=1e-5)
    assert trainer.loss(zero, zero, [wide, wide]).item() == pytest.approx(1.313262, abs=1e-5)


def train_pairs(toy: Path) -> list[Pair]:
    return read_pairs(toy.parent / "train.jsonl")


def test_equal_scores_are_not_right():
    """A pair counts as right only where the chosen response scores strictly more."""
    assert Evaluation([1.0, 2.0, 0.0], [1.0, 1.0, 1.0]).accuracy == pytest.approx(1 / 3)


def test_a_diverging_run_stops(small, tmp_path, monkeypatch):
    """A loss that is not a number ends the run with the advice to lower the rate."""
    config = load_config(small).model_copy(update={"steps": 3, "batch": 4})
    monkeypatch.setattr(Trainer, "loss", lambda *_: torch.tensor(float("nan"), requires_grad=True))
    with pytest.raises(ConfigError, match="not finite at step 1"):
        train(config, tmp_path)


def test_too_few_pairs_to_hold_some_out(toy, tmp_path):
    """One pair cannot be both trained and tested on."""
    (tmp_path / "one.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    config = load_config(toy).model_copy(update={"data": tmp_path / "one.jsonl", "eval_data": None})
    with pytest.raises(ConfigError, match="too few"):
        train(config, tmp_path / "out")
