"""``tool_trace``: the tool calls of a response, in its text or its messages."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rewardhub.errors import ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status

Measure = Literal["valid", "used", "calls", "last_ok"]

_MOST = 1_000
_LONGEST = 100_000
_CALL, _RESULT = ("<tool_call>", "</tool_call>"), ("<tool_response>", "</tool_response>")
_FAILED = ("error", "traceback")

_ZOOM = '<tool_call>{"name": "zoom", "arguments": {"bbox_2d": [0, 0, 5, 5]}}</tool_call>'
_CROP = '<tool_call>{"name": "crop", "arguments": {"start": 1, "end": 4}}</tool_call>'
_OK, _BAD = "<tool_response>done</tool_response>", "<tool_response>Error: out of range</tool_response>"
_TOOLS = {"tools": ["zoom"]}
_MESSAGES = Response(
    messages=(
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "1", "function": {"name": "zoom", "arguments": '{"bbox_2d": [0, 0, 5, 5]}'}}]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
        {"role": "assistant", "content": "It is red."},
    )
)  # fmt: skip
_EXAMPLES = (
    Example(f"I look. {_ZOOM}{_OK} It is red.", {}, 1.0),
    Example(f"{_ZOOM}{_OK}", _TOOLS, 1.0),
    Example(f"{_CROP}{_OK}", _TOOLS, 0.0),
    Example('I look. <tool_call>{"name": "zoom", "arguments": {}}', {}, 0.0),
    Example("<tool_call>zoom in</tool_call>", {}, 0.0),
    Example('<tool_call>{"arguments": {}}</tool_call>', {}, 0.0),
    Example(f"{_CROP}{_OK}{_CROP}{_OK}", {}, 0.0),
    Example(f"{_CROP}{_OK}{_CROP}{_OK}", {}, 1.0, {"repeats": True}),
    Example("It is red.", {}, 1.0),
    Example("It is red.", {}, 0.0, {"measure": "used"}),
    Example(f"{_ZOOM}{_OK}", {}, 1.0, {"measure": "used"}),
    Example(f"{_ZOOM}{_BAD}", {}, 0.0, {"measure": "used"}),
    Example(f"{_ZOOM}{_OK}{_CROP}{_OK}", {}, 2.0, {"measure": "calls"}),
    Example(f"{_ZOOM}{_OK}{_CROP}{_BAD}", {}, 0.0, {"measure": "last_ok"}),
    Example(f"{_ZOOM}{_BAD}{_CROP}{_OK}", {}, 1.0, {"measure": "last_ok"}),
    Example(_MESSAGES, {}, 1.0, {"measure": "used"}),
    Example("", {}, 0.0, {"measure": "calls"}),
    Example(f"{_ZOOM}{_OK}", {"tools": []}, None, status=Status.REFERENCE_UNPARSEABLE),
)


@dataclass
class _Call:
    """A tool call: what is wrong with it, or nothing; and what came back."""

    key: str = ""
    name: str = ""
    fault: str = ""
    failed: bool = False


@verifier("tool_trace", range=(0.0, 1000.0), examples=_EXAMPLES)
def tool_trace(response: Response, reference: Json, *, measure: Measure = "valid", repeats: bool = False) -> Score:
    """What a trajectory's tool calls are: well formed, used with success, how many, and whether the last worked.

    Calls stand in the messages (``tool_calls``, answered by ``role: tool``), or where there are none as
    ``<tool_call>{"name", "arguments"}</tool_call>`` in the text, answered by ``<tool_response>``. A result
    failed where its message says ``is_error``, its JSON has an ``error``, or it begins with "Error" or
    "Traceback". ``reference.tools``, if given, lists the tools that exist.

    ``valid``: 1.0 where every call closes, is a JSON object with a name, names a tool that exists and, unless
    ``repeats``, is not one made before (DeepSport counts a repeated interval as a format error; Chain-of-Focus
    an unclosed tag). ``used``: 1.0 with at least one valid call that did not fail (VITAL). ``calls``: their
    number, at most 1,000 (Pixel Reasoner's count). ``last_ok``: 1.0 unless the last call failed (Pixel
    Reasoner gives a correct answer 0 then). A response without calls is valid, not used.
    Details: ``calls``, ``failed``, ``distinct``.
    """
    tools = _tools(reference)
    calls = list(_from_messages(response)) if response.messages else list(_from_text(response.text))
    reason = _fault(calls, tools, repeats)
    good = [call for call in calls if not call.fault and not call.failed]
    value = {
        "valid": float(not reason),
        "used": float(bool(good)),
        "calls": float(min(len(calls), _MOST)),
        "last_ok": float(not calls or (not calls[-1].failed and not calls[-1].fault)),
    }[measure]
    details: dict[str, Any] = {
        "calls": len(calls),
        "failed": sum(call.failed for call in calls),
        "distinct": len({call.key for call in calls}),
    }
    return Score(value, details=details | ({"reason": reason} if reason else {}))


def _tools(reference: Json) -> frozenset[str] | None:
    if "tools" not in reference:
        return None
    tools = reference["tools"]
    if not isinstance(tools, list | tuple) or not tools or not all(isinstance(tool, str) for tool in tools):
        raise ReferenceUnparseable("reference.tools must be names", field="reference.tools")
    return frozenset(tools)


def _fault(calls: list[_Call], tools: frozenset[str] | None, repeats: bool) -> str:
    seen: set[str] = set()
    for number, call in enumerate(calls[:_MOST], 1):
        if call.fault:
            return f"call {number}: {call.fault}"
        if tools is not None and call.name not in tools:
            return f"call {number}: no such tool"
        if call.key in seen and not repeats:
            return f"call {number} repeats another"
        seen.add(call.key)
    return f"more than {_MOST} calls" if len(calls) > _MOST else ""


def _from_text(text: str) -> Iterator[_Call]:
    for piece in text.split(_CALL[0], _MOST + 1)[1:]:
        inner, closed, rest = piece.partition(_CALL[1])
        call = _read(inner) if closed else _Call(fault="the tag does not close")
        result = rest.partition(_RESULT[0])[2].partition(_RESULT[1])[0]
        call.failed = _has_failed(result)
        yield call


def _from_messages(response: Response) -> Iterator[_Call]:
    results = {
        str(message.get("tool_call_id", "")): message for message in response.messages if message.get("role") == "tool"
    }
    for message in response.messages:
        made = message.get("tool_calls")
        for each in made if isinstance(made, list | tuple) else ():
            function = each.get("function", each) if isinstance(each, Mapping) else {}
            call = _of(function if isinstance(function, Mapping) else {})
            result = results.get(str(each.get("id", "")) if isinstance(each, Mapping) else "", {})
            call.failed = bool(result.get("is_error")) or _has_failed(result.get("content", ""))
            yield call


def _read(text: str) -> _Call:
    if len(text) > _LONGEST:
        return _Call(fault=f"over {_LONGEST} characters")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return _Call(fault="no JSON")
    return _of(found) if isinstance(found, Mapping) else _Call(fault="no JSON object")


def _of(found: Mapping[str, Any]) -> _Call:
    name, arguments = found.get("name"), found.get("arguments", {})
    if not isinstance(name, str) or not name:
        return _Call(fault="no name")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments[:_LONGEST])
        except (ValueError, RecursionError):
            return _Call(name=name, fault="the arguments are no JSON")
    if not isinstance(arguments, Mapping):
        return _Call(name=name, fault="the arguments are no JSON object")
    return _Call(json.dumps([name, arguments], sort_keys=True, default=str), name)


def _has_failed(result: Any) -> bool:
    if isinstance(result, Mapping):
        return bool(result.get("error"))
    text = result.strip()[:_LONGEST] if isinstance(result, str) else ""
    if text.startswith("{"):
        try:
            return _has_failed(json.loads(text))
        except (ValueError, RecursionError):
            return False
    return text.lower().startswith(_FAILED)
