"""A tiny vision-language reward model that real workers load."""

import pytest

CARD = 'name = "tiny"\nkind = "scalar"\npath = "{path}"\nsystem = ""\n'


@pytest.fixture(scope="session")
def tiny_card(tmp_path_factory):
    """A tiny reward model with random weights, and its card."""
    import torch

    from rewardhub.models.backbone import load_headless
    from rewardhub.models.checkpoint import save_classifier
    from rewardhub.models.head import new_head
    from rewardhub.models.tiny import build_tiny

    folder = tmp_path_factory.mktemp("model")
    base = build_tiny(folder / "base", seed=1)
    backbone = load_headless(base)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)
    tensors = new_head(backbone.hidden_size, "none", 5).named_tensors()
    save_classifier(backbone.base, tensors, base, folder / "checkpoint")
    path = folder / "tiny.toml"
    path.write_text(CARD.format(path="checkpoint"))
    return path
