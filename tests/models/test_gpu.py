"""What only a GPU shows: its attention kernels, its types, its memory. ``make test-gpu`` runs them with the rest."""

import importlib.util
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLMLP

from rewardhub.models import Card, load
from rewardhub.models.backbone import load_backbone
from rewardhub.models.budget import measured_room
from rewardhub.models.gates import pad_gates
from rewardhub.models.inputs import Encoder
from rewardhub.models.replay import replay_vision
from rewardhub.models.runner import Runner
from rewardhub.models.spans import Spans, attend_spans
from rewardhub.models.vision import join_spans
from rewardhub.types import Group, Response

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")]
NEAR = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", [(5,), (64, 64, 64), (1, 1, 70, 300, 2), (333, 7, 333)])
def test_spans_attend_apart(lengths, causal, dtype):
    """The GPU's kernels give attention and log-sum-exp of each span, grouped heads included."""
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(sum(lengths), 4, 64, generator=generator).cuda()
    key, value = torch.randn(2, sum(lengths), 2, 64, generator=generator).cuda()
    each = Spans(lengths)
    out, weight = attend_spans(query.to(dtype), key.to(dtype), value.to(dtype), each, each, 0.2, causal=causal)
    assert out.dtype == dtype
    assert weight.dtype == torch.float32
    logits = torch.einsum("qhd,khd->qhk", query, key.repeat_interleave(2, 1)) * 0.2
    span = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).cuda()
    seen = span.unsqueeze(1) == span
    seen = seen.tril() if causal else seen
    logits = logits.masked_fill(~seen.unsqueeze(1), -torch.inf)
    wanted = torch.einsum("qhk,khd->qhd", logits.softmax(-1), value.repeat_interleave(2, 1))
    assert (out.float() - wanted).abs().max() < NEAR[dtype] * wanted.abs().max()
    assert (weight - logits.logsumexp(-1)).abs().max() < NEAR[dtype] * 10


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["qwen2_5_vl", *tiny_families.CONFIGS])
def test_families(kind, dtype, tiny, tmp_path, groups):
    """Each family takes the path on a GPU that it takes on a CPU, and gives the states that padded rows give."""
    path = tiny if kind == "qwen2_5_vl" else tiny_families.build(kind, tmp_path / kind)
    encoder = Encoder(path, system="")
    here = Runner(load_backbone(path, head=False, dtype=dtype, device="cuda"), encoder, 10_000)
    there = Runner(load_backbone(path, head=False), encoder, 10_000)
    assert here.attention == there.attention
    rows, kin = [], []
    for group in groups:
        media = group.media if there.backbone.family.image else ()
        kin.append(list(range(len(rows), len(rows) + len(group.responses))))
        rows += [encoder.encode(group.prompt, media, response) for response in group.responses]
    found, wanted = here.last_hidden(rows, kin).float().cpu(), there.last_hidden(rows, kin)
    near = {"float32": 1e-4, "bfloat16": 6e-2, "float16": 1e-2}[dtype]
    assert (found - wanted).abs().max() < near * wanted.abs().max()


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
def test_replayed_images(kind, tiny, tmp_path):
    """Images of two sizes, over and over with new pixels: replayed passes give what the stock encoder gives."""
    path = tiny if kind == "qwen2_5_vl" else tiny_families.build(kind, tmp_path / kind)
    stock, ours = (load_backbone(path, head=False, device="cuda", dtype="bfloat16") for _ in range(2))
    assert join_spans(ours.base) == 2
    assert replay_vision(ours.base) == 1
    replay = ours.base.visual.forward
    reader = Encoder(path, system="").reader
    rng = np.random.default_rng(0)
    for turn in range(12):
        size = (96, 64, 3) if turn % 2 else (64, 128, 3)
        image = reader.cut(Image.fromarray(rng.integers(0, 256, size, np.uint8)), b"")
        with torch.inference_mode():
            found, wanted = (
                reader.features(each.base, [image], torch.device("cuda"), torch.bfloat16)[0].float()
                for each in (ours, stock)
            )
        assert (found - wanted).abs().max() < 4e-2 * wanted.abs().max()
    assert [each.graph is not None for each in replay._known.values()] == [True, True]


@torch.inference_mode()
def test_gates_are_padded():
    """Gates of a width that the fast kernels do not take are padded, and give what they gave."""
    config = SimpleNamespace(hidden_size=64, intermediate_size=3420, hidden_act="silu")
    model, states = nn.Sequential(Qwen2_5_VLMLP(config, True)).cuda(), torch.randn(9, 64, device="cuda")
    wanted = model(states)
    assert pad_gates(model) == 1
    assert torch.allclose(model(states), wanted, atol=1e-5)


def test_prompts_are_remembered(classifier, groups):
    """Scores asked for again come from the remembered keys and values, and are the same."""
    model = load(Card(name="g", kind="scalar", path=classifier, system="", device="cuda", dtype="bfloat16"))
    first = [column.values for column in model.score(groups)]
    assert model.runner.memory.bytes > 0
    again = [column.values for column in model.score(groups)]
    assert list(chain(*again)) == pytest.approx(list(chain(*first)), abs=2e-2)


def test_budget_is_what_is_free(tiny):
    """The token budget follows from free memory; less of it gives less budget."""
    runner = Runner(load_backbone(tiny, head=False, device="cuda"), Encoder(tiny, system=""), 10**9)
    whole = measured_room(runner).now
    taken = torch.empty(torch.cuda.mem_get_info()[0] // 2, dtype=torch.uint8, device="cuda")
    assert 0.3 * whole < measured_room(runner).now < 0.7 * whole
    del taken
    torch.cuda.empty_cache()


def test_out_of_memory_is_said(classifier):
    """A batch that does not fit raises MemoryError, and the model goes on to serve."""
    model = load(Card(name="g", kind="scalar", path=classifier, system="", device="cuda"))
    small = Group("s", "a question", (Response("an answer"),))
    wanted = model.score([small])[0].values
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**24) / torch.cuda.mem_get_info()[1])
    try:
        with pytest.raises(MemoryError):
            model.score([Group("b", "word " * 99, tuple(Response(f"{k} " * 200) for k in range(256)))])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert model.score([small])[0].values == pytest.approx(wanted, abs=1e-5)
