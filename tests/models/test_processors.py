"""Images of odd shapes and kinds become what transformers' own processors make of them: pixels, placeholders, places."""

import importlib
import importlib.util
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, PreTrainedTokenizerFast

from rewardhub.errors import ConfigError, InvalidInput
from rewardhub.models import Card, load
from rewardhub.models.inputs import Encoder
from rewardhub.types import Media, Response

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)

QWEN = ("<|vision_start|>{}<|vision_end|>", {"image_token": "<|image_pad|>"})
FAKE, WHOLE = "<fake_token_around_image>", "<global-img>"
TILED = {"image_seq_len": 1, "image_token": "<image>", "fake_image_token": FAKE}
REFERENCES = {
    "qwen2_5_vl": ("Qwen2_5_VLProcessor", *QWEN),
    "qwen3_vl": ("Qwen3VLProcessor", *QWEN),
    "internvl": ("InternVLProcessor", "{}\n", {
        "image_token": "<IMG_CONTEXT>", "start_image_token": "<img>", "end_image_token": "</img>", "image_seq_length": 4,
    }),
    "llava_onevision": ("LlavaOnevisionProcessor", "{}\n", {
        "image_token": "<image>", "num_image_tokens": 4, "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": "anyres_max_9",
    }),
    "gemma3": ("Gemma3Processor", "{}", {
        "full_image_sequence": f"\n\n<start_of_image>{'<image_soft_token>' * 4}<end_of_image>\n\n",
    }),
    "smolvlm": ("SmolVLMProcessor", "{}", TILED | {"global_image_token": WHOLE}),
    "idefics3": ("Idefics3Processor", "{}", TILED | {"global_image_tag": WHOLE}),
}  # fmt: skip
"""The class, what stands around a placeholder, and what its constructor, which asks for torchvision, would set."""

SIZES = [
    (1, 1),
    (1, 200),
    (200, 1),
    (3, 7),
    (27, 29),
    (28, 28),
    (56, 56),
    (90, 40),
    (31, 190),
    (640, 3 * 9),
    (301, 499),
]


def drawn(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def saved(image: Image.Image, form: str = "PNG", **more: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


def kinds() -> dict[str, bytes]:
    turned = Image.Exif()
    turned[0x0112] = 6
    image = drawn(90, 61)
    found = {f"{width}x{height}": saved(drawn(width, height)) for width, height in SIZES}
    wide = np.random.default_rng(1).integers(0, 65_536, (61, 90)).astype(np.uint16)
    return found | {
        "palette": saved(image.convert("P")), "grey": saved(image.convert("L")), "1 bit": saved(image.convert("1")),
        "CMYK": saved(image.convert("CMYK"), "JPEG"), "turned": saved(image, "JPEG", exif=turned),
        "WebP": saved(image, "WEBP", lossless=True), "16 bit": saved(Image.fromarray(wide)),
        "transparent": saved(Image.fromarray(np.dstack([np.array(image), np.array(image)[:, :, 0]]), "RGBA")),
    }  # fmt: skip


IMAGES = kinds()
CASES = [(name,) for name in IMAGES] + [("56x56", "90x40"), ("31x190", "turned", "1x200"), ("27x29", "27x29")]


def seen(data: bytes) -> Image.Image:
    """The image as a reader of its format shows it on white paper."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode != "RGBA":
        return image.convert("RGB")
    paper = Image.new("RGB", image.size, "white")  # as qwen_vl_utils does
    paper.paste(image, mask=image.getchannel("A"))
    return paper


@pytest.fixture(scope="module", params=REFERENCES)
def family(request, tmp_path_factory):
    kind, folder = request.param, tmp_path_factory.mktemp("processor") / "checkpoint"
    path = tiny_families.build_tiny(folder) if kind == "qwen2_5_vl" else tiny_families.build(kind, folder)
    return kind, path, Encoder(path, system="")


@pytest.fixture(scope="module")
def reference(family):
    """The ids and the pixels of images in a prompt, by the family's own processor."""
    kind, path, _ = family
    name, around, fields = REFERENCES[kind]
    module = importlib.import_module(f"transformers.models.{kind}.processing_{kind}")
    processor = object.__new__(getattr(module, name))
    images = AutoImageProcessor.from_pretrained(str(path), backend="pil")
    vars(processor).update(fields, image_processor=images)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    more = {"internvl": {"crop_to_patches": True}, "smolvlm": {"return_row_col_info": True}}
    more["idefics3"] = more["smolvlm"]

    def make(shown):
        out = images(images=[shown], return_tensors="np", **more.get(kind, {}))
        holes = [around.format(processor.replace_image_token(out, index)) for index in range(len(shown))]
        ids = [tokenizer(hole, add_special_tokens=False)["input_ids"] for hole in holes]
        return ids, out

    return make


@pytest.mark.parametrize("case", CASES, ids="+".join)
def test_images_are_those_of_the_families_own_processor(family, reference, case):
    """One image, and several in one prompt: the same placeholders, the same pixels to the last bit, the same grid."""
    kind, _, encoder = family
    row = encoder.prefix("Hi", [Media.from_bytes(IMAGES[name]) for name in case])
    ids, out = reference([seen(IMAGES[name]) for name in case])
    found = row.ids.tolist()
    at = 0
    for expected in ids:
        found_at = next(k for k in range(at, len(found)) if found[k : k + len(expected)] == expected)
        at = found_at + len(expected)
    assert found.count(encoder.image_id) == sum(each.count(encoder.image_id) for each in ids)
    pixels = out["pixel_values"]
    if kind in {"smolvlm", "idefics3"}:
        pixels = pixels[0]
    elif kind == "llava_onevision":
        pixels = [each[: len(image.pixels)] for each, image in zip(pixels, row.images, strict=True)]
    elif kind == "internvl":
        pixels = np.asarray(pixels)
    wanted = np.concatenate(list(pixels)) if kind == "llava_onevision" else np.asarray(pixels)
    mine = np.concatenate([image.pixels for image in row.images])
    assert np.array_equal(mine, wanted[: len(mine)])
    assert "image_grid_thw" not in out or [image.grid for image in row.images] == [
        tuple(grid) for grid in out["image_grid_thw"].tolist()
    ]


@pytest.mark.parametrize("size", [(201, 1), (1, 402), (4000, 19)])
def test_threads_are_refused(family, size):
    """An image longer than 200 times its width is invalid_input in every family, before anything is resized."""
    with pytest.raises(InvalidInput, match="too narrow"):
        family[2].prefix("Hi", [Media.from_bytes(saved(drawn(*size)))])


IDEFICS = (
    "{{ begin }}{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}<image>{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}"
)
"""The conversation of the published templates, which differ in how it begins."""


@pytest.mark.parametrize("begin", ["<|begin_of_text|>", "<|im_start|>"], ids=["Idefics3-8B-Llama3", "SmolVLM-Instruct"])
@pytest.mark.parametrize("named", [False, True], ids=["names are text", "names are tokens"])
def test_conversations_of_idefics3_are_those_of_its_own_processor(tmp_path, begin, named):
    """On the tokenizer of Llama 3 or of SmolLM2; parts of an image are named by tokens, or in plain text."""
    begun = (begin, *(tiny_families.TILE_TAGS if named else ()))
    path = tiny_families.build("idefics3", tmp_path / "checkpoint", begun=begun)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    processor = object.__new__(
        importlib.import_module("transformers.models.idefics3.processing_idefics3").Idefics3Processor
    )
    vars(processor).update(REFERENCES["idefics3"][2])
    out = AutoImageProcessor.from_pretrained(str(path), backend="pil")(
        images=[seen(IMAGES["56x56"])], return_tensors="np", return_row_col_info=True
    )
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "red"}]}]  # fmt: skip
    text = tokenizer.apply_chat_template(said, chat_template=IDEFICS, tokenize=False, begin=begin)
    text = text.replace("<image>", processor.replace_image_token(out, 0))
    encoder = Encoder(path)
    found = encoder.encode("What?", [Media.from_bytes(IMAGES["56x56"])], Response("red"))
    assert found.ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert found.ids.tolist().count(encoder.image_id) == 5
    spelt = encoder.tokenizer.encode("<row_1_col_1>")
    assert encoder.tokenizer.decode(spelt) == "<row_1_col_1>"
    assert len(spelt) > 1


def test_a_tokenizer_without_a_beginning_is_refused(tmp_path):
    """Neither Llama 3's nor SmolLM2's beginning: the conversation cannot start."""
    path = tiny_families.build("idefics3", tmp_path / "checkpoint", begun=())
    file = path / "tokenizer.json"
    file.write_text(file.read_text().replace("<|im_start|>", "<|other|>"))
    with pytest.raises(ConfigError, match="begin_of_text"):
        Encoder(path)


SMALLER = {
    "internvl": {"size": {"height": 28, "width": 28}}, "llava_onevision": {"size": {"height": 56, "width": 56}},
    "gemma3": {"size": {"height": 28, "width": 28}}, "idefics3": {"max_image_size": {"longest_edge": 56}},
    "smolvlm": {"max_image_size": {"longest_edge": 56}}, "qwen3_vl": {"patch_size": 14}, "qwen2_5_vl": {"patch_size": 16},
}  # fmt: skip


def test_tiles_of_another_size_are_refused_at_load(family, tmp_path):
    """A processor that cuts images otherwise than the model reads them is found when the card is loaded."""
    kind, path, _ = family
    copy = shutil.copytree(path, tmp_path / "copy")
    file = copy / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | SMALLER[kind]))
    card = {"name": "m", "kind": "yes_no", "choices": ("1", "2")}
    assert load(Card(**card, path=path)).loaded.encoder.family.image
    with pytest.raises(ConfigError, match=str(copy)):
        load(Card(**card, path=copy))
