"""Thoughts of answers are written as the published templates of Qwen3 and Qwen3.5 write them, which TRL carries along."""

import importlib.util
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, PreTrainedTokenizerFast

from rewardhub.models import Card, load
from rewardhub.models.inputs import Encoder
from rewardhub.types import Group, Response

spec = importlib.util.spec_from_file_location("tiny_families", Path(__file__).with_name("tiny_families.py"))
tiny_families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_families)

CASES = [
    ("qwen3", "qwen3", None), ("qwen3", "qwen3_instruct_2507", False), ("qwen3_5", "qwen3_5_think", None),
    ("qwen3_vl", "qwen3_vl", None), ("qwen3_vl", "qwen3", True),
]  # fmt: skip
"""A model type, the template of a repository of that type, and the card's switch. Templates of Qwen3-VL's thinking
models treat thoughts as Qwen3's."""

ANSWERS = [
    "red", "\n\nred ", "<think>\nHm.\n</think>\n\nred", "<think>Hm.</think>red", "Hm.\n</think>\n\nred", "<think>Hm.",
    " \n<think>\n\n  Hm.\n\n so\n</think>\n\n\n\nred\n", "",
]  # fmt: skip
EARLIER = [
    {"role": "user", "content": "What?"}, {"role": "assistant", "content": "<think>\nEh.\n</think>\n\nblue"},
    {"role": "user", "content": "So?"},
]  # fmt: skip
TOLD = {"role": "tool", "content": "3"}


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def family(request, tmp_path_factory):
    """A folder, the encoder of it, and what transformers' ``apply_chat_template`` makes of messages."""
    kind, name, thinking = request.param
    path = tiny_families.build(kind, tmp_path_factory.mktemp("thinking") / "checkpoint")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    tokenizer.chat_template = files("trl").joinpath(f"chat_templates/{name}.jinja").read_text("utf-8")

    def ids(messages, **more):
        return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **more)

    return path, Encoder(path, system="", thinking=thinking), ids, thinking


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("prompt", [EARLIER[:1], EARLIER], ids=["first", "third"])
def test_answers(family, prompt, answer):
    """The answer that ends a conversation, and an earlier one: a response of text is one of a message."""
    _, encoder, reference, _ = family
    said = {"role": "assistant", "content": answer}
    wanted = reference([*prompt, said])
    assert encoder.encode(prompt, (), Response(answer)).ids.tolist() == wanted
    assert encoder.encode(prompt, (), Response(messages=(said,))).ids.tolist() == wanted


@pytest.mark.parametrize("thought", ["", "<think>\nHm.\n</think>\n\n"])
def test_trajectories(family, thought):
    """Answers between calls of tools, in the response and in the prompt, and what a tool says last."""
    _, encoder, reference, _ = family
    call = {
        "role": "assistant",
        "content": f"{thought}I look.",
        "tool_calls": [{"name": "zoom", "arguments": {"x": 1}}],
    }
    last = {"role": "assistant", "content": f"{thought}red"}
    for response in ([call, TOLD, last], [call, TOLD, call, TOLD], [call, TOLD, last, EARLIER[2], last]):
        wanted = reference([*EARLIER, *response])
        assert encoder.encode(EARLIER, (), Response(messages=tuple(response))).ids.tolist() == wanted
    prompt = [*EARLIER, call, TOLD]
    assert encoder.encode(prompt, (), Response(last["content"])).ids.tolist() == reference([*prompt, last])


@pytest.mark.parametrize("text", ["<tool_response> means what?", "\n<tool_response>\n3\n</tool_response>",
                                  "<tool_response>\n3\n</tool_response>"])  # fmt: skip
def test_what_a_user_says_in_tags(family, text):
    """Thoughts in front of a user's text that only begins as a tool's answer does are left out."""
    _, encoder, reference, _ = family
    messages = [*EARLIER[:2], {"role": "user", "content": text}, {"role": "assistant", "content": "red"}]
    assert encoder.encode(messages[:-1], (), Response("red")).ids.tolist() == reference(messages)


def test_tags_in_disorder_hide_nothing(family):
    """Templates leave out what stands between two ends of thoughts: here all that a policy wrote is shown."""
    _, encoder, _, _ = family
    for text in ("<think>a</think>b</think>c", "a<think>b</think>c", "<think>a</think>b<think>c</think>d"):
        shown = encoder.tokenizer.decode(encoder.encode("Hi", (), Response(text)).ids)
        assert text in shown


@pytest.mark.parametrize("answer", ["red", "<think>\nHm.\n</think>\n\nred"])
def test_scores_and_replies(family, answer):
    """A head reads the template's conversation, and a yes or no is the next token where the template does not think."""
    path, _, reference, thinking = family
    group = Group("g", EARLIER, (Response(answer),))
    said = {"role": "assistant", "content": answer}
    head = load_file(path / "value_head.safetensors")
    base = AutoModel.from_pretrained(str(path), dtype=torch.float32).eval()
    fields = {"name": "m", "path": path, "thinking": thinking, "system": ""}
    with torch.no_grad():
        state = base(input_ids=torch.tensor([reference([*EARLIER, said])])).last_hidden_state[0, -1]
    wanted = float(head["v_head.summary.weight"][0] @ state + head["v_head.summary.bias"][0])
    assert load(Card(kind="scalar", **fields)).score([group])[0].values == pytest.approx([wanted], abs=1e-5)

    question = {"role": "user", "content": "1 or 2?"}
    asked = reference([*EARLIER, said, question], add_generation_prompt=True, enable_thinking=False)
    card = Card(kind="yes_no", choices=("1", "2"), question="1 or 2?", **fields)
    model = load(card)
    (row,) = model.rows(group)
    assert row.encoded.ids.tolist() == asked
