"""Packed layers give what the layers they stand for give."""

import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from rewardhub.models.linear import PackedGate, PackedLinear, PackedPatches, pack_linears, rounded


class Gated(nn.Module):
    """The feed-forward part as transformers writes it."""

    def __init__(self, act: str, bias: bool) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(24, 40, bias=bias), nn.Linear(24, 40, bias=bias)
        self.down_proj, self.act_fn = nn.Linear(40, 24, bias=bias), ACT2FN[act]

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


def test_few_numbers_of_rows():
    """Products are asked for few numbers of rows, that few are compiled, and rows are padded by little."""
    counts = [rounded(rows) for rows in range(1, 4097)]
    assert all(0 <= count - rows <= max(7, rows / 16) for rows, count in enumerate(counts, 1))
    assert len(set(counts)) == 112
    assert [rounded(count) for count in counts] == counts


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 7, 24), (5, 24), (3, 1, 24), (0, 24), (1, 0, 24)])
@torch.inference_mode()
def test_linear_layers(shape, bias):
    """Any number of rows, none included, with and without bias."""
    layer, inputs = nn.Linear(24, 10, bias=bias), torch.randn(shape)
    packed = PackedLinear(layer.weight, layer.bias)(inputs)
    assert packed.shape == (*shape[:-1], 10)
    assert torch.allclose(packed, layer(inputs), atol=1e-6)


@pytest.mark.parametrize(("act", "kind"), [("silu", PackedGate), ("gelu_pytorch_tanh", Gated)])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_gates(act, kind, bias):
    """SiLU gates become one module; others keep their own with packed layers inside."""
    model = nn.Sequential(Gated(act, bias))
    inputs = torch.randn(2, 9, 24)
    wanted = model(inputs)
    assert pack_linears(model) == 3
    assert type(model[0]) is kind
    assert torch.allclose(model(inputs), wanted, atol=1e-6)
    assert torch.allclose(model(inputs[:, :0]), wanted[:, :0])
    assert not [each for each in model.modules() if type(each) is nn.Linear]


@torch.inference_mode()
def test_patch_convolutions():
    """A kernel over whole patches is one product per patch; other inputs take the convolution."""
    model = nn.Sequential(nn.Conv3d(3, 8, (2, 4, 4), stride=(2, 4, 4)))
    patches, picture = torch.randn(6, 3, 2, 4, 4), torch.randn(1, 3, 2, 8, 8)
    wanted, whole = model(patches), model(picture)
    assert pack_linears(model) == 1
    assert isinstance(model[0], PackedPatches)
    assert torch.allclose(model(patches), wanted, atol=1e-5)
    assert torch.equal(model(picture), whole)


@torch.inference_mode()
def test_other_types_are_left_alone():
    """Only the types that oneDNN multiplies are packed; bf16 gives what bf16 gives."""
    halves = nn.Sequential(nn.Linear(4, 4)).half()
    assert pack_linears(halves) == 0
    brain = nn.Sequential(nn.Linear(64, 64)).bfloat16()
    inputs = torch.randn(5, 64).bfloat16()
    wanted = brain(inputs)
    assert pack_linears(brain) == 1
    assert torch.allclose(brain(inputs).float(), wanted.float(), atol=2e-2)
