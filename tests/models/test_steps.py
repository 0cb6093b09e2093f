"""Steps of a response are read where they end, whatever the tokenizer, the family and the text."""

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, processors

from rewardhub.models import Card, load
from rewardhub.models.tiny import build_tiny
from rewardhub.types import Group, Response


@pytest.fixture
def path(tmp_path):
    folder = build_tiny(tmp_path / "checkpoint", seed=3)
    weight = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    save_file({"score.weight": weight}, folder / "value_head.safetensors")
    return folder


def steps_of(path, response):
    model = load(Card(name="steps", kind="process", path=path, system=""))
    return model.score([Group("g", "What colour?", (response,))])[0].steps[0]


def test_a_step_that_ends_with_space(path):
    """The token of a step's last space is read, whatever the tokenizer says that its words are."""
    response = Response("It is red.  \n\nSo red. ")
    wanted = steps_of(path, response)
    trimming = Tokenizer.from_file(str(path / "tokenizer.json"))
    trimming.post_processor = processors.ByteLevel(trim_offsets=True)
    trimming.save(str(path / "tokenizer.json"))
    assert len(wanted) == 2
    assert steps_of(path, response) == wanted
