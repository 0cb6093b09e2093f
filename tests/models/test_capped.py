"""Attention with bounded logits: equal to transformers' own, in as much memory whatever a prompt's length."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM

from rewardhub.models import Card, capped, load
from rewardhub.types import Group, Response

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)


class Largest(TorchDispatchMode):
    """The most numbers of a tensor of floating point that an operation gives."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and found.is_floating_point():
            self.most = max(self.most, found.numel())
        return found


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    return tiny_families.build("gemma2", tmp_path_factory.mktemp("gemma") / "checkpoint")


@pytest.mark.parametrize("fields", [{}, {"share_prefix": False}, {"reproducible": True}])
def test_long_prompts_hold_no_square_of_logits(gemma, monkeypatch, fields):
    """On every path the logits of 800 tokens are computed a few thousand at a time, and the state is the same."""
    monkeypatch.setattr(capped, "MOST", 1 << 14)
    model = load(Card(name="g", kind="scalar", path=gemma, device="cpu", **fields))
    group = Group("g", "word " * 200, (Response("red " * 9), Response("a blue circle")))
    with Largest() as largest:
        found = model.score([group])[0].values
    rows = [model.loaded.encoder.encode(group.prompt, (), response) for response in group.responses]
    assert min(map(len, rows)) > 700
    assert largest.most < 700**2
    plain = AutoModelForCausalLM.from_pretrained(str(gemma), dtype=torch.float32, attn_implementation="eager").eval()
    for row, value in zip(rows, found, strict=True):
        with torch.inference_mode():
            state = plain.model(input_ids=torch.from_numpy(row.ids)[None]).last_hidden_state[0, -1 - model.back]
        wanted = float(model.loaded.backbone.head(state[None]))
        assert value == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("asked", "causal"), [(7, True), (3, True), (1, True), (7, False)])
def test_without_a_mask(monkeypatch, asked, causal):
    """Behind a cache of seen tokens too, and in both directions where the module is not causal."""
    monkeypatch.setattr(capped, "MOST", 1 << 6)
    query, key, value = (torch.randn(2, heads, 7, 8) for heads in (4, 2, 2))
    module = torch.nn.Module()
    module.num_key_value_groups, module.is_causal = 2, causal
    found, _ = capped.capped_attention(module, query[:, :, 7 - asked :], key, value, None, scaling=0.3)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=causal, scale=0.3, enable_gqa=True
    )
    assert torch.allclose(found, wanted.transpose(1, 2)[:, 7 - asked :], atol=1e-6)
