"""Law 4: an image is decoded, cut and encoded once, whoever shows it, in whichever call."""

import importlib.util
import io
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import rewardhub.models.pictures as pictures
from rewardhub.models import Card, load, vllm_client
from rewardhub.models.checkpoint import read_config
from rewardhub.models.families import FAMILIES
from rewardhub.models.inputs import Encoder
from rewardhub.models.vllm_client import VllmClient
from rewardhub.types import Group, Media, Response, Status

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)


def picture(seed: int, width: int = 90, height: int = 61) -> Media:
    buffer = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    Image.fromarray(values).save(buffer, "PNG")
    return Media.from_bytes(buffer.getvalue())


def asked(name: str, prompt: str, *media: Media) -> Group:
    return Group(name, prompt, tuple(Response(f"r{index}") for index in range(12)), media=media)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "gemma3", "llava_onevision"])
def path(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("once") / "checkpoint"
    if request.param != "qwen2_5_vl":
        return tiny_families.build(request.param, folder)
    path = tiny_families.build_tiny(folder, seed=2)
    head = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    save_file({"score.weight": head}, path / "value_head.safetensors")
    return path


@pytest.fixture
def counted(monkeypatch):
    """Counts what a model's reader decodes, cuts and encodes from now on."""

    def count(model) -> dict[str, int]:
        done, reader = dict.fromkeys(("decoded", "cut", "encoded"), 0), model.loaded.encoder.reader
        decode, cut, features = pictures.decode, reader.cut, reader.features

        def as_decode(data):
            done["decoded"] += 1
            return decode(data)

        def as_cut(*arguments):
            done["cut"] += 1
            return cut(*arguments)

        def as_features(base, images, *rest):
            done["encoded"] += len(images)
            return features(base, images, *rest)

        monkeypatch.setattr(pictures, "decode", as_decode)
        monkeypatch.setattr(reader, "cut", as_cut)
        monkeypatch.setattr(reader, "features", as_features)
        return done

    return count


def test_an_image_is_taken_in_once(path, counted):
    """By a group, by single calls one after the other, by another prompt, by responses: scores as those of a fresh model."""
    model = load(Card(name="m", kind="scalar", path=path, system=""))
    done = counted(model)
    image = picture(1)
    group = asked("g", "What is it?", image)
    singles = [replace(group, id=f"s{index}", responses=(each,)) for index, each in enumerate(group.responses)]
    other = asked("o", "How many?", replace(image, data=bytes(bytearray(image.data))))
    theirs = Group("t", "Draw one.", (Response("a", media=(image,)), Response("b", media=(image,))))
    values = [model.score([each])[0].values for each in (group, *singles[:3], other, theirs)]
    assert done == {"decoded": 1, "cut": 1, "encoded": 1}
    fresh = load(Card(name="m", kind="scalar", path=path, system="", prefix_cache_mb=0))
    for each, found in zip((group, *singles[:3], other, theirs), values, strict=True):
        assert fresh.score([each])[0].values == pytest.approx(found, abs=1e-5)


def test_a_damaged_image_is_tried_once(path, counted):
    """Whether a thousand responses show it, or as many calls."""
    model = load(Card(name="m", kind="scalar", path=path, system=""))
    done = counted(model)
    image = picture(2)
    damaged = Media.from_bytes(image.data.replace(b"IDAT", b"IDAx"))
    thread = picture(3, 1, 201)
    for broken in (damaged, thread):
        theirs = Group("t", "Draw one.", tuple(Response(f"r{n}", media=(broken,)) for n in range(6)))
        found = [model.score([each])[0] for each in (theirs, asked("g", "What?", broken), theirs)]
        assert {status for column in found for status in column.statuses} == {Status.INVALID_INPUT}
        assert len({column.row(0).details["reason"] for column in found}) == 1
    assert done == {"decoded": 2, "cut": 0, "encoded": 0}


def test_a_reproducible_model_remembers_no_image(path, counted):
    """In other company an image is rounded otherwise."""
    model = load(Card(name="m", kind="scalar", path=path, system="", reproducible=True))
    done = counted(model)
    for _ in range(2):
        model.score([replace(asked("g", "What?", picture(4)), responses=(Response("a"),))])
    assert done == {"decoded": 1, "cut": 1, "encoded": 2}


def test_cards_with_other_bounds_share_no_image(path):
    """Two cards of one checkpoint cut the same image in their own sizes, in whichever order they score."""
    if not FAMILIES[read_config(path)["model_type"]].reader.bounded:
        return
    cards = [Card(name=f"m{most}", kind="scalar", path=path, system="", max_pixels=most) for most in (3_136, 6_272)]
    group = asked("g", "What?", picture(5))
    alone = [load(card).score([group])[0].values for card in cards]
    models = [load(card) for card in cards]
    for _ in range(2):
        for model, values in zip(models, alone, strict=True):
            assert model.score([group])[0].values == pytest.approx(values, abs=1e-5)
    assert abs(alone[0][0] - alone[1][0]) > 1e-3


def test_what_vllm_is_shown_is_made_once(path, monkeypatch):
    """An image in the size that vLLM reads is kept for later batches; the oldest leave."""
    encoder = Encoder(path)
    if not FAMILIES[read_config(path)["model_type"]].reader.bounded:
        return
    client = object.__new__(VllmClient)  # of a server that is not asked
    client.encoder, client._shown = encoder, OrderedDict()
    images = [picture(6), picture(7), picture(8)]
    rows = [encoder.prefix("What?", [image]) for image in images]
    made = []
    resized = encoder.reader.resized
    monkeypatch.setattr(encoder.reader, "resized", lambda data, image: made.append(data) or resized(data, image))
    with ThreadPoolExecutor(2) as pool:
        first = client.shown(rows[:2], images, pool)
        assert client.shown([*rows[:2], rows[0]], images, pool) == first
        assert len(made) == len(first) == 2
        assert all(url.startswith("data:image/png;base64,") for url in first.values())
        monkeypatch.setattr(vllm_client, "SHOWN_CHARS", max(map(len, first.values())) + 1)
        client.shown([rows[2]], images, pool)
        assert list(client._shown) == [rows[2].images[0].digest]
        assert client.shown(rows[:2], images, pool) == first
        assert len(made) == 5
