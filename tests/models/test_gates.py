"""Gates padded for a GPU give what they gave."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLMLP

from rewardhub.models.gates import PaddedGate, pad_gates


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("width", [8, 13, 3420])
@torch.inference_mode()
def test_padding_changes_nothing(width, bias):
    """The padded part gives what the three layers give, whatever its width, biases included."""
    torch.manual_seed(width)
    part = Qwen2_5_VLMLP(SimpleNamespace(hidden_size=24, intermediate_size=width, hidden_act="silu"), bias)
    states = torch.randn(2, 5, 24)
    padded = PaddedGate(part.gate_proj, part.up_proj, part.down_proj)
    assert len(padded.gate) % 8 == padded.down.shape[1] % 8 == 0
    assert torch.allclose(padded(states), part(states), atol=1e-6)


def test_parts_on_a_cpu_stay():
    """They are packed for the CPU instead."""
    config = SimpleNamespace(hidden_size=8, intermediate_size=8, hidden_act="silu")
    assert pad_gates(nn.Sequential(Qwen2_5_VLMLP(config))) == 0
