"""The fast norm gives what the norm it stands for gives."""

import pytest
import torch
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from rewardhub.models.norms import FastNorm, replace_norms


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_norms(dtype):
    """An RMS norm becomes the fast one with the same result; one that adds 1 to its weight stays as it is."""
    model = nn.Sequential(Qwen2RMSNorm(24, eps=1e-5)).to(dtype)
    model[0].weight.copy_(torch.linspace(0.5, 2, 24))
    inputs = (torch.randn(2, 9, 24) * 30).to(dtype)
    inputs[0, 0] = 0
    wanted = model(inputs)
    assert replace_norms(model) == 1
    assert type(model[0]) is FastNorm
    assert torch.allclose(model(inputs).float(), wanted.float(), rtol=1e-5 if dtype == torch.float32 else 1e-2)
    shifted = Gemma3RMSNorm(24)
    shifted.variance_epsilon = shifted.eps
    other = nn.Sequential(shifted)
    assert replace_norms(other) == 0
    assert other[0] is shifted
