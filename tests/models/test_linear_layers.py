"""A model of nothing but recurrent layers, whose cache transformers cannot count, is read row by row."""

from rewardhub.models import Card, load
from rewardhub.types import Group, Response
from tests.models import tiny_families


def test_no_attention_at_all(tmp_path, monkeypatch):
    """It loads, and scores are those of a reproducible card."""

    def recurrent(token, size, config=tiny_families.CONFIGS["qwen3_5"]):
        found, images = config(token, size)
        return found | {"text_config": found["text_config"] | {"layer_types": ["linear_attention"] * 4}}, images

    monkeypatch.setitem(tiny_families.CONFIGS, "qwen3_5", recurrent)
    path = tiny_families.build("qwen3_5", tmp_path / "m")
    group = Group("g", "What?", (Response("red"), Response("a blue circle")))
    found, alone = (load(Card(name="m", kind="scalar", path=path, reproducible=each)) for each in (False, True))
    assert found.runner.attention == "rows"
    values = found.score([group])[0].values
    assert max(abs(a - b) for a, b in zip(values, alone.score([group])[0].values, strict=True)) < 1e-5
