"""Every supported family: scores are those of a plain unbatched fp32 forward of transformers, images included."""

import importlib.util
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, PreTrainedTokenizerFast

from rewardhub.models import Card, load
from rewardhub.models.families import FAMILIES
from rewardhub.models.inputs import Encoded
from rewardhub.types import Group, Media, Response, Status

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)

CHATML = "<|im_start|>user\n{image}{prompt}<|im_end|>\n", "<|im_start|>assistant\n{text}<|im_end|>\n"
THINKING = CHATML[0], "<|im_start|>assistant\n<think>\n\n</think>\n\n{text}<|im_end|>\n"
GEMMA = "<bos><start_of_turn>user\n{image}{prompt}<end_of_turn>\n", "<start_of_turn>model\n{text}<end_of_turn>\n"
LLAMA = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{prompt}<|eot_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n{text}<|eot_id|>",
)
MISTRAL = "<s> [INST] {prompt}", " [/INST] {text}</s>"
SMOL = "{begin}User:{image}{prompt}<end_of_utterance>\n", "Assistant: {text}<end_of_utterance>\n"
TURNS = {kind: CHATML for kind in FAMILIES} | {
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3_text"), GEMMA), "llama": LLAMA, "smolvlm": SMOL,
    "idefics3": SMOL, **dict.fromkeys(("qwen3", "qwen3_moe", "qwen3_5"), THINKING),
    **dict.fromkeys(("mistral", "mixtral"), MISTRAL),
}  # fmt: skip
BEGIN = {"smolvlm": "<|im_start|>", "idefics3": "<|begin_of_text|>"}
PATHS = dict.fromkeys(FAMILIES, "packed") | dict.fromkeys(("qwen3_5", "gemma2", "gemma3", "gemma3_text"), "cached")


class Plain:
    """The family in transformers alone, one string at a time, with its own image processor."""

    def __init__(self, kind, path):
        self.kind, self.path = kind, path
        self.model = AutoModel.from_pretrained(str(path), dtype=torch.float32).eval()
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
        self.head = load_file(path / "value_head.safetensors")

    def images(self, pictures):
        """What the model's forward takes, and what stands in the text for each picture."""
        processor = AutoImageProcessor.from_pretrained(str(self.path), backend="pil")
        kind = self.kind
        if kind.startswith("qwen"):
            out = processor(images=pictures, return_tensors="pt")
            holes = [f"<|vision_start|>{'<|image_pad|>' * int(n)}<|vision_end|>"
                     for n in out["image_grid_thw"].prod(-1) // 4]  # fmt: skip
            return {name: out[name] for name in ("pixel_values", "image_grid_thw")}, holes
        if kind == "internvl":
            out = processor(images=pictures, crop_to_patches=True, return_tensors="pt")
            holes = [f"<img>{'<IMG_CONTEXT>' * 4 * int(n)}</img>\n" for n in out["num_patches"]]
            return {"pixel_values": out["pixel_values"]}, holes
        if kind == "gemma3":
            out = processor(images=pictures, return_tensors="pt")
            hole = f"\n\n<start_of_image>{'<image_soft_token>' * 4}<end_of_image>\n\n"
            return {"pixel_values": out["pixel_values"]}, [hole] * len(pictures)
        if kind == "llava_onevision":
            # 56 x 56 pixels: the whole image of 4 tokens, and a grid of 4 x 4 with a newline behind each row.
            out = processor(images=pictures, return_tensors="pt")
            return {name: out[name] for name in ("pixel_values", "image_sizes")}, [f"{'<image>' * 24}\n"] * len(
                pictures
            )
        out = processor(images=[pictures], return_tensors="pt")
        fake = "<fake_token_around_image>"
        rows = "".join("".join(f"{fake}<row_{r}_col_{c}><image>" for c in (1, 2)) + "\n" for r in (1, 2))
        return {name: out[name] for name in ("pixel_values", "pixel_attention_mask") if name in out}, [
            f"{rows}\n{fake}<global-img><image>{fake}"
        ] * len(pictures)

    @torch.no_grad()
    def score(self, group, response):
        pictures = [Image.open(io.BytesIO(media.data)).convert("RGB") for media in group.media]
        more, holes = self.images(pictures) if pictures else ({}, [])
        before, behind = TURNS[self.kind]
        image = "".join(holes) or (" " if self.kind in BEGIN else "")
        trimmed = TURNS[self.kind] in {GEMMA, LLAMA} or self.kind == "qwen3_5"
        prompt, answer = (each.strip() if trimmed else each for each in (group.prompt, response.text))
        text = before.format(begin=BEGIN.get(self.kind, ""), image=image, prompt=prompt) + behind.format(text=answer)
        ids = self.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        if self.kind.startswith("qwen") and FAMILIES[self.kind].image:
            more["mm_token_type_ids"] = (ids == self.tokenizer.convert_tokens_to_ids("<|image_pad|>")).long()
        if self.kind == "gemma3":
            more["token_type_ids"] = (ids == self.tokenizer.convert_tokens_to_ids("<image_soft_token>")).long()
        state = self.model(input_ids=ids, **more).last_hidden_state[0, -1]
        return float(self.head["v_head.summary.weight"][0] @ state + self.head["v_head.summary.bias"][0])


@pytest.fixture(scope="module", params=sorted(tiny_families.CONFIGS))
def family(request, tmp_path_factory):
    path = tiny_families.build(request.param, tmp_path_factory.mktemp("family") / "checkpoint")
    return request.param, Plain(request.param, path), load(Card(name="m", kind="scalar", path=path, system=""))


def shown(kind, groups):
    """The groups with at most one image each, or none for a model of text."""
    most = 1 if FAMILIES[kind].image else 0
    return [replace(group, media=group.media[:most]) for group in groups]


def test_scores_are_those_of_a_plain_forward(family, groups):
    """In whole groups, one by one, shuffled and among strangers; on the path that is expected of the family."""
    kind, plain, model = family
    groups = shown(kind, groups)
    assert model.runner.attention == PATHS[kind]
    wanted = [[plain.score(group, response) for response in group.responses] for group in groups]
    assert torch.tensor([value for row in wanted for value in row]).std() > 1e-2
    for values, column in zip(wanted, model.score(groups), strict=True):
        assert column.values == pytest.approx(values, abs=1e-5)
    for values, group in zip(wanted, groups, strict=True):
        assert model.score([group])[0].values == pytest.approx(values, abs=1e-5)
        alone = [model.score([replace(group, responses=(each,))])[0].values[0] for each in group.responses]
        assert alone == pytest.approx(values, abs=1e-5)
        turned = replace(group, responses=group.responses[::-1])
        assert model.score([*groups, turned])[-1].values == pytest.approx(values[::-1], abs=1e-5)


def test_longer_than_the_window(family):
    """A prompt of hundreds of tokens, far over a sliding window of 24."""
    kind, plain, model = family
    group = Group("0", "What colour is the circle? " * 30, tuple(Response("red " * n) for n in (1, 40, 7)))
    wanted = [plain.score(group, response) for response in group.responses]
    assert model.score([group])[0].values == pytest.approx(wanted, abs=1e-5)


def test_text_cannot_spell_control_tokens(family, groups):
    """A response that spells the family's control tokens and placeholders is text: it gets a score of its own."""
    kind, _, model = family
    group = replace(shown(kind, groups)[1], responses=(Response("red"),))
    ids = {model.loaded.encoder.tokenizer.control(token) for token in FAMILIES[kind].tokens}
    for token in FAMILIES[kind].tokens:
        spelt = replace(group, responses=(Response(f"red{token}"), Response("red")))
        rows = [model.loaded.encoder.answer(response) for response in spelt.responses]
        assert sum(int(each) in ids for each in rows[0].ids) == sum(int(each) in ids for each in rows[1].ids)
        scores = model.score([spelt])[0]
        assert scores.statuses == [Status.OK, Status.OK]
        assert scores.values[1] == pytest.approx(model.score([group])[0].values[0], abs=1e-5)


def test_models_of_text_take_no_images(family, groups):
    """An image sent to a model of text is the caller's mistake."""
    kind, _, model = family
    (status,) = set(model.score([groups[1]])[0].statuses)
    assert status is (Status.OK if FAMILIES[kind].image else Status.INVALID_INPUT)


def test_a_video_is_its_frames(family, groups):
    """The frames of a video score as the same images in the same order."""
    kind, _, model = family
    if not FAMILIES[kind].image:
        return
    first, second = groups[2].media
    video = Media(kind="video", frames=(first.sha256, second.sha256), frame_data=(first.data, second.data))
    group = replace(groups[2], media=(first, second))
    frames = replace(group, media=(video,))
    assert model.score([frames])[0].values == pytest.approx(model.score([group])[0].values, abs=1e-5)


def test_replies_are_the_likeliest_tokens(family, groups):
    """A generative card of any family writes, behind images too, what full passes of the same model say is likeliest."""
    kind, plain, _ = family
    model = load(Card(name="g", kind="generative", path=plain.path, system="", max_reply_tokens=5))
    for group in shown(kind, groups)[:2]:
        asked = replace(group, responses=(Response(),), media=group.media)
        score = model.score([asked])[0].row(0)
        assert score.status is Status.OK, score.details
        encoder, backbone = model.loaded.encoder, model.loaded.backbone
        row, written = encoder.encode(group.prompt, group.media), []
        while len(written) < 5:
            with torch.inference_mode():
                logits = backbone.logits(backbone.hidden(encoder.collate([row]).to(backbone.device))[0, -1])
                logits[model.writer.forbidden] = -torch.inf
            if int(logits.argmax()) == model.writer.end_id:
                break
            written.append(int(logits.argmax()))
            row = row + Encoded(np.array(written[-1:]), np.zeros((3, 1), np.int64), (), (), 1)
        assert score.details["text"] == encoder.tokenizer.decode(written)
        assert score.details["finish"] == ("length" if len(written) == 5 else "stop")


def test_steps_among_space(family):
    """A process model reads each step where it ends, in a family that trims what is said as well."""
    kind, plain, _ = family
    trims = FAMILIES[kind].style.trimmed
    texts = ("  \n\n one\n\ntwo  \n\n ", "one\n\ntwo", " \n one")
    model = load(Card(name="p", kind="process", path=plain.path, system=""))
    group = Group("g", "What?", tuple(map(Response, texts)))
    tokenizer = model.loaded.encoder.tokenizer
    for text, row in zip(texts, model.rows(group), strict=True):
        start = len(model.loaded.encoder.prefix(group.prompt))
        shown = [tokenizer.decode(row.encoded.ids[start : place + 1]) for place in row.places]
        ends = [text[: text.index(step) + len(step)] for step in ("one", "two  ", "two") if step in text][:2]
        assert len(shown) == len(ends)
        for found, end in zip(shown, ends, strict=True):
            assert found.endswith(end.strip() if trims else end)


@pytest.mark.parametrize("kind", ["mistral", "mixtral", "qwen3_moe"])
def test_a_window_that_no_sample_reaches(tmp_path, kind, monkeypatch):
    """Mistral's first models see 4,096 tokens in every layer: the rows that are tried at load are shorter."""
    made = tiny_families.CONFIGS[kind]

    def windowed(token, size):
        config, images = made(token, size)
        return config | {"sliding_window": 150, "use_sliding_window": True}, images

    monkeypatch.setitem(tiny_families.CONFIGS, kind, windowed)
    path = tiny_families.build(kind, tmp_path / "m")
    plain, model = Plain(kind, path), load(Card(name="m", kind="scalar", path=path, system=""))
    assert plain.model.config.sliding_window == 150
    group = Group("0", "What colour is the circle? " * 40, tuple(Response("red " * n) for n in (1, 40, 7)))
    wanted = [plain.score(group, response) for response in group.responses]
    assert model.score([group])[0].values == pytest.approx(wanted, abs=1e-5)
    assert model.runner.attention == "cached"


def test_positions_that_depend_on_the_length_are_not_the_companys(tmp_path):
    """LongRoPE turns a whole batch by its longest row: each row is read by itself, short ones by the short factors."""
    path = tiny_families.build("llama", tmp_path / "long")
    config = json.loads((path / "config.json").read_text())
    config["rope_parameters"] = {
        "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8,
        "original_max_position_embeddings": 64, "factor": 4.0,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config))
    model = load(Card(name="long", kind="scalar", path=path))
    short, long = Group("a", "x", (Response("red"),)), Group("b", "x", (Response("z" * 200),))
    alone = [model.score([group])[0].values[0] for group in (short, long)]
    together = [column.values[0] for column in model.score([short, long])]
    assert together == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("original", [{"original_max_position_embeddings": 128}, {}])
def test_stretched_positions_are_longer_than_their_configuration_says(tmp_path, original):
    """With YaRN by a factor of 4, as Qwen's repositories tell to add it, four times as long rows are scored."""
    path = tiny_families.build("qwen2", tmp_path / "checkpoint")
    config = json.loads((path / "config.json").read_text())
    del config["rope_parameters"]
    scaling = {"type": "yarn", "factor": 4.0, **original}
    config |= {"max_position_embeddings": 128, "rope_theta": 1e4, "rope_scaling": scaling, "torch_dtype": "float32"}
    (path / "config.json").write_text(json.dumps(config))
    model = load(Card(name="y", kind="scalar", path=path, system=""))
    assert model.loaded.max_tokens == 512
    group = Group("g", "word " * 90, (Response("red"), Response("z " * 300)))
    (column,) = model.score([group])
    assert column.statuses == [Status.OK, Status.OVER_LIMIT]
    row = model.encoder.encode(group.prompt, (), group.responses[0])
    assert len(row) > 256
    plain = AutoModel.from_pretrained(str(path), dtype=torch.float32).eval()
    with torch.inference_mode():
        state = plain(input_ids=torch.from_numpy(row.ids)[None]).last_hidden_state[:, -1]
    assert column.values[0] == pytest.approx(float(model.loaded.backbone.head(state)), abs=1e-5)
