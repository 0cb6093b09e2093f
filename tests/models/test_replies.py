"""Replies are read where the family's own turn has them, as the tokens that stand there."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedTokenizerFast

from rewardhub.models import Card, load
from rewardhub.types import Group, Response

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)

BEGIN = {"smolvlm": "<|im_start|>", "idefics3": "<|begin_of_text|>"}


@pytest.fixture(scope="module", params=BEGIN)
def family(request, tmp_path_factory):
    path = tiny_families.build(request.param, tmp_path_factory.mktemp("replies") / "checkpoint")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    model = AutoModelForImageTextToText.from_pretrained(str(path), dtype=torch.float32).eval()

    @torch.no_grad()
    def chance(text, choices):
        """Of the first choice behind a text, each choice being one token more than the text."""
        before = tokenizer(BEGIN[request.param] + text, add_special_tokens=False)["input_ids"]
        ids = [tokenizer(BEGIN[request.param] + text + each, add_special_tokens=False)["input_ids"] for each in choices]
        assert [each[:-1] for each in ids] == [before, before]
        logits = model(input_ids=torch.tensor([before])).logits[0, -1]
        return float(torch.softmax(logits[[each[-1] for each in ids]], 0)[0])

    return path, chance


@pytest.mark.parametrize(("replies", "lead"), [(("red", "blue"), ""), (("Y", "N"), " ")], ids=["one", "two"])
def test_replies_behind_a_space(family, replies, lead):
    """The turn is "Assistant: red": the next token is " red"; a letter that has no such token stands behind a space."""
    path, chance = family
    choices = replies if lead else [f" {each}" for each in replies]
    fields = {"name": "m", "path": path, "choices": replies}
    group = Group("g", "What?", (Response("green"), Response("pink")))

    found = load(Card(kind="yes_no", question="Right?", **fields)).score([group])[0].values
    said = "User: What?<end_of_utterance>\nAssistant: {}<end_of_utterance>\n"
    asked = said + "User: Right?<end_of_utterance>\nAssistant:" + lead
    assert found == pytest.approx([chance(asked.format(each.text), choices) for each in group.responses], abs=1e-5)

    found = load(Card(kind="pairwise", instruction="{prompt} {first} {second}", **fields)).score([group])[0].values
    asked = "User: What? {} {}<end_of_utterance>\nAssistant:" + lead
    first, second = (chance(asked.format(*pair), choices) for pair in (("green", "pink"), ("pink", "green")))
    assert found == pytest.approx([(first + 1 - second) / 2, (second + 1 - first) / 2], abs=1e-5)


def test_capped_logits(tmp_path):
    """Gemma's language head may bound its logits: a reply's chance, and a text's likelihood, are of the bounded ones."""
    path = tiny_families.build("gemma3_text", tmp_path / "checkpoint")
    config = json.loads((path / "config.json").read_text()) | {"final_logit_softcapping": 0.5}
    (path / "config.json").write_text(json.dumps(config))
    model = load(Card(name="m", kind="yes_no", path=path, choices=("red", "blue")))
    (row,) = model.rows(group := Group("g", "What?", (Response("green"),)))
    plain = AutoModelForCausalLM.from_pretrained(str(path), dtype=torch.float32).eval()
    with torch.no_grad():
        logits = plain(input_ids=torch.tensor([row.encoded.ids.tolist()])).logits[0, -1]
        states = plain.model(input_ids=torch.tensor([row.encoded.ids.tolist()])).last_hidden_state[0, -1:]
    wanted = float(torch.softmax(logits[model.checkpoint.replies()], 0)[0])
    assert model.score([group])[0].values == pytest.approx([wanted], abs=1e-6)
    assert torch.allclose(model.loaded.backbone.logits(states)[0], logits, atol=1e-5)


def bounded(kind, path, seed=0):
    """A tiny checkpoint that holds the logits of its attention and of its language head within low bounds."""
    tiny_families.build(kind, path, seed)
    caps = {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 0.5}
    (path / "config.json").write_text(json.dumps(json.loads((path / "config.json").read_text()) | caps))
    return path, AutoModelForCausalLM.from_pretrained(
        str(path), dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.mark.parametrize(
    "fields", [{}, {"share_prefix": False}, {"reproducible": True}], ids=["shared", "rows", "alone"]
)
@pytest.mark.parametrize("kind", ["gemma2", "gemma3_text"])
def test_bounds_on_every_path(tmp_path, kind, fields):
    """Gemma 2's bounds, and a Gemma 3 that states some: replies and likelihoods are those of transformers' own model."""
    path, plain = bounded(kind, tmp_path / "m")
    base, reference = bounded(kind, tmp_path / "base", 1)
    prompts = ("What?", "What colour is the circle? " * 9)
    groups = [Group(text, text, tuple(map(Response, ("red", "green " * 5, "blue because")))) for text in prompts]

    @torch.no_grad()
    def likelihoods(model, row):
        ids = torch.tensor([row.encoded.ids.tolist()])
        return torch.log_softmax(model(input_ids=ids).logits[0], -1)

    fields = {"name": "m", "path": path, **fields}
    asked = load(Card(kind="yes_no", choices=("red", "blue"), **fields))
    implicit = load(Card(kind="implicit", implicit={"reference": base, "beta": 0.5}, **fields))
    for model in (asked, implicit):
        wanted = []
        for row in (row for group in groups for row in model.rows(group)):
            found = likelihoods(plain, row)
            if model is asked:
                wanted.append(float(torch.softmax(found[-1][model.checkpoint.replies()], 0)[0]))
                continue
            places = [(place, int(row.encoded.ids[place + 1])) for place in row.places]
            sums = [sum(float(each[at]) for at in places) for each in (found, likelihoods(reference, row))]
            wanted.append(0.5 * (sums[0] - sums[1]))
        assert torch.tensor(wanted).std() > 1e-3
        together = [value for column in model.score(groups) for value in column.values]
        assert together == pytest.approx(wanted, abs=2e-5)
        alone = [
            model.score([replace(group, responses=(each,))])[0].values[0]
            for group in groups
            for each in group.responses
        ]
        assert alone == pytest.approx(wanted, abs=2e-5)


@pytest.mark.parametrize("kind", ["mistral", "gemma2"])
def test_replies_of_other_families(tmp_path, kind):
    """Yes against no behind Mistral's tags and in Gemma 2's turn, by transformers' own model."""
    path = tiny_families.build(kind, tmp_path / "m")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    plain = AutoModelForCausalLM.from_pretrained(str(path), dtype=torch.float32).eval()
    text, lead = {
        "mistral": ("<s> [INST] What? [/INST] {}</s> [INST] Right? [/INST]", " "),
        "gemma2": (
            "<bos><start_of_turn>user\nWhat?<end_of_turn>\n<start_of_turn>model\n{}<end_of_turn>\n"
            "<start_of_turn>user\nRight?<end_of_turn>\n<start_of_turn>model\n", ""
        ),
    }[kind]  # fmt: skip
    model = load(Card(name="m", kind="yes_no", path=path, choices=("red", "blue"), question="Right?"))
    group = Group("g", "What?", (Response("green"), Response("(pink)")))
    for response, value in zip(group.responses, model.score([group])[0].values, strict=True):
        said = text.format(response.text)
        ids = [tokenizer(said + lead + each, add_special_tokens=False)["input_ids"] for each in ("red", "blue")]
        with torch.no_grad():
            logits = plain(input_ids=torch.tensor([ids[0][:-1]])).logits[0, -1]
        assert ids[0][:-1] == ids[1][:-1]
        assert value == pytest.approx(float(torch.softmax(logits[[each[-1] for each in ids]], 0)[0]), abs=1e-5)
