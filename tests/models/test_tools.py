"""Trajectories with tools are written as each family's own chat template writes them."""

import json
from dataclasses import replace
from importlib.resources import files

import jinja2
import pytest

from rewardhub.errors import InvalidInput
from rewardhub.models.chat import ChatTemplate
from rewardhub.models.families import FAMILIES
from rewardhub.types import Response, Status

CHATML_CALLS = (
    "{%- macro calls(message) -%}{%- for call in message.tool_calls or [] -%}"
    "{{ '\n' if not loop.first or message.content }}<tool_call>\n{{ '{\"name\": \"' + call.name + '\", \"arguments\": ' "
    "+ call.arguments | json + '}' }}\n</tool_call>{%- endfor -%}{%- endmacro -%}"
)
AS_USER = (
    "{%- for message in messages -%}{%- set content = message.content -%}{%- if message.role == 'tool' -%}"
    "{%- if loop.previtem.role != 'tool' -%}<|im_start|>user{%- endif %}\n<tool_response>\n{{ content }}\n"
    "</tool_response>{% if loop.last or loop.nextitem.role != 'tool' %}<|im_end|>\n{% endif %}"
    "{%- else -%}<|im_start|>{{ message.role }}\n{{ content }}{{ calls(message) }}<|im_end|>\n{% endif -%}{%- endfor -%}"
)
BY_ROLE = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
CAPITAL = "{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}<end_of_utterance>\n{% endfor %}"
IPYTHON = (
    "<|begin_of_text|>{% for message in messages %}<|start_header_id|>"
    "{{ 'ipython' if message.role == 'tool' else message.role }}<|end_header_id|>\n\n"
    "{% if message.role == 'tool' %}{{ message.content | json }}{% elif message.tool_calls %}"
    "{{ '{\"name\": \"' + message.tool_calls[0].name + '\", \"parameters\": ' + message.tool_calls[0].arguments | json + '}' }}"
    "{% else %}{{ message.content | trim }}{% endif %}<|eot_id|>{% endfor %}"
)


def published(name):
    """The template of a published checkpoint, which TRL carries along."""
    return files("trl").joinpath(f"chat_templates/{name}.jinja").read_text("utf-8")


PUBLISHED = {"qwen3": "qwen3", "qwen3_vl": "qwen3_vl", "qwen3_5": "qwen3_5_think"}
TEMPLATES = {
    "qwen2": CHATML_CALLS + AS_USER,
    **{kind: published(name) for kind, name in PUBLISHED.items()},
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "internvl", "llava_onevision"), BY_ROLE),
    "smolvlm": "<|im_start|>" + CAPITAL, "idefics3": "<|begin_of_text|>" + CAPITAL, "llama": IPYTHON,
}  # fmt: skip
"""What the published templates of transformers' processors say of calls and of what tools answer."""

ASKED = {"role": "user", "content": "How \n"}
CALL = {"name": "zoom", "arguments": {"x": 1, "in": {"ü": [True]}, "way": "up", "sure": False}}
FIRST, SECOND = ({"role": "tool", "content": text} for text in (' "3"\n<b>', "4"))
ENDS = [{"role": "assistant", "content": "So 4."}]


def said(kind, prompt, response):
    family = FAMILIES[kind].begun_by(FAMILIES[kind].begins)
    template = ChatTemplate(system="", style=family.style)
    pieces = [*template.prompt(prompt, 0), *template.answer(Response(messages=tuple(response)), 0)]
    return "".join(piece if isinstance(piece, str) else piece.token for piece in pieces)


def by_template(kind, messages):
    environment = jinja2.Environment(
        keep_trailing_newline=True, trim_blocks=kind in PUBLISHED, lstrip_blocks=kind in PUBLISHED
    )
    environment.filters["json"] = environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(TEMPLATES[kind]).render(messages=messages)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_what_tools_answer(kind):
    """In the response and in the prompt, one answer and several behind one another."""
    calls = "tool_calls" in TEMPLATES[kind]
    turn = {"role": "assistant", "content": "", "tool_calls": [CALL]} if calls else ENDS[0]
    response = [turn, FIRST, turn, FIRST, SECOND, *ENDS]
    assert said(kind, [ASKED], response) == by_template(kind, [ASKED, *response])
    prompt = [ASKED, turn, FIRST, SECOND]
    assert said(kind, prompt, ENDS) == by_template(kind, [*prompt, *ENDS])


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "qwen3_vl", "qwen3_5"])
def test_what_is_said_beside_calls(kind):
    """Words in front of one call and of several; arguments as OpenAI sends them, in the text of a JSON object."""
    other = {"name": "stop", "arguments": {}}
    response = [
        {"role": "assistant", "content": "Hm.", "tool_calls": [CALL, other]},
        {"role": "assistant", "content": "", "tool_calls": [other, CALL]},
    ]
    wanted = by_template(kind, [ASKED, *response])
    assert said(kind, [ASKED], response) == wanted
    texts = [
        {"function": call | {"arguments": json.dumps(call["arguments"], ensure_ascii=False)}} for call in (CALL, other)
    ]
    sent = [response[0] | {"tool_calls": texts}, response[1] | {"tool_calls": texts[::-1]}]
    assert said(kind, [ASKED], sent) == wanted


def test_what_a_template_cannot_write():
    """Gemma has no turn of a tool, Llama one call a message, Qwen3.5 no arguments but an object's: invalid input."""
    call = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    for kind, response, words in (
        ("gemma3", [*ENDS, FIRST, *ENDS], "no turn of a tool"),
        ("gemma3_text", [*ENDS, FIRST, *ENDS], "no turn of a tool"),
        ("llama", [call | {"tool_calls": [CALL, CALL]}], "one call per message"),
        ("qwen3_5", [call | {"tool_calls": [{"name": "x", "arguments": "[1]"}]}], "no JSON object"),
        ("qwen3_5", [call | {"tool_calls": [{"name": "x", "arguments": "{"}]}], "no JSON object"),
    ):
        with pytest.raises(InvalidInput, match=words):
            said(kind, [ASKED], response)
    # Nothing that a policy wrote is left out, though Llama's template would.
    assert "Hm." in said("llama", [ASKED], [call | {"content": "Hm."}])


def test_a_trajectory_is_scored(scalar, groups):
    """Its tools' turns count: what a tool answered changes the score, and a wrong role is the response's alone."""
    turns = [(*ENDS, {"role": "tool", "content": text}, *ENDS) for text in ("3", "4")]
    responses = (*(Response(messages=each) for each in turns), Response(messages=({"role": "judge", "content": ""},)))
    column = scalar().score([replace(groups[1], responses=responses)])[0]
    assert column.statuses == [Status.OK, Status.OK, Status.INVALID_INPUT]
    assert column.values[0] != column.values[1]
