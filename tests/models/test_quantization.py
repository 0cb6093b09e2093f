"""Weights in eight bits by the card: near the exact scores, less memory, and nothing that is not said in the fingerprint."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from rewardhub.errors import ConfigError
from rewardhub.models import Card, load
from rewardhub.models.checkpoint import check_checkpoint
from rewardhub.models.drift import measure
from rewardhub.models.families import FAMILIES
from rewardhub.models.quantization import Int8Linear, quantize_linears
from rewardhub.types import Group, Response, Status
from tests.models import tiny_families


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_is_its_rounded_weight(dtype):
    """The product with weights that are each off by at most half a step of their row, in the inputs' type."""
    torch.manual_seed(0)
    exact = nn.Linear(70, 40).requires_grad_(False)
    exact.weight[3] = 0.0
    exact.weight[4] *= 100.0
    layer, inputs = Int8Linear(exact), torch.randn(2, 5, 70)
    whole = layer.weight.float() * layer.scale[:, None]
    steps = exact.weight.abs().amax(1, keepdim=True) / 127
    assert ((whole - exact.weight).abs() <= steps * 0.5001).all()
    assert not whole[3].any()
    found = Int8Linear(exact.to(dtype))(inputs.to(dtype))
    wanted = nn.functional.linear(inputs, whole, exact.bias.float())
    assert found.dtype is dtype
    assert layer.weight.dtype is torch.int8
    far = 1e-6 if dtype is torch.float32 else 2e-2
    assert ((found - wanted).abs() <= far * wanted.abs().amax((0, 1))).all()


def test_an_int8_model_is_near_the_exact_one(scalar, groups):
    """Scores move by little of their deviation, the path is self-checked, company changes nothing; memory is a quarter."""
    exact, brief = scalar(), scalar(quantization="int8")
    assert brief.runner.attention == "packed"
    assert brief.runner.drift < 1e-4
    assert brief.fingerprint != exact.fingerprint
    found, wanted = (torch.tensor(sum((c.values for c in each.score(groups)), [])) for each in (brief, exact))
    assert 0 < (found - wanted).abs().mean() <= 0.1 * wanted.std()
    rows = scalar(quantization="int8", share_prefix=False)
    for ours, theirs in zip(brief.score(groups), rows.score(groups), strict=True):
        assert ours.values == pytest.approx(theirs.values, abs=1e-5)
    alone = [brief.score([replace(groups[2], responses=(each,))])[0].values[0] for each in groups[2].responses]
    assert alone == pytest.approx(brief.score([groups[2]])[0].values, abs=1e-5)


def test_only_the_decoder_is_quantised(scalar):
    """Embeddings, vision encoder and head stay; every linear layer of the decoder is in eight bits."""
    backbone = scalar(quantization="int8").loaded.backbone
    decoder = [each for each in backbone.language_model.layers.modules() if not list(each.children())]
    assert sum(type(each) is Int8Linear for each in decoder) == 2 * 7
    assert not any(type(each) is nn.Linear for each in decoder)
    assert not any(type(each) is Int8Linear for each in backbone.base.visual.modules())
    linears = nn.Sequential(nn.Linear(64, 64), nn.Sequential(nn.Linear(64, 32)))
    assert quantize_linears(linears) == 2
    assert sum(each.numel() * each.element_size() for each in linears.buffers()) == 96 * 64 + 96 * 4


@pytest.mark.parametrize("kind", [kind for kind in tiny_families.CONFIGS if not FAMILIES[kind].experts])
def test_every_family(kind, tmp_path):
    """Each family runs with weights in eight bits, by the path that its self-check chose."""
    path = tiny_families.build(kind, tmp_path / "m")
    card = Card(name="m", kind="scalar", path=path)
    exact, brief = (load(card.model_copy(update={"quantization": each})) for each in ("none", "int8"))
    assert brief.runner.attention == exact.runner.attention
    group = Group("g", "What colour is it?", tuple(map(Response, ("red", "blue", "green because"))))
    found, wanted = (model.score([group])[0] for model in (brief, exact))
    assert found.statuses == [Status.OK] * 3
    assert found.values != wanted.values
    assert found.values == pytest.approx(wanted.values, abs=0.3)


def test_the_drift_is_measured_against_exact_weights(scalar):
    """`rewardhub models drift` tells what quantisation costs, in scores."""
    exact, brief = measure(scalar().card), measure(scalar(quantization="int8").card)
    assert exact.largest < 1e-4 < brief.mean < 0.2 * brief.deviation
    assert brief.order_kept > 0.9


REFUSED = {
    "an unknown method": ({"quantization": "int3"}, "'none', 'int8'"),
    "a method of vLLM alone": ({"quantization": "awq"}, "awq is the vllm backend's"),
    "a kind without a decoder": (
        {"quantization": "int8", "kind": "similarity"},
        "similarity does not read quantization",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_cards_are_checked(name):
    fields, words = REFUSED[name]
    with pytest.raises(ValidationError, match=words):
        Card(**{"name": "m", "kind": "scalar", "path": "."} | fields)


def test_a_published_method_is_the_cards(classifier, tmp_path):
    """A quantised checkpoint is read by the method that its card says, and by none that it names itself."""
    path = shutil.copytree(classifier, tmp_path / "m")
    with pytest.raises(ConfigError, match="quantised by None, its card says 'awq'"):
        check_checkpoint(path, quantization="awq")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    assert check_checkpoint(path, quantization="awq")["model_type"] == "qwen2_5_vl"
    with pytest.raises(ConfigError, match="quantised by 'awq', its card says 'gptq'"):
        check_checkpoint(path, quantization="gptq")
    for name in ("none", "int8"):
        with pytest.raises(ConfigError, match="quantization_config"):
            check_checkpoint(path, quantization=name)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_experts_are_not_quantised(tmp_path, kind):
    """Most weights of such a model are no linear layers: int8 would leave them as they are, unsaid."""
    path = tiny_families.build(kind, tmp_path / "m")
    with pytest.raises(ConfigError, match="experts") as raised:
        load(Card(name="m", kind="scalar", path=path, quantization="int8"))
    assert raised.value.field == "quantization"
