"""Models of text behind the real vLLM: the same scores as our own backend, bounds on logits included."""

import json

import pytest
from safetensors.torch import load_file, save_file

from rewardhub.errors import ConfigError
from rewardhub.models import Card, load
from rewardhub.models.colours import COLOURS
from rewardhub.types import Group, Response
from tests.models import tiny_families
from tests.models.test_vllm import WIDTH, alike, behind, drawn, served, vllm_python, with_head

__all__ = ["vllm_python"]

GROUPS = [
    Group(f"{number}", f"Which is it? {colour} " * (1 + 8 * (number % 2)), tuple(map(Response, ("red", "a </s> b", "so " * 9))))
    for number, colour in enumerate(list(COLOURS)[:4])
]  # fmt: skip


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Makes a tiny checkpoint of heads that vLLM's kernels for CPUs take."""
    for name, value in {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}.items():
        monkeypatch.setitem(tiny_families.TEXT, name, value)

    def build(kind, **config):
        path = tiny_families.build(kind, tmp_path / kind)
        (path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        (path / "config.json").write_text(json.dumps(json.loads((path / "config.json").read_text()) | config))
        return path

    return build


class TestServed:
    """Each family behind the real vLLM."""

    pytestmark = served

    @pytest.mark.parametrize("kind", ["gemma2", "mistral", "mixtral", "qwen3_moe"])
    def test_a_head(self, vllm_python, built, kind):
        """A reward head behind windows, bounded attention, experts."""
        path = with_head(built(kind), score__weight=drawn(1, WIDTH, seed=4))
        (path / "value_head.safetensors").rename(path / "head.safetensors")
        if kind == "mistral":  # Its repositories hold the weights in Mistral's own form too, which nothing reads.
            save_file({"norm.weight": drawn(WIDTH)}, path / "consolidated.safetensors")
            named = dict.fromkeys(load_file(path / "model.safetensors"), "model.safetensors")
            (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))
        with behind(vllm_python, Card(name="m", kind="scalar", path=path)) as ((model, ours),):
            alike(model, ours, GROUPS)

    def test_replies_of_a_bounded_head(self, vllm_python, built):
        """Yes against no by a language head that bounds its logits: the plugin's rows of it do not by themselves."""
        path = built("gemma2", final_logit_softcapping=0.5)
        (path / "value_head.safetensors").unlink()
        fields = {"name": "m", "path": path, "choices": ("red", "blue")}
        with behind(vllm_python, Card(kind="yes_no", **fields), Card(kind="pairwise", **fields)) as pairs:
            for model, ours in pairs:
                alike(model, ours, GROUPS, 1e-3)


def test_a_bound_that_vllm_does_not_keep_is_refused(built):
    """vLLM's Gemma 3 bounds no logits of attention: such a checkpoint would have other scores there."""
    path = built("gemma3_text", attn_logit_softcapping=5.0)
    card = {"name": "m", "kind": "scalar", "path": path, "backend": "vllm", "vllm": {"url": "http://127.0.0.1:9"}}
    with pytest.raises(ConfigError, match="keeps no attn_logit_softcapping"):
        load(Card(**card))
