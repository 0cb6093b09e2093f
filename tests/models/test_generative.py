"""Models that write: greedy replies, replies held to a schema, critiques, limits."""

import dataclasses
import json
import shutil

import pytest
import torch

from rewardhub.models import Card, load
from rewardhub.models.colours import colour_items
from rewardhub.models.tiny import build_tiny
from rewardhub.types import Group, Response, Status

SCHEMA = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string"},
        "nonce": {"type": "string", "enum": ['0a"1']},
        "verdict": {"type": "string", "enum": [str(number) for number in range(1, 11)]},
    },
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = build_tiny(tmp_path_factory.mktemp("generative") / "base", seed=3)
    return load(Card(name="tiny", kind="generative", path=path, system="", max_reply_tokens=12))


def chat(prompt="What colour is it?", text="", **metadata) -> Group:
    return Group("g", prompt, (Response(text),), metadata=metadata)


def written(model, group: Group):
    (column,) = model.score([group])
    return column.row(0)


def greedy(model, group: Group, count: int) -> str:
    """The same by full passes, one token at a time."""
    encoder, backbone = model.loaded.encoder, model.loaded.backbone
    row = encoder.encode(group.prompt, group.media)
    ids: list[int] = []
    with torch.inference_mode():
        for _ in range(count):
            states = backbone.hidden(encoder.collate([row]).to(backbone.device))
            logits = backbone.logits(states[0, -1])
            logits[model.writer.forbidden] = -torch.inf
            ids.append(int(logits.argmax()))
            if ids[-1] == model.writer.end_id:
                break
            text = encoder.tokenizer.decode(ids, skip_controls=False)
            row = encoder.encode(group.prompt, group.media) + encoder.pieces([text], ())
            if row.ids[-len(ids) :].tolist() != ids:
                pytest.skip("these tokens do not survive decoding")
    return encoder.tokenizer.decode(ids)


def test_a_reply_is_what_the_model_most_likely_writes(model):
    """Equal to an argmax by full passes, and the same again."""
    score = written(model, chat(max_tokens=4))
    assert (score.value, score.status, score.details["completion_tokens"]) == (1.0, Status.OK, 4)
    assert score.details["finish"] == "length"
    assert score == written(model, chat(max_tokens=4))
    assert score.details["text"] == greedy(model, chat(), 4)


def test_a_reply_held_to_a_schema_has_its_form_whatever_the_model(model):
    """Free text is free; of stated texts the likeliest is taken, by its log-probability with all before it."""
    score = written(model, chat(schema=SCHEMA))
    reply = json.loads(score.details["text"])
    assert list(reply) == ["reasoning", "nonce", "verdict"]
    assert reply["nonce"] == '0a"1'
    assert reply["verdict"] in SCHEMA["properties"]["verdict"]["enum"]
    encoder, backbone = model.loaded.encoder, model.loaded.backbone
    head = {name: reply[name] for name in ("reasoning", "nonce")}
    lead = encoder.encode("What colour is it?")
    pieces = [
        '{"reasoning": "',
        json.dumps(head["reasoning"])[1:],
        ', "nonce": "',
        json.dumps(head["nonce"])[1:],
        ', "verdict": "',
    ]
    for piece in pieces:
        lead = lead + encoder.pieces([piece], ())
    chances = {}
    for option in SCHEMA["properties"]["verdict"]["enum"]:
        row = lead + encoder.pieces([option + '"'], ())
        with torch.inference_mode():
            logs = torch.log_softmax(
                backbone.logits(backbone.hidden(encoder.collate([row]).to(backbone.device))[0]), -1
            )
        told = [float(logs[place - 1, row.ids[place]]) for place in range(len(lead), len(row))]
        chances[option] = sum(told)
    assert reply["verdict"] == max(chances, key=chances.get)


def test_a_form_whose_last_text_is_cut_stays_open(classifier):
    """The 1 of a 10 is no verdict: a reply that ends in a text cut by its limit is no whole object and says "length"."""
    model = load(Card(name="tiny", kind="generative", path=classifier, system=""))
    free = {"reasoning": {"type": "string"}, "verdict": {"type": "string"}}
    details = written(model, chat(schema={"type": "object", "properties": free}, max_tokens=4)).details
    assert details["finish"] == "length"
    with pytest.raises(ValueError, match="Unterminated string"):
        json.loads(details["text"])
    listed = {"type": "object", "properties": {**free, "verdict": {"type": "string", "enum": ["a", "b"]}}}
    details = written(model, chat(schema=listed, max_tokens=4)).details
    assert json.loads(details["text"])["verdict"] in {"a", "b"}
    assert details["finish"] == "length"


def text_of(model, field, **metadata):
    schema = {"type": "object", "properties": {"text": {"type": "string", **field}}}
    return written(model, chat(schema=schema, **metadata)).details


@pytest.mark.parametrize("most", [0, 1, 5])
def test_a_text_of_a_form_is_as_long_as_its_schema_lets_it(classifier, most):
    """maxLength is kept: the text stops there, its object is whole, and what was not needed is not written."""
    model = load(Card(name="tiny", kind="generative", path=classifier, system="", max_reply_tokens=12))
    free = json.loads(text_of(model, {})["text"] + '"}')["text"]
    assert len(free) > 5
    held = text_of(model, {"maxLength": most, "description": "In short."})
    assert json.loads(held["text"]) == {"text": free[:most]}
    assert held["finish"] == "stop"
    assert held["completion_tokens"] < text_of(model, {})["completion_tokens"]


def test_a_text_of_a_form_ends_at_its_quotation_mark(model, monkeypatch):
    """What a model writes behind the mark takes none of the room of the next text."""
    asked = []
    write = model.writer.write

    def quoting(row, count, most, complete):
        asked.append(most)
        (found,) = write(row, count, most, lambda text: complete(text + '"'))
        return [dataclasses.replace(found, text=found.text + '"')]

    monkeypatch.setattr(model.writer, "write", quoting)
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    assert written(model, chat(schema=schema)).details["finish"] == "stop"
    assert asked == [12, 11]


def test_stated_texts_are_those_that_their_bounds_allow(model):
    """Of an enumeration only texts within minLength and maxLength count; const is an enumeration of one."""
    options = {"enum": ["a", "bb", "cccc"], "minLength": 2, "maxLength": 3}
    assert json.loads(text_of(model, options)["text"]) == {"text": "bb"}
    assert json.loads(text_of(model, {"const": "x"})["text"]) == {"text": "x"}


@pytest.mark.parametrize(("field", "named"), [
    ({"pattern": "^a"}, "pattern"), ({"format": "date"}, "format"), ({"minLength": 3}, "minLength"),
    ({"maxLength": -1}, "maxLength"), ({"enum": ["abc"], "maxLength": 2}, "'text' allows no text"),
    ({"enum": []}, "enum"), ({"enum": ["a"], "const": "b"}, "'text' allows no text"), ({"not": {}}, "not"),
])  # fmt: skip
def test_what_a_form_cannot_be_held_to_is_refused(model, field, named):
    """A keyword that would not be kept is the caller's to leave out: it is named."""
    schema = {"type": "object", "properties": {"text": {"type": "string", **field}}}
    score = written(model, chat(schema=schema))
    assert score.status is Status.INVALID_INPUT
    assert named in score.details["reason"]
    of_object = {"type": "object", "properties": {"text": {"type": "string"}}, "minProperties": 2}
    assert "minProperties" in written(model, chat(schema=of_object)).details["reason"]


def test_a_response_is_criticised_and_images_are_seen(model):
    """With text in the response the card's question is asked of it; another image is another prompt."""
    plain, critique = written(model, chat()), written(model, chat(text="It is red."))
    assert critique.details["prompt_tokens"] > plain.details["prompt_tokens"]
    first, second = (next(colour_items(seed)) for seed in (1, 2))
    seen = [written(model, Group("g", each.question, (Response(),), media=(each.media,))) for each in (first, second)]
    assert all(score.status is Status.OK for score in seen)
    assert seen[0].details["prompt_tokens"] > plain.details["prompt_tokens"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"max_tokens": 0}, {"max_tokens": True}, {"schema": "text"}, {"schema": {"properties": {}}},
        {"schema": {"properties": {"a": {"type": "number"}}}},
        {"schema": {"properties": {"a": {"type": "string", "enum": [1]}}}},
        {"schema": {"properties": {"a": {"type": "string", "enum": ["x"] * 129}}}},
    ],
)  # fmt: skip
def test_wrong_options_are_the_callers_fault(model, metadata):
    """A bad limit or schema is a status that names its field."""
    score = written(model, chat(**metadata))
    assert (score.value, score.status) == (None, Status.INVALID_INPUT)
    assert score.details["field"].startswith("metadata.")


def test_a_prompt_that_leaves_no_room_is_refused(model):
    """Prompt and reply must fit the model."""
    score = written(model, chat("x" * 2050))
    assert (score.value, score.status, score.details["field"]) == (None, Status.INVALID_INPUT, "prompt")


def test_a_form_is_bounded(model):
    """A schema of many fields, or of more than the context holds, is the caller's fault and takes no worker long."""

    def form(count, name="f"):
        return {"type": "object", "properties": {f"{name}{index}": {"type": "string"} for index in range(count)}}

    assert written(model, chat(schema=form(2))).status is Status.OK
    for schema in (form(200), form(20, "n" * 200)):
        assert written(model, chat(schema=schema)).status is Status.INVALID_INPUT


WRITERS = {
    "generative": {"max_reply_tokens": 3},
    "critique": {"critique": {"max_tokens": 3, "temperature": 1.0}},
    "pairwise": {"votes": {"count": 2, "max_tokens": 3}},
}


@pytest.mark.parametrize("kind", WRITERS)
def test_nothing_is_written_from_what_is_no_number(classifier, tiny, kind):
    """A model that computes NaN writes no text and casts no vote: internal_error, with and without a schema."""
    path = classifier if kind == "critique" else tiny
    model = load(Card(name="n", kind=kind, path=path, system="", **WRITERS[kind]))
    model.loaded.backbone.base.get_input_embeddings().weight.data.fill_(torch.nan)
    for metadata in ({}, {"schema": SCHEMA}):
        group = Group("g", "x", (Response("a"), Response("b")), metadata=metadata)
        assert set(model.score([group])[0].statuses) == {Status.INTERNAL_ERROR}


def test_other_ends_that_the_checkpoint_names(tiny, tmp_path):
    """A reply ends at any id of ``generation_config.json``, as with Qwen's ``<|endoftext|>``, which is not written."""
    path = shutil.copytree(tiny, tmp_path / "checkpoint")
    card = Card(name="g", kind="generative", path=path, max_reply_tokens=6)
    group = Group("g", "What colour?", (Response(),))
    model = load(card)
    with torch.inference_mode():
        row = model.loaded.encoder.collate([model.loaded.encoder.encode(group.prompt)])
        logits = model.loaded.backbone.logits(model.loaded.backbone.hidden(row)[0, -1])
        logits[model.writer.forbidden] = -torch.inf
    assert model.score([group])[0].row(0).details["finish"] == "length"
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, int(logits.argmax())]}))
    details = load(card).score([group])[0].row(0).details
    assert (details["text"], details["finish"], details["completion_tokens"]) == ("", "stop", 1)
