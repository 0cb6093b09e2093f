"""Inputs are what transformers would make of the same conversation."""

import io
from dataclasses import replace

import jinja2
import numpy as np
import pytest
import torch
from PIL import Image

from rewardhub.errors import ConfigError, InvalidInput
from rewardhub.models.backbone import load_backbone
from rewardhub.models.batching import batches
from rewardhub.models.chat import ChatTemplate
from rewardhub.models.families import FAMILIES
from rewardhub.models.inputs import Encoder
from rewardhub.models.pictures import Pixels, QwenImages
from rewardhub.models.tiny import CHAT_TEMPLATE
from rewardhub.types import Media, Response
from tests.models import tiny_families


@pytest.fixture(scope="module")
def encoder(tiny):
    return Encoder(tiny, system="")


def test_positions_are_those_of_transformers(tiny, encoder, groups):
    """Rope positions equal get_rope_index on both padding sides; the language head's logits agree."""
    backbone = load_backbone(tiny, head=False)
    rows = [encoder.encode(group.prompt, group.media) for group in groups]
    for side in ("right", "left"):
        inputs = encoder.collate(rows, side=side)
        kwargs = inputs.model_kwargs()
        wanted, deltas = backbone.base.get_rope_index(
            inputs.input_ids, inputs.mm_token_type_ids, kwargs["image_grid_thw"], attention_mask=inputs.attention_mask
        )
        assert torch.equal(wanted, inputs.position_ids)
        assert [row.next_position for row in rows] == [len(row) + int(d) for row, d in zip(rows, deltas, strict=True)]
    inputs = encoder.collate(rows)
    with torch.no_grad():
        ours = backbone.logits(backbone.hidden(inputs))
        theirs = backbone.model(**inputs.model_kwargs()).logits
    valid = inputs.attention_mask.bool()
    assert torch.allclose(ours[valid], theirs[valid], atol=1e-5)


def test_generation_accepts_the_inputs(tiny, encoder, groups):
    """The model's own generate runs on a left-padded batch and continues each row as it would alone."""
    backbone = load_backbone(tiny, head=False)
    rows = [encoder.encode(group.prompt, group.media) for group in groups if group.media]

    def continued(batch):
        inputs = encoder.collate(batch, side="left")
        out = backbone.model.generate(**inputs.model_kwargs(), max_new_tokens=4, do_sample=False, pad_token_id=0)
        return out[:, inputs.input_ids.shape[1] :]

    together = continued(rows)
    for row, wanted in zip(rows, together, strict=True):
        assert torch.equal(continued([row])[0], wanted)


def test_the_layout_is_the_chat_template(encoder, tiny):
    """The control tokens and texts are those the checkpoint's chat template writes."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What colour is the circle?"}]},
        {"role": "assistant", "content": "red"},
    ]
    text = jinja2.Template(CHAT_TEMPLATE).render(messages=messages)
    pieces = ChatTemplate(system="").prompt(
        (messages[0], {"role": "user", "content": [{"type": "image", "media": 0}, messages[1]["content"][1]]}), 1
    )
    answer = ChatTemplate(system="").answer(Response("red"), 1)
    rendered = "".join(
        piece if isinstance(piece, str) else getattr(piece, "token", "<|vision_start|><|image_pad|><|vision_end|>")
        for piece in [*pieces, *answer]
    )
    assert rendered == text


PUBLISHED = {
    "llama": (
        "{{ '<|begin_of_text|>' }}{% for message in messages %}{{ '<|start_header_id|>' + message.role "
        "+ '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}{% endfor %}"
    ),
    "gemma3_text": (
        "{{ '<bos>' }}{% set ahead = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}"
        "{% for message in messages if message.role != 'system' %}{{ '<start_of_turn>' + ('model' if message.role == "
        "'assistant' else 'user') + '\n' + (ahead if loop.first else '') + message.content | trim }}<end_of_turn>\n"
        "{% endfor %}"
    ),
    "qwen3_5": (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + ('<think>\n\n</think>\n\n' if loop.last "
        "else '') + message.content | trim }}<|im_end|>\n{% endfor %}"
    ),
    "qwen2": (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content }}<|im_end|>\n{% endfor %}"
    ),
}  # fmt: skip
"""How the families' own templates write a conversation: which of them trim what is said."""


@pytest.mark.parametrize("kind", PUBLISHED)
@pytest.mark.parametrize("system", [None, " Be brief. \n"])
def test_space_around_what_is_said(kind, system):
    """Llama, Qwen3.5 and Gemma trim each message but Gemma's system text; Qwen3 and older write it as it stands."""
    said = [("user", "  What?\n"), ("assistant", " hm "), ("user", "So?\t"), ("assistant", "\n red \n\n")]
    messages = [{"role": role, "content": text} for role, text in said]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    wanted = jinja2.Template(PUBLISHED[kind], keep_trailing_newline=True).render(messages=messages)
    template = ChatTemplate(system="", style=FAMILIES[kind].style)
    pieces = [*template.prompt(messages[:-1], 0), *template.answer(Response(said[-1][1]), 0)]
    assert "".join(piece if isinstance(piece, str) else piece.token for piece in pieces) == wanted


@pytest.mark.parametrize("kind", PUBLISHED)
def test_space_around_what_a_card_says(kind):
    """A system message or a question with a line of its own in a card is written as the same in a conversation."""
    stated, silent = (ChatTemplate(system=system, style=FAMILIES[kind].style) for system in ("\n Be brief.\n", ""))
    said = [{"role": "system", "content": "\n Be brief.\n"}, {"role": "user", "content": " So?\n"}]
    assert stated.prompt(said[1:], 0) == silent.prompt(said, 0)
    asked = "".join(map(str, stated.asking([" So", "?\n"])))
    assert asked == "".join(map(str, silent.prompt(said, 0)))
    assert silent.question(" So?\n") == silent.prompt(said[1:], 0)[bool(silent.style.begin) :]


def test_the_default_system_message_is_the_familys(tiny):
    """A card that says nothing about it gets what the family's template says, "" is none, a text is that text."""
    assert {kind for kind, family in FAMILIES.items() if family.system} == {
        "qwen2_vl", "qwen2_5_vl", "qwen2", "llava_onevision"
    }  # fmt: skip
    assert Encoder(tiny).template.system == "You are a helpful assistant."
    assert Encoder(tiny, system="").template.system == ""
    assert Encoder(tiny, system="Be strict.").template.system == "Be strict."


def test_the_system_message_is_said_once():
    """The default is left out where the prompt brings its own."""
    template = ChatTemplate()
    assert "You are a helpful assistant." in template.prompt("hi", 0)
    own = template.prompt(({"role": "system", "content": "Own."}, {"role": "user", "content": "hi"}), 0)
    assert "You are a helpful assistant." not in own


@pytest.mark.parametrize("prompt", [
    ({"role": "robot", "content": "x"},), ({"content": "x"},), ({"role": "user", "content": 3},),
    ({"role": "user", "content": [{"type": "text"}]},), ({"role": "user", "content": ["x"]},), (3,),
])  # fmt: skip
def test_malformed_prompts_are_invalid_input(encoder, prompt):
    """Unknown roles, parts and types are the caller's mistake."""
    with pytest.raises(InvalidInput):
        encoder.encode(prompt)


def test_images_that_rows_share_are_one(encoder, groups):
    """A batch holds each image once, whichever rows and groups show it."""
    rows = [encoder.encode(group.prompt, group.media) for group in [*groups, *groups]]
    inputs = encoder.collate(rows)
    assert len(inputs.images) == len({media.sha256 for group in groups for media in group.media})
    assert len(inputs.image_order) == 2 * sum(len(group.media) for group in groups)


def test_batches_keep_to_the_budget():
    """Every row is in one batch, none over the budget unless it is over it alone."""
    lengths = [5, 100, 7, 7, 31, 2, 64, 1, 1, 30]
    found = list(batches(lengths, 64))
    assert sorted(sum(found, [])) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= 64


def test_images_are_remembered_within_bounds(tiny, groups, monkeypatch):
    """The same bytes are decoded once while remembered; the oldest are forgotten first."""
    first, second = groups[2].media
    reader = QwenImages(tiny, {})
    (kept,) = reader.patches(first)
    assert reader.patches(replace(first, sha256="another name"))[0] is kept
    monkeypatch.setattr("rewardhub.models.pictures.REMEMBERED_BYTES", kept.pixels.nbytes)
    (newer,) = reader.patches(second)
    assert reader.patches(second)[0] is newer
    assert reader.patches(first)[0] is not kept


def test_the_card_bounds_the_resized_image(tiny):
    """max_pixels lowers the checkpoint's own limit and never raises it; min_pixels raises it and never lowers it."""

    def grid(side: int, pixels: Pixels) -> tuple[int, int, int]:
        buffer = io.BytesIO()
        Image.new("RGB", (side, side)).save(buffer, format="PNG")
        return QwenImages(tiny, {}, pixels).patches(Media.from_bytes(buffer.getvalue()))[0].grid

    assert [grid(448, Pixels(most=most)) for most in (None, 112 * 112, 10**9)] == [(1, 32, 32), (1, 8, 8), (1, 32, 32)]
    assert [grid(28, Pixels(least)) for least in (None, 112 * 112, 784)] == [(1, 4, 4), (1, 8, 8), (1, 4, 4)]


@pytest.mark.parametrize(("pixels", "field"), [(Pixels(most=1000), "max_pixels"), (Pixels(10**6), "min_pixels")])
def test_bounds_beyond_the_checkpoints_own_are_refused(tiny, pixels, field):
    """Small images would be made larger than large ones: the checkpoint has 3,136 pixels to 200,704."""
    with pytest.raises(ConfigError, match="pixels at least and") as raised:
        QwenImages(tiny, {}, pixels).processor  # noqa: B018
    assert raised.value.field == field


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16"])
@pytest.mark.parametrize("size", [(300, 90), (20, 31), (56, 56)])
def test_a_resized_image_is_cut_as_the_image(tiny, mode, size):
    """What is sent elsewhere in the size that it was cut in gives the very same patches."""
    reader = QwenImages(tiny, {}, Pixels(most=112 * 112))
    noise = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 4), np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(noise, "RGBA")
    (image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)).save(buffer, format="PNG")
    (patches,) = reader.patches(Media.from_bytes(buffer.getvalue()))
    (again,) = QwenImages(tiny, {}).patches(Media.from_bytes(reader.resized(buffer.getvalue(), patches)))
    assert again.grid == patches.grid
    assert np.array_equal(again.pixels, patches.pixels)


def test_bounds_that_a_family_does_not_know_are_refused(tmp_path):
    """A family of tiles is not resized by the number of pixels: its card may not say so."""
    path = tiny_families.build("internvl", tmp_path / "m")
    with pytest.raises(ConfigError, match="internvl are not resized by their number of pixels") as raised:
        Encoder(path, pixels=Pixels(most=10_000))
    assert raised.value.field == "max_pixels"


def test_a_folder_without_image_processor_is_a_config_error(tmp_path, groups):
    """The error names the folder."""
    with pytest.raises(ConfigError, match="image processor"):
        QwenImages(tmp_path, {}).patches(groups[1].media[0])
