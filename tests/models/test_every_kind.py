"""Company changes no score, for every kind that a card can name, with lengths, texts and images drawn anew each time."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from tokenizers import AddedToken
from tokenizers.processors import RobertaProcessing
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import BertConfig, BertModel, CLIPConfig, CLIPImageProcessorPil, CLIPModel

from rewardhub.models import Card, load
from rewardhub.models.card import SCOPES, TRUNCATED
from rewardhub.models.card_fields import READ_BY
from rewardhub.models.kinds import KINDS
from rewardhub.models.model import RewardModel
from rewardhub.models.packing import MIN_SHARED
from rewardhub.models.tiny import build_tiny, tiny_tokenizer
from rewardhub.types import Group, Media, Response, Status

WIDTH = 64
CLOSE = 1e-5
"""How far a score may be from the same response's in other company."""


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * 0.3


HEADS = {
    "one": {"score.weight": drawn(1, WIDTH)}, "three": {"score.weight": drawn(3, WIDTH)},
    "gated": {
        "regression_layer.weight": drawn(3, WIDTH), "gating.layers.0.weight": drawn(8, WIDTH),
        "gating.layers.1.weight": drawn(3, 8) * 9,
    },
}  # fmt: skip
CARDS: dict[str, tuple[str, dict[str, Any]]] = {
    "scalar": ("one", {}),
    "cost": ("one", {"positive_is": "safe"}),
    "outcome": ("three", {"classes": ("a", "b", "c"), "positive": "b"}),
    "safety": ("three", {"classes": ("a", "b", "c")}),
    "objectives": ("gated", {"classes": ("a", "b", "c")}),
    "process": ("one", {}),
    "yes_no": ("", {"choices": ("1", "2")}),
    "listwise": ("one", {}),
    "pairwise": ("", {"choices": ("1", "2")}),
    "implicit": ("", {}),
    "similarity": ("clip", {}),
    "sentence": ("bert", {}),
    "token_match": ("", {}),
    "critique": ("one", {"critique": {"count": 2, "max_tokens": 2, "temperature": 1.0}}),
    "generative": ("", {"max_reply_tokens": 2}),
    "ensemble": ("one", {}),
}
"""What each kind needs: the checkpoint and the fields of its card."""


def picture(seed: int) -> Media:
    side = 30 + 13 * (seed % 5)
    pixels = np.random.default_rng(seed).integers(0, 256, (side, 88 - side, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Media.from_bytes(buffer.getvalue())


PICTURES = [picture(seed) for seed in range(4)]


def test_every_kind_is_here():
    """A kind that is added has to be added here too."""
    assert set(CARDS) == set(KINDS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Callable[[str], Path]:
    """Makes the folder of a checkpoint with a head, once."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp("kind") / "checkpoint"
            BUILDERS.get(name, _language)(made[name], name)
        return made[name]

    return make


def _language(path: Path, name: str) -> None:
    build_tiny(path, seed=len(name))
    if name in HEADS:
        save_file(HEADS[name], path / "value_head.safetensors")


def _clip(path: Path, _name: str) -> None:
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = tiny_tokenizer()
    ends = ("<|startoftext|>", "<|endoftext|>")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in ends])
    first, last = map(tokenizer.token_to_id, ends)
    tokenizer.post_processor = RobertaProcessing((ends[1], last), (ends[0], first))
    text = small | {"bos_token_id": first, "eos_token_id": last, "vocab_size": tokenizer.get_vocab_size()}
    text["max_position_embeddings"] = 400
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=small | {"image_size": 32, "patch_size": 8}, projection_dim=24)
    CLIPModel(config).save_pretrained(str(path))
    tokenizer.save(str(path / "tokenizer.json"))
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(str(path))


def _bert(path: Path, _name: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("[CLS]", "[SEP]")])
    torch.manual_seed(0)
    config = BertConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=32, intermediate_size=48,
                        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=400)  # fmt: skip
    BertModel(config).save_pretrained(str(path))
    tokenizer.save(str(path / "tokenizer.json"))


BUILDERS = {"clip": _clip, "bert": _bert}


@pytest.fixture(scope="module", params=KINDS)
def models(request, checkpoint, tmp_path_factory) -> tuple[RewardModel, RewardModel]:
    """A model of the kind as it is served, and one that runs full rows, padded, without any sharing."""
    kind = request.param
    source, fields = CARDS[kind]
    card: dict[str, Any] = {"name": kind, "kind": kind, "system": "", "token_budget": 700, **fields}
    if kind == "implicit":
        card["implicit"] = {"reference": checkpoint("other")}
    if kind == "ensemble":
        folder = tmp_path_factory.mktemp("members")
        card["ensemble"] = {"members": [member(folder, checkpoint(name), name) for name in ("one", "three")]}
    else:
        card["path"] = checkpoint(source)
    plain = dict(card, share_prefix=False, prefix_cache_mb=0)
    if kind == "ensemble":
        members = [member(folder, checkpoint(name), name, "share_prefix = false\n") for name in ("one", "three")]
        plain["ensemble"] = {"members": members}
    return load(Card(**card)), load(Card(**plain))


def member(folder: Path, path: Path, name: str, more: str = "") -> Path:
    kind = 'kind = "scalar"' if name == "one" else 'kind = "safety"\nclasses = ["a", "b", "c"]'
    file = folder / f"{name}{len(more)}.toml"
    file.write_text(f'name = "{name}"\n{kind}\npath = "{path}"\nsystem = ""\n{more}')
    return file


WORDS = st.sampled_from(
    ["red", " blue", "\n\n", " so it is", "<answer>", "1", "é", "<|im_end|>", " because of the circle"]
)
TEXTS = st.lists(WORDS, max_size=9).map("".join)
SHOWN = st.lists(st.sampled_from(PICTURES), max_size=2).map(tuple)


@st.composite
def groups(draw: Any) -> list[Group]:
    """Two to four groups: prompts that begin alike, images at the same and at other places, short prompts, responses
    that are empty, equal or the beginning of another."""
    stem = draw(TEXTS)
    found = []
    for index in range(draw(st.integers(2, 4))):
        prompt = draw(st.sampled_from(["", stem, stem + draw(TEXTS), "What colour is it? " * draw(st.integers(1, 9))]))
        media = draw(SHOWN)
        first = draw(TEXTS)
        texts = draw(st.lists(st.sampled_from(["", first, first + draw(TEXTS), draw(TEXTS)]), min_size=1, max_size=5))
        own = draw(st.lists(st.sampled_from([(), (), (), (PICTURES[3],)]), min_size=len(texts), max_size=len(texts)))
        responses = tuple(Response(text, media=each) for text, each in zip(texts, own, strict=True))
        content = prompt
        if media and draw(st.booleans()):
            parts = [{"type": "image", "media": number} for number in range(len(media))]
            parts.insert(draw(st.integers(0, len(parts))), {"type": "text", "text": prompt})
            content = ({"role": "user", "content": parts},)
        found.append(Group(str(index), content, responses, {"answer": "a red circle"}, media=media))
    return found


def rows(model: RewardModel, asked: list[Group]) -> list[list[tuple[Status, float | None]]]:
    return [list(zip(column.statuses, column.values, strict=True)) for column in model.score(asked)]


def same(found: list[tuple[Status, float | None]], wanted: list[tuple[Status, float | None]]) -> None:
    assert [status for status, _ in found] == [status for status, _ in wanted]
    numbers = [[-1e9 if value is None else value for _, value in each] for each in (found, wanted)]
    assert numbers[0] == pytest.approx(numbers[1], abs=CLOSE)


@pytest.mark.parametrize("tokens", [1, 40, 1 << 20])
def test_a_heartbeat_computes(models, tokens):
    """T18: a probe runs whatever the kind computes with, and says how many tokens of it were read."""
    entered: list[object] = []
    handle = register_module_forward_pre_hook(lambda module, _: entered.append(module))
    try:
        read = models[0].probe(tokens)
    finally:
        handle.remove()
    kind = models[0].card.kind
    assert entered or kind == "token_match"
    assert read == 0 if kind == "similarity" else 0 < read < 1 << 20


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(asked=groups(), order=st.randoms(use_true_random=False))
def test_company_changes_nothing(models, asked, order):
    """Beside strangers, alone, turned round and asked again: the scores of full rows, each group by itself."""
    model, plain = models
    wanted = [rows(plain, [group])[0] for group in asked]
    for found, expected in zip(rows(model, asked), wanted, strict=True):
        same(found, expected)
    shuffled = list(range(len(asked)))
    order.shuffle(shuffled)
    for index, found in zip(shuffled, rows(model, [asked[index] for index in shuffled]), strict=True):
        same(found, wanted[index])
    scope = SCOPES.get(model.card.kind, "response")
    group, expected = asked[shuffled[0]], wanted[shuffled[0]]
    if scope != "group":
        turned = replace(group, responses=group.responses[::-1])
        same(rows(model, [*asked, turned])[-1], expected[::-1])
    if scope == "response":
        singles = [replace(group, responses=(each,)) for each in group.responses]
        same([row for (row,) in rows(model, singles)], expected)


@pytest.mark.parametrize("count", [1, 512])
def test_groups_of_one_and_of_many(models, count):
    """512 responses to one prompt with an image are scored as each is by itself."""
    model, plain = models
    if model.card.kind in {"pairwise", "critique", "generative"}:
        count = min(count, 6)
    if model.card.kind == "listwise":
        count = min(count, 90)
    texts = [f"{'red' if index % 3 else 'blue'} {index}" for index in range(count)]
    group = Group("g", "What?", tuple(map(Response, texts)), {"answer": "red 7"}, media=(PICTURES[0],))
    found = rows(model, [group])[0]
    assert len(found) == count
    if SCOPES.get(model.card.kind):
        same(found, rows(plain, [group])[0])
        return
    for index in {0, count // 2, count - 1}:
        same([found[index]], rows(plain, [replace(group, responses=(group.responses[index],))])[0])


def test_prompts_too_short_to_share(models):
    """A prompt of fewer tokens than are worth sharing, and responses that are the beginning of one another."""
    model, plain = models
    responses = tuple(map(Response, ("1", "11", "1 1", "")))
    for system, prompt in (("", ""), ("", "a")):
        group = Group(
            "g", prompt, responses, {"answer": "1"}, media=PICTURES[:1] if model.card.kind == "similarity" else ()
        )
        same(rows(model, [group])[0], rows(plain, [group])[0])
    loaded = getattr(model, "loaded", None)
    assert loaded is None or len(loaded.encoder.prefix("")) < MIN_SHARED


def test_prompts_over_the_limit_are_cut_alike(models):
    """Where the card allows truncation, a response loses as much of its prompt in company as alone, and is flagged."""
    card = models[0].card
    if card.kind not in READ_BY["truncation"]:
        pytest.skip("never cut")
    model, short = (load(card.model_copy(update={"max_tokens": 260, "truncation": each})) for each in ("left", "none"))
    texts = ("red", "blue" + "z" * 30, "1\n\nso", "green" + "z" * 60)
    asked = Group("g", "What colour is it? " * 40, tuple(map(Response, texts)), media=PICTURES[:2])
    assert not any(status is Status.OK for status, _ in rows(short, [asked])[0])
    column = model.score([asked])[0]
    flags = [column.row(index).details[TRUNCATED] for index in range(len(texts))]
    assert column.statuses == [Status.OK] * len(texts)
    assert min(flags) > 50
    if card.scope == "response":
        singles = [model.score([replace(asked, responses=(each,))])[0] for each in asked.responses]
        assert [each.row(0).details[TRUNCATED] for each in singles] == flags
        same([rows(model, [replace(asked, responses=(each,))])[0][0] for each in asked.responses],
             list(zip(column.statuses, column.values, strict=True)))  # fmt: skip
    turned = model.score([replace(asked, responses=asked.responses[::-1])])[0]
    if card.scope != "group":
        same(list(zip(turned.statuses, turned.values, strict=True))[::-1],
             list(zip(column.statuses, column.values, strict=True)))  # fmt: skip


def test_a_broken_image_harms_no_neighbour(models):
    """Beside a group whose image is none, and a response that brings one: a status there, the same scores elsewhere."""
    model, _ = models
    broken = Media.from_bytes(b"no image")
    fine = Group("f", "What?", (Response("red"), Response("blue")), {"answer": "red"}, media=(PICTURES[1],))
    bad = replace(fine, id="b", media=(broken,))
    wanted = rows(model, [fine])[0]
    first, middle, last = rows(model, [fine, bad, fine])
    same(first, wanted)
    same(last, wanted)
    if model.card.kind not in {"sentence", "token_match"}:
        assert {status for status, _ in middle} == {Status.INVALID_INPUT}
    if SCOPES.get(model.card.kind, "response") == "response" and model.card.kind not in {"sentence", "token_match"}:
        mixed = replace(fine, responses=(*fine.responses, Response("x", media=(broken,))))
        found = rows(model, [mixed])[0]
        same(found[:2], wanted)
        assert found[2][0] is Status.INVALID_INPUT


def test_the_code_is_part_of_the_fingerprint(models, monkeypatch):
    """A change of any file of the models' room is another fingerprint, whatever the kind."""
    model, _ = models
    members = [model, *getattr(model, "members", [])]
    loaded = [each for member in members for each in (member, getattr(member, "engine", None)) if each is not None]
    before = model.fingerprint
    monkeypatch.setattr("rewardhub.models.model.SOURCES", ())
    for each in loaded:
        each.__dict__.pop("fingerprint", None)
    assert model.fingerprint != before
    for each in loaded:
        each.__dict__.pop("fingerprint", None)
