"""A tiny checkpoint with a reward head, and groups to score with it."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from rewardhub.models import Card, load
from rewardhub.models.backbone import load_headless
from rewardhub.models.checkpoint import save_classifier
from rewardhub.models.colours import COLOURS, answer, colour_items
from rewardhub.models.head import new_head
from rewardhub.models.model import RewardModel
from rewardhub.models.tiny import build_tiny
from rewardhub.types import Group, Response


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_digest_memory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path_factory.getbasetemp() / "cache"
    cache.mkdir(exist_ok=True)  # torch, which keeps kernels there, does not make it
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("tiny"), seed=3)


@pytest.fixture(scope="session")
def classifier(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint as a scalar reward model with random weights, scaled so that scores differ."""
    path = tmp_path_factory.mktemp("classifier")
    backbone = load_headless(tiny)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)
    save_classifier(backbone.base, new_head(backbone.hidden_size, "none", 5).named_tensors(), tiny, path)
    return path


@pytest.fixture(scope="session")
def scalar(classifier: Path) -> Callable[..., RewardModel]:
    def make(**fields: Any) -> RewardModel:
        return load(Card(**{"name": "tiny", "kind": "scalar", "path": classifier, "system": ""} | fields))

    return make


@pytest.fixture(scope="session")
def groups() -> list[Group]:
    """Groups of different sizes, with one image, two images or none, and responses of mixed length."""
    items = list(islice(colour_items(11), 6))
    names = list(COLOURS)
    found = []
    for index, item in enumerate(items):
        media = (item.media, items[0].media)[: index % 3]
        texts = [answer(names[(index + k) % 8]) + " because" * (3 * k) for k in range(1 + 2 * (index % 3))]
        prompt = item.question + " Look closely." * index
        found.append(Group(str(index), prompt, tuple(map(Response, texts)), media=media))
    return found
