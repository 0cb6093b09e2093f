"""bf16 on the path that shares beginnings, against fp32 in full rows, for every family."""

import importlib.util
from itertools import islice
from pathlib import Path

import pytest
import torch

from rewardhub.models import Card, load
from rewardhub.models.colours import COLOURS, answer, colour_items
from rewardhub.models.families import FAMILIES
from rewardhub.types import Group, Response

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)

SEEDS = {"qwen3_5": 2, "gemma": 3, "mixtral": 6}
"""Random weights whose scores spread: where all responses score alike, any rounding is large beside the spread."""


def asked(images: bool) -> list[Group]:
    """26 prompts, most of them with an image, and eight responses of mixed length to each: 208 rows."""
    return [
        Group(
            str(number), item.question + " Look." * (number % 5),
            tuple(Response(answer(name) + " so" * (k * (1 + number % 3))) for k, name in enumerate(COLOURS)),
            media=(item.media,) if images and number % 3 else (),
        )
        for number, item in enumerate(islice(colour_items(3), 26))
    ]  # fmt: skip


@pytest.mark.parametrize("kind", sorted(tiny_families.CONFIGS))
def test_scores_and_order_survive(tmp_path, kind):
    """Within 4 % of the scores' deviation, and 99 % of pairs that differ by over 5 % of it keep their order.

    Sharing adds nothing to what bf16 costs: full rows in bf16 are as far away.
    """
    path = tiny_families.build(kind, tmp_path / "checkpoint", SEEDS.get(kind, 0))
    groups = asked(bool(FAMILIES[kind].image))

    def scores(**fields: object) -> torch.Tensor:
        model = load(Card(name="m", kind="scalar", path=path, system="", **fields))
        assert model.runner.attention != "rows" or not fields.get("share_prefix", True)
        return torch.tensor([column.values for column in model.score(groups)])

    exact, brief = scores(share_prefix=False), scores(dtype="bfloat16")
    whole = scores(dtype="bfloat16", share_prefix=False)
    deviation = exact.std()
    apart = (exact - brief).abs().mean()
    assert exact.numel() >= 200
    assert deviation > 0.3
    assert apart <= 0.04 * deviation
    assert apart <= 1.25 * (exact - whole).abs().mean()
    gaps, kept = exact.unsqueeze(2) - exact.unsqueeze(1), brief.unsqueeze(2) - brief.unsqueeze(1)
    clear = gaps.abs() > 0.05 * deviation
    assert ((gaps.sign() == kept.sign()) & clear).sum() >= 0.99 * clear.sum()


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_deep_model_loses_half_of_what_its_rows_lose(tmp_path, monkeypatch, kind):
    """The packed path sums in fp32: behind 24 layers its bf16 scores spread around the exact ones at most 0.65 times as
    far as those of full rows (0.48 and 0.50 when this was written).
    """
    monkeypatch.setitem(tiny_families.TEXT, "num_hidden_layers", 24)
    path = tiny_families.build(kind, tmp_path / "checkpoint")
    groups = asked(images=False)

    def scores(**fields: object) -> torch.Tensor:
        model = load(Card(name="m", kind="scalar", path=path, system="", **fields))
        return torch.tensor([column.values for column in model.score(groups)])

    exact = scores(share_prefix=False)
    ours, rows = scores(dtype="bfloat16"), scores(dtype="bfloat16", share_prefix=False)
    assert (ours - exact).std() <= 0.65 * (rows - exact).std()


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_company_chooses_no_other_experts(tmp_path, monkeypatch, kind):
    """Rounding follows a batch's shape, and flips choices of experts: each response of such a model is read by itself.

    In batches of any kind scores moved by up to their deviation (seeds 0 to 2), fp32 choices or not.
    """
    monkeypatch.setitem(tiny_families.TEXT, "num_hidden_layers", 6)
    path = tiny_families.build(kind, tmp_path / "checkpoint")
    model = load(Card(name="m", kind="scalar", path=path, system="", dtype="bfloat16"))
    groups = asked(images=False)[:6]
    together = [column.values for column in model.score(groups)]
    for group, values in zip(groups, together, strict=True):
        alone = [Group("", group.prompt, (response,)) for response in group.responses]
        assert [model.score([each])[0].values[0] for each in alone] == values
