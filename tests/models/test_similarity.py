"""Similarities equal the cosine of the features that transformers gives for each input alone."""

import io
import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

from rewardhub.errors import ConfigError
from rewardhub.models import Card, load
from rewardhub.types import Group, Media, Response, Status

TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = TEXT | {"image_size": 32, "patch_size": 8}
MODELS = {
    "clip": (CLIPModel, CLIPConfig, CLIPImageProcessorPil),
    "siglip": (SiglipModel, SiglipConfig, SiglipImageProcessorPil),
}


def clip_tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(f"{each}</w>" for each in alphabet), "re", "red</w>", "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[("r", "e"), ("re", "d</w>")])


def siglip_tokenizer():
    """As converted from T5's: an end, which pads too, and no beginning."""
    tokenizer = Tokenizer(
        models.BPE(tiny_bpe := numbered("<pad>", "</s>", "<unk>", "▁", *LETTERS), [], unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", tiny_bpe["</s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", unk_token="<unk>")


def siglip2_tokenizer():
    """Gemma's, told to end a text, and padding of its own."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = numbered("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *bytes_, "▁", *LETTERS)
    return Siglip2Tokenizer(vocab=vocabulary, merges=[], add_bos_token=False, add_eos_token=True, padding_side="right")


def numbered(*pieces):
    return {piece: index for index, piece in enumerate(pieces)}


LETTERS = "abcdefghijklmnopqrstuvwxyz"
LAYOUTS = {
    # What the published configurations say of ids is not what the tokenizers write.
    "clip": ("clip", clip_tokenizer, {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}),
    "siglip": ("siglip", siglip_tokenizer, {}),
    "siglip2": ("siglip", siglip2_tokenizer, {}),
}


@pytest.fixture(scope="module", params=LAYOUTS)
def dual(request, tmp_path_factory):
    """A tiny dual encoder in the layout of the published ones, and its kind."""
    path = tmp_path_factory.mktemp(request.param)
    kind, make, ids = LAYOUTS[request.param]
    model_class, config_class, processor_class = MODELS[kind]
    tokenizer = make()
    text = TEXT | {"max_position_embeddings": 40, "vocab_size": len(tokenizer)}
    config = config_class(text_config=text | ids, vision_config=VISION, **({"projection_dim": 24} if ids else {}))
    torch.manual_seed(4)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4.0)
    model.save_pretrained(str(path))
    written = json.loads((path / "config.json").read_text())
    for name in ("bos_token_id", "eos_token_id", "pad_token_id") if not ids else ():
        written["text_config"].pop(name, None)
    (path / "config.json").write_text(json.dumps(written))
    tokenizer.save_pretrained(str(path))
    settings = {"size": {"height": 32, "width": 32}, "crop_size": {"height": 32, "width": 32}}
    processor_class(**(settings if kind == "siglip" else settings | {"size": {"shortest_edge": 32}})
                    ).save_pretrained(str(path))  # fmt: skip
    return path, kind, type(tokenizer)


@pytest.fixture(scope="module")
def cosine(dual):
    """The cosine of two inputs, each text or media, by transformers' own tokenizer, processor and model."""
    path, kind, tokenizer_class = dual
    tokenizer, processor = tokenizer_class.from_pretrained(str(path)), MODELS[kind][2].from_pretrained(str(path))
    model = MODELS[kind][0].from_pretrained(str(path)).eval()
    padded = {"padding": "max_length", "max_length": 40} if kind == "siglip" else {}

    @torch.no_grad()
    def features(shown):
        if isinstance(shown, Media):
            image = Image.open(io.BytesIO(shown.data)).convert("RGB")
            out = model.get_image_features(processor(images=[image], return_tensors="pt")["pixel_values"])
            return out.pooler_output[0]
        ids = tokenizer(shown, return_tensors="pt", **padded)["input_ids"]
        return model.get_text_features(ids).pooler_output[0]

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


def test_an_image_that_spells_the_prompt(dual, groups):
    """Bytes that are no image are an error, though they are those of a text that was read before."""
    model = load(Card(name="s", kind="similarity", path=dual[0]))
    forged = [Response(media=(Media.from_bytes(lead + b"a red square"),)) for lead in (b"text ", b"")]
    drawn = Group("i", "a red square", (Response(media=(groups[2].media[0],)), *forged))
    column = model.score([drawn])[0]
    assert column.statuses == [Status.OK, Status.INVALID_INPUT, Status.INVALID_INPUT]


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
    path = dual[0]
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


def test_a_prompt_or_an_image_that_is_too_large_is_the_callers_fault(dual, groups):
    """No response is blamed for a prompt over the context, and an image over the limit of pixels harms no neighbour."""
    model = load(Card(name="s", kind="similarity", path=dual[0]))
    drawn = Response(media=groups[1].media)
    prompts = [model.score([Group("a", text, (drawn,))])[0].statuses[0] for text in ("x", "z" * 200)]
    assert prompts == [Status.OK, Status.INVALID_INPUT]
    png = drawn.media[0].data
    huge = Response(media=(Media.from_bytes(png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:]),))
    assert model.score([Group("a", "x", (huge, drawn))])[0].statuses == [Status.INVALID_INPUT, Status.OK]


def test_a_tokenizer_without_an_end_is_refused(dual, tmp_path):
    """An id that no tokenizer names is never guessed; more ids than embeddings are refused at load too."""
    copy = shutil.copytree(dual[0], tmp_path / "copy")
    tokenizer = json.loads((copy / "tokenizer.json").read_text()) | {"post_processor": None}
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert load(Card(name="s", kind="similarity", path=copy)).behind == [
        load(Card(name="s", kind="similarity", path=dual[0])).behind[0]
    ]
    (copy / "tokenizer_config.json").unlink()
    with pytest.raises(ConfigError, match="eos_token"):
        load(Card(name="s", kind="similarity", path=copy))
    tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"content": "<more>", "special": False})
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ConfigError, match="embeddings"):
        load(Card(name="s", kind="similarity", path=copy))
