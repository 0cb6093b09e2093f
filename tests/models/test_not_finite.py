"""What is not a finite number never becomes a score, and its neighbours keep theirs."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from rewardhub.models import Card, load
from rewardhub.models.tiny import build_tiny
from rewardhub.types import Group, Response, Status

WIDTH = 64
SQUASHED = {"calibration": {"squash": "sigmoid"}}
CLASSES = {"classes": ("a", "b")}
CARDS = {
    "scalar": (1, SQUASHED), "cost": (1, {"positive_is": "safe", "calibration": {"squash": "tanh"}}),
    "listwise": (1, SQUASHED), "process": (1, {}), "critique": (1, {"critique": {"max_tokens": 2}} | SQUASHED),
    "outcome": (2, CLASSES | {"positive": "b"}), "safety": (2, CLASSES), "objectives": (2, CLASSES | SQUASHED),
}  # fmt: skip
GROUP = Group("g", "What colour?", (Response("red"), Response("blue")))


@pytest.mark.parametrize("bound", [math.inf, -math.inf])
@pytest.mark.parametrize("kind", CARDS)
def test_an_infinite_head(tmp_path, kind, bound):
    """A head that gives an infinity, beside finite outputs or alone, is an error of ours."""
    outputs, fields = CARDS[kind]
    path = build_tiny(tmp_path / "checkpoint")
    bias = torch.zeros(outputs)
    bias[0] = bound
    save_file({"score.weight": torch.zeros(outputs, WIDTH), "score.bias": bias}, path / "value_head.safetensors")
    column = load(Card(name=kind, kind=kind, path=path, system="", **fields)).score([GROUP])[0]
    assert column.values == [None, None]
    assert set(column.statuses) == {Status.INTERNAL_ERROR}


@pytest.mark.parametrize("kind", ["yes_no", "pairwise"])
def test_an_infinite_reply(tmp_path, kind):
    """So is a language head whose logit of one reply is infinite."""
    path = build_tiny(tmp_path / "checkpoint", seed=1)
    card = Card(name=kind, kind=kind, path=path, system="", choices=("1", "2"))
    model = load(card)
    reply = model.checkpoint.replies()[0]
    head = model.loaded.backbone.model.lm_head
    weight = head.weight.detach().clone()
    weight[reply] = math.inf
    head.weight = torch.nn.Parameter(weight, requires_grad=False)
    state = torch.ones(1, WIDTH)
    assert model.loaded.backbone.logits_of(state, [reply]).isinf().all()
    model.engine.runner.states = lambda rows, _kin, places: [state.repeat(len(each), 1) for each in places]
    column = model.score([GROUP])[0]
    assert column.values == [None, None]
    assert set(column.statuses) == {Status.INTERNAL_ERROR}


def test_a_token_without_a_number(tmp_path):
    """A response with a token whose embedding is NaN fails alone."""
    path = build_tiny(tmp_path / "checkpoint", seed=2)
    weight = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(0))
    save_file({"score.weight": weight}, path / "value_head.safetensors")
    card = Card(name="scalar", kind="scalar", path=path, system="")
    group = Group("g", "What?", tuple(map(Response, ("red and blue", "It is ~ here", "blue then"))))
    healthy = load(card)
    first, _, third = healthy.score([group])[0].values
    (token,) = healthy.loaded.encoder.tokenizer.encode("~")
    weights = load_file(path / "model.safetensors")
    weights["model.embed_tokens.weight"][token] = math.nan
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    assert load(card).score([group])[0].values == [pytest.approx(first), None, pytest.approx(third)]
