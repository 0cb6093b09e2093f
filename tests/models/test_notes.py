"""A card that seems to write prompts otherwise than its checkpoint's chat template is told so when it is loaded."""

import json
import logging
from importlib.resources import files

import pytest

from rewardhub.models import Card, load
from rewardhub.models.chat import ChatTemplate
from rewardhub.models.families import FAMILIES
from rewardhub.models.notes import note_template
from rewardhub.models.tiny import build_tiny


def notes(folder, kind, template, **fields):
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    family, card = FAMILIES[kind].written_by(template, ()), Card(name="m", kind="scalar", path=folder, **fields)
    system = (family.system or family.style.lead) if card.system is None else card.system
    return note_template(card, folder, ChatTemplate(system, family.style.with_thinking(card.thinking)))


@pytest.mark.parametrize(("kind", "name", "words", "mended"), [
    ("qwen2", "qwen2_5", ["You are Qwen, created by Alibaba Cloud.", "`system`"], {"system": ""}),
    ("qwen2_5_vl", "qwen2_5_vl", [], {}), ("qwen3", "qwen3", [], {}), ("qwen3_vl", "qwen3_vl", [], {}),
    ("qwen3_5", "qwen3_5_think", [], {}), ("gemma3", "gemma3", [], {}), ("idefics3", "idefics3", [], {}),
    ("smolvlm", "smolvlm", [], {}), ("llama", "llama3", [], {}),
    ("llama", "llama3_1", [], {}), ("llama", "llama3_2", [], {}), ("gemma2", "gemma", [], {}),
    ("qwen3", "qwen3_instruct_2507", ["no block of thoughts", "`thinking = false`"], {"thinking": False}),
    ("qwen3_vl", "qwen3", ["a block of thoughts", "`thinking = true`"], {"thinking": True}),
])  # fmt: skip
def test_published_templates(tmp_path, kind, name, words, mended):
    """The default system message and the block of thoughts, with the field that mends them, until it is stated."""
    template = files("trl").joinpath(f"chat_templates/{name}.jinja").read_text("utf-8")
    found = notes(tmp_path, kind, template)
    assert len(found) == bool(words)
    assert all(word in found[0] for word in words)
    assert not notes(tmp_path, kind, template, **mended)


def test_notes_are_logged_once_at_load(tmp_path, caplog):
    """A template of its own that says nothing, where the family says something; none is no news."""
    path = build_tiny(tmp_path)
    with caplog.at_level(logging.WARNING):
        load(Card(name="mine", kind="yes_no", choices=("1", "2"), path=path))
    (record,) = [each for each in caplog.records if each.name == "rewardhub.models.notes"]
    assert "mine: where a prompt has no system message, 'You are a helpful assistant.' is said" in record.getMessage()
    (path / "chat_template.jinja").unlink()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        load(Card(name="mine", kind="yes_no", choices=("1", "2"), path=path))
    assert not [each for each in caplog.records if each.name == "rewardhub.models.notes"]


def test_other_dates_are_told(tmp_path):
    """A Llama whose template states dates of its own: they are the card's to say."""
    template = (
        files("trl").joinpath("chat_templates/llama3_1.jinja").read_text("utf-8").replace("December 2023", "May 2026")
    )
    (found,) = notes(tmp_path, "llama", template)
    assert "Cutting Knowledge Date" in found
