"""LLaVA-OneVision shows one image in tiles and several whole; which it is, the whole conversation decides."""

import importlib.util
import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, PreTrainedTokenizerFast

from rewardhub.models import Card, load
from rewardhub.types import Group, Media, Response, Status

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)

SIZES = ((56, 56), (90, 40), (31, 87))
WHOLE = "<image>" * 5 + "\n"
"""Four tokens and the one behind them."""


def picture(seed, size):
    pixels = torch.randint(0, 255, (size[1], size[0], 3), generator=torch.Generator().manual_seed(seed))
    buffer = io.BytesIO()
    Image.fromarray(pixels.to(torch.uint8).numpy()).save(buffer, format="PNG")
    return Media.from_bytes(buffer.getvalue())


MEDIA = [picture(seed, size) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tiny_families.build("llava_onevision", tmp_path_factory.mktemp("several") / "checkpoint")


@pytest.fixture(scope="module")
def plain(path):
    """The state [H] at the end of a rendered conversation with several images, by transformers alone."""
    model = AutoModel.from_pretrained(str(path), dtype=torch.float32).eval()
    processor = AutoImageProcessor.from_pretrained(str(path), backend="pil")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    head = load_file(path / "value_head.safetensors")

    @torch.no_grad()
    def score(text, media):
        images = [Image.open(io.BytesIO(each.data)).convert("RGB") for each in media]
        shown = processor(images=[images], return_tensors="pt")
        assert shown["batch_num_images"].tolist() == [len(media)]
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        state = model(input_ids=ids, **shown).last_hidden_state[0, -1]
        return float(head["v_head.summary.weight"][0] @ state + head["v_head.summary.bias"][0])

    return score


def asked(images, answer):
    return f"<|im_start|>user\n{images}What?<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"


@pytest.fixture(scope="module")
def model(path):
    return load(Card(name="m", kind="scalar", path=path, system=""))


@pytest.mark.parametrize("count", [2, 3])
def test_several_images_are_shown_whole(model, plain, count):
    """The scores are those of transformers with its processor's own layout, and a video's are those of its frames."""
    group = Group("g", "What?", (Response("red"), Response("blue because")), media=tuple(MEDIA[:count]))
    wanted = [plain(asked(WHOLE * count, each.text), group.media) for each in group.responses]
    assert model.score([group])[0].values == pytest.approx(wanted, abs=1e-5)
    frames = tuple(each.sha256 for each in group.media)
    video = Media(kind="video", frames=frames, frame_data=tuple(each.data for each in group.media))
    assert model.score([replace(group, media=(video,))])[0].values == pytest.approx(wanted, abs=1e-5)


def test_a_responses_image_changes_its_own_prompt_only(model, plain):
    """Beside a response that brings an image the prompt's image is shown whole; for its neighbours, in tiles."""
    prompt = MEDIA[1]
    brings = Response("red", media=(MEDIA[2],))
    group = Group("g", "What?", (Response("red"), brings, Response("blue")), media=(prompt,))
    alone = model.score([replace(group, responses=(group.responses[0], group.responses[2]))])[0].values
    for _ in range(2):
        column = model.score([group])[0]
        wanted = plain(asked(WHOLE, f"{WHOLE}red"), [prompt, MEDIA[2]])
        assert column.values == pytest.approx([alone[0], wanted, alone[1]], abs=1e-5)
    broken = replace(group, responses=(Response("red"), Response("x", media=(Media.from_bytes(b"no"),))))
    column = model.score([broken])[0]
    assert column.statuses == [Status.OK, Status.INVALID_INPUT]
    assert column.values[0] == pytest.approx(alone[0], abs=1e-5)


def test_a_list_of_responses_is_one_conversation(path, plain):
    """Listwise: one response's image is an image of the conversation that all are read in; a broken one is not."""
    model = load(Card(name="m", kind="listwise", path=path, system=""))
    shown, broken = Response("b", media=(MEDIA[2],)), Response("x", media=(Media.from_bytes(b"no"),))
    group = Group("g", "What?", (Response("a"), broken, shown), media=(MEDIA[0],))
    column = model.score([group])[0]
    text = asked(WHOLE, "a") + f"<|im_start|>assistant\n{WHOLE}b<|im_end|>\n"
    assert column.statuses == [Status.OK, Status.INVALID_INPUT, Status.OK]
    assert column.values[2] == pytest.approx(plain(text, [MEDIA[0], MEDIA[2]]), abs=1e-5)


@pytest.mark.parametrize("instruction", [
    "Q: {prompt} A: {first} B: {second} Which?", "Of {second} and {first}, which answers {prompt}?",
])  # fmt: skip
def test_compared_answers_are_one_conversation(path, instruction):
    """Pairwise: an image in the prompt and one in an answer are two; markers may stand in any order."""
    card = {"name": "m", "kind": "pairwise", "path": path, "system": "", "choices": ("1", "2")}
    model = load(Card(**card, instruction=instruction))
    group = Group("g", "What?", (Response("a"), Response("b", media=(MEDIA[2],)), Response("c")), media=(MEDIA[1],))
    rows = model.encode(group).rows
    tokens = {pair: int((row.encoded.ids == model.loaded.encoder.image_id).sum()) for pair, row in rows.items()}
    assert {tokens[pair] for pair in rows if 1 in pair} == {10}
    assert min(tokens[0, 2], tokens[2, 0]) > 10
    values = model.score([group])[0].values
    full = load(Card(**card, instruction=instruction, share_prefix=False))
    assert values == pytest.approx(full.score([group])[0].values, abs=1e-5)
