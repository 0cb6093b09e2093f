"""What a message calls of tools, and what tools answer, as the families' published chat templates write it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rewardhub.errors import InvalidInput

Calls = Literal["json", "xml", "parameters", "none"]
"""The form of a call: Qwen2.5's and Qwen3's; Qwen3.5's; that of Llama 3.1 and later; they are refused."""

Answers = Literal["role", "user", "quoted", "none"]
"""The turn of a tool: under its role's name; a user's, in tags; as a JSON text; or there is no such turn."""

BEFORE, BEHIND = "<tool_response>\n", "\n</tool_response>"
"""What stands around a tool's answer within a user's turn."""

BETWEEN: Mapping[Calls, str] = {"json": "\n", "xml": "\n\n", "parameters": "\n", "none": ""}
"""What stands between the words of a message and its first call."""


def with_calls(said: str, calls: Any, form: Calls, field: str) -> str:
    """A message's last words and what it calls behind them; raises ``InvalidInput`` for what is no call.

    A family whose own template knows no calls gets the form "json". Llama's leaves out what is said beside a call:
    here it stays, since a policy's words are not to be hidden from its reward.
    """
    if not isinstance(calls, list | tuple):
        raise InvalidInput("tool_calls is not a list", field=field)
    if form == "none":
        raise InvalidInput("calls of tools are not written for this model", field=field)
    if form == "parameters" and len(calls) > 1:
        raise InvalidInput("the model's own chat template has one call per message", field=field)
    written = "\n".join(_call(call, form, field) for call in calls)
    return f"{said}{BETWEEN[form]}{written}" if said and written else said or written


def _call(call: Any, form: Calls, field: str) -> str:
    made = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(made, Mapping) or not isinstance(made.get("name"), str):
        raise InvalidInput("a tool call names no function", field=field)
    name, given = made["name"], made.get("arguments", {})
    if form == "xml":
        return f"<tool_call>\n<function={name}>\n{_parameters(given, field)}</function>\n</tool_call>"
    arguments = given if isinstance(given, str) else _json(given)
    if form == "parameters":
        return f'{{"name": {_json(name)}, "parameters": {arguments}}}'
    return f'<tool_call>\n{{"name": {_json(name)}, "arguments": {arguments}}}\n</tool_call>'


def _parameters(given: Any, field: str) -> str:
    """The arguments one by one, which may come as the text of a JSON object."""
    try:
        arguments = json.loads(given or "{}") if isinstance(given, str) else given
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, Mapping):
        raise InvalidInput("the arguments of a tool call are no JSON object", field=field)
    return "".join(f"<parameter={name}>\n{_value(value)}\n</parameter>\n" for name, value in arguments.items())


def _value(value: Any) -> str:
    nested = isinstance(value, Mapping | Sequence) and not isinstance(value, str)
    return _json(value) if nested else str(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
