"""Similarities equal the cosine of the features that transformers gives for each input alone."""

import io
import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from rewardhub.errors import ConfigError, TooLarge
from rewardhub.models import Card, load
from rewardhub.models.tiny import tiny_tokenizer
from rewardhub.types import Group, Media, Response, Status

TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TEXT | {"image_size": 32, "patch_size": 8}
KINDS = {
    "clip": (CLIPModel, CLIPConfig, CLIPImageProcessorPil, {"projection_dim": 24}),
    "siglip": (SiglipModel, SiglipConfig, SiglipImageProcessorPil, {}),
}


@pytest.fixture(scope="module", params=KINDS)
def dual(request, tmp_path_factory):
    """A tiny dual encoder in the layout of the published ones, its model, and its kind."""
    path = tmp_path_factory.mktemp(request.param)
    model_class, config_class, processor_class, more = KINDS[request.param]
    tokenizer = tiny_tokenizer()
    size = tokenizer.get_vocab_size()
    ids = {"bos_token_id": size, "eos_token_id": size + 1, "pad_token_id": size + 1, "vocab_size": size + 2}
    text = TEXT | ids | {"max_position_embeddings": 40}
    torch.manual_seed(4)
    model = model_class(config_class(text_config=text, vision_config=VISION, **more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    model.save_pretrained(str(path))
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {"size": {"height": 32, "width": 32}, "crop_size": {"height": 32, "width": 32}}
    processor_class(**(settings if request.param == "siglip" else settings | {"size": {"shortest_edge": 32}})
                    ).save_pretrained(str(path))  # fmt: skip
    json.loads((path / "config.json").read_text())
    return path, model, request.param


@pytest.fixture(scope="module")
def cosine(dual):
    """The cosine of two inputs, each text or media, by transformers alone."""
    path, model, kind = dual
    tokenizer, processor = tiny_tokenizer(), KINDS[kind][2].from_pretrained(str(path))

    @torch.no_grad()
    def features(shown):
        if isinstance(shown, Media):
            image = Image.open(io.BytesIO(shown.data)).convert("RGB")
            out = model.get_image_features(processor(images=[image], return_tensors="pt")["pixel_values"])
            return out.pooler_output[0]
        config, ids = model.config.text_config, tokenizer.encode(shown).ids
        ids = [config.bos_token_id, *ids, config.eos_token_id] if kind == "clip" else [*ids, config.eos_token_id]
        if kind == "siglip":
            ids += [config.pad_token_id] * (40 - len(ids))
        return model.get_text_features(torch.tensor([ids])).pooler_output[0]

    return lambda one, two: float(torch.cosine_similarity(features(one), features(two), dim=0))


def test_equals_plain_features(dual, cosine, groups):
    """Text against the prompt's images, images against its text, images against images."""
    one, two = groups[2].media
    model = load(Card(name="s", kind="similarity", path=dual[0]))
    assert model.card.bounds == (-1.0, 1.0)
    texts = ("red", "a blue square", "green")
    column = model.score([Group("t", "x", tuple(map(Response, texts)), media=(one,))])[0]
    assert column.values == pytest.approx([cosine(text, one) for text in texts], abs=1e-5)
    assert len(set(column.values)) == 3
    both = model.score([Group("m", "x", (Response("red"),), media=(one, two))])[0]
    assert both.values == pytest.approx([(cosine("red", one) + cosine("red", two)) / 2], abs=1e-5)
    drawn = Group("i", "a red square", (Response(media=(one,)), Response(media=(two,))))
    assert model.score([drawn])[0].values == pytest.approx([cosine(m, "a red square") for m in (one, two)], abs=1e-5)
    edited = replace(drawn, media=(one,))
    assert model.score([edited])[0].values == pytest.approx([1.0, cosine(one, two)], abs=1e-5)


def test_what_cannot_be_compared_has_a_status(dual, groups):
    """No image, a broken image, a text over the context: a status each, and the neighbours are scored."""
    model = load(Card(name="s", kind="similarity", path=dual[0]))
    media = groups[1].media
    bad = Response(media=(Media.from_bytes(b"no"),))
    column, none = model.score([
        Group("a", "x", (Response("red"), Response("z" * 200), bad), media=media), Group("b", "x", (Response("red"),)),
    ])  # fmt: skip
    assert column.statuses == [Status.OK, Status.OVER_LIMIT, Status.INVALID_INPUT]
    assert none.statuses == [Status.INVALID_INPUT]


def test_checkpoints_that_describe_more_than_they_hold_are_refused(dual, tmp_path):
    """A tensor that is not there is never made up, and a model that the weights cannot fill takes no memory."""
    path, _, _ = dual
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    weights = load_file(copy / "model.safetensors")
    weights.pop(next(name for name in weights if name.endswith("fc1.bias")))
    save_file(weights, copy / "model.safetensors")
    with pytest.raises(ConfigError, match="misses 1 tensors"):
        load(Card(name="m", kind="similarity", path=copy))
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["vocab_size"] = 10**10
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="parameters, the weights are"):
        load(Card(name="m", kind="similarity", path=copy))


def test_a_prompt_or_an_image_that_is_too_large_is_the_callers_fault(dual, groups, monkeypatch):
    """No response is blamed for a prompt over the context, and an image over the limit of pixels harms no neighbour."""
    model = load(Card(name="s", kind="similarity", path=dual[0]))
    drawn = Response(media=groups[1].media)
    prompts = [model.score([Group("a", text, (drawn,))])[0].statuses[0] for text in ("x", "z" * 200)]
    assert prompts == [Status.OK, Status.INVALID_INPUT]

    def decode(data):
        if data == b"huge":
            raise TooLarge("over the limit")
        return Image.open(io.BytesIO(data)).convert("RGB")

    monkeypatch.setattr("rewardhub.models.similarity.decode", decode)
    huge = Response(media=(Media.from_bytes(b"huge"),))
    assert model.score([Group("a", "x", (huge, drawn))])[0].statuses == [Status.INVALID_INPUT, Status.OK]
