"""A long prompt is read in stretches: images in any of them, in prompts and in responses, score as in full rows."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rewardhub.models import Card, cached, load
from rewardhub.types import Group, Media, Response

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)

LONG = "What colour is the circle? " * 6


def picture(seed: int) -> Media:
    pixels = np.random.default_rng(seed).integers(0, 256, (40 + 9 * seed, 56, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Media.from_bytes(buffer.getvalue())


MEDIA = tuple(picture(seed) for seed in range(4))


def parts(*content: int | str) -> tuple[dict, ...]:
    shown = [
        {"type": "image", "media": part} if isinstance(part, int) else {"type": "text", "text": part}
        for part in content
    ]
    return ({"role": "user", "content": shown},)


GROUPS = [
    Group("between", parts(LONG, 0, LONG, 1, "end"), tuple(map(Response, ("red " * 3, "blue", "x " * 40))), media=MEDIA[:2]),
    Group("many", parts(0, 1, 2, 3, LONG), (Response("red"), Response("blue because")), media=MEDIA),
    Group("own", LONG, (Response("a", media=MEDIA[:1]), Response("b"), Response("c " * 50, media=MEDIA[1:2]))),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["gemma3", "qwen3_5", "qwen3_vl", "llava_onevision", "internvl"])
def test_stretches_change_no_score(tmp_path, monkeypatch, kind):
    """With stretches of 24 tokens, on the path of a repeated cache: 1e-5 from full rows.

    Gemma 3's image tokens see one another, and Qwen3-VL adds to them in later layers.
    """
    monkeypatch.setattr(cached, "STRETCH", 24)
    path = tiny_families.build(kind, tmp_path / "checkpoint")
    model = load(Card(name="m", kind="scalar", path=path, system=""))
    model.runner.attention = "cached"
    plain = load(Card(name="m", kind="scalar", path=path, system="", share_prefix=False))
    for group in GROUPS:
        wanted = plain.score([group])[0].values
        assert model.score([group])[0].values == pytest.approx(wanted, abs=1e-5)
    together = [column.values for column in plain.score(GROUPS)]
    for found, wanted in zip(model.score(GROUPS[::-1])[::-1], together, strict=True):
        assert found.values == pytest.approx(wanted, abs=1e-5)


def test_a_repeated_cache_is_within_the_budget(tmp_path, monkeypatch):
    """R8: short answers to a long prompt are read few at a time: each brings the prompt's keys and values along."""
    path = tiny_families.build("gemma2", tmp_path / "checkpoint")
    model = load(Card(name="m", kind="scalar", path=path, system="", token_budget=1000))
    assert model.runner.attention == "cached"
    counts, repeat = [], cached.repeated
    monkeypatch.setattr(cached, "repeated", lambda cache, count: counts.append(count) or repeat(cache, count))
    group = Group("g", LONG * 2, tuple(Response(f"red {number}") for number in range(40)))
    (column,) = model.score([group])
    assert sum(counts) == 40
    longest = max(len(row.encoded) for row in model.rows(group))
    assert max(counts) * longest <= 1000
    monkeypatch.setattr(model.runner, "token_budget", 1_000_000)
    assert model.score([group])[0].values == pytest.approx(column.values, abs=1e-5)
    assert counts[-1] == 40
