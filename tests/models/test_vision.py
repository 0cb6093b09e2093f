"""Span attention in vision encoders gives what transformers' own gives."""

import importlib.util
from pathlib import Path

import pytest
import torch

from rewardhub.models.backbone import load_backbone
from rewardhub.models.inputs import Encoder
from rewardhub.models.replay import replay_vision
from rewardhub.models.vision import join_spans

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl", "qwen3_5"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_image_features_stay_the_same(kind, dtype, tiny, tmp_path, groups):
    """Images of unlike sizes, whose windows at the edges are smaller, in one call and one by one."""
    path = tiny if kind == "qwen2_5_vl" else tiny_families.build(kind, tmp_path / kind)
    backbone, encoder = load_backbone(path, head=False, dtype=dtype), Encoder(path, system="")
    shown = [patches for group in groups for media in group.media for patches in encoder.patches(media)]

    def features(images):
        return torch.cat(encoder.reader.features(backbone.base, images, torch.device("cpu"), backbone.dtype)).float()

    with torch.inference_mode():
        wanted = features(shown)
        assert join_spans(backbone.base) == 2
        assert replay_vision(backbone.base) == 1
        together, apart = features(shown), torch.cat([features([image]) for image in shown])
    near = 1e-5 if dtype == "float32" else 2e-2
    assert (together - wanted).abs().max() <= near * wanted.abs().max()
    assert (apart - wanted).abs().max() <= near * wanted.abs().max()
