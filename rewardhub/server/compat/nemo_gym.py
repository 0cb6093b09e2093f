"""A resource server of NeMo Gym: ``POST /verify``, one sample per call.

Request: ``{"responses_create_params": {"input"}, "response": {"output"}, …}``, both in the form of OpenAI's Responses,
with the fields of the data set's row beside them: ``recipe``, where the address names none, and the reference under the
first of ``REFERENCES`` that is there, or in ``verifier_metadata``. Response: the request with a ``reward``. A failed
score fails the request: the protocol's own word for a failure stands beside a reward of 0.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from rewardhub.errors import InvalidInput
from rewardhub.server.compat.values import values_of
from rewardhub.types import GroupScores
from rewardhub.wire.data_url import bytes_of, is_data_url
from rewardhub.wire.fields import expect, take, text_or
from rewardhub.wire.samples import as_reference

REFERENCES = ("reference", "expected_answer", "answer", "ground_truth", "solution")
_TEXTS = frozenset({"input_text", "output_text", "text", "refusal"})
Message = dict[str, Any]


def groups(body: Any) -> list[Mapping[str, Any]]:
    """The group of the sample; raises ``InvalidInput`` that names the field at fault."""
    row = expect(body, dict, "body")
    for name, inside in (("responses_create_params", "input"), ("response", "output")):
        if expect(row.get(name), dict, name).get(inside) is None:
            raise InvalidInput(f"{name}.{inside} is missing", field=f"{name}.{inside}")
    media: list[Any] = []
    asked = row["responses_create_params"]
    told = text_or(asked["input"], list, "responses_create_params.input")
    prompt = [{"role": "user", "content": told}] if isinstance(told, str) else list(_messages(told, "input", media))
    if system := take(asked, "instructions", str, "", "responses_create_params"):
        prompt.insert(0, {"role": "system", "content": system})
    shown = len(media)
    said = list(_messages(expect(row["response"]["output"], list, "response.output"), "output", media))
    if len(media) > shown:
        raise InvalidInput("response.output holds an image, expected texts and calls", field="response.output")
    recipe = take(row, "recipe", str, "", "")
    group = {"prompt": prompt, "media": media, "reference": _reference(row), "responses": [_response(said)]}
    return [group | {"recipe": recipe}]


def reply(answers: list[GroupScores], body: Any) -> Any:
    """The row with its reward; raises the error of a score without a value."""
    (value,) = values_of(answers)
    return {**body, "reward": value}


def _reference(row: Mapping[str, Any]) -> Mapping[str, Any]:
    for place in (row, take(row, "verifier_metadata", dict, {}, "")):
        for name in REFERENCES:
            if place.get(name) is not None:
                return as_reference(place[name])
    return {}


def _response(said: list[Message]) -> Mapping[str, Any]:
    answers = [each["content"] for each in said if each["role"] == "assistant" and "tool_calls" not in each]
    text = answers[-1] if answers else ""
    return {"text": text} if len(said) <= 1 and answers else {"text": text, "messages": said}


def _messages(items: list[Any], where: str, media: list[Any]) -> Iterator[Message]:
    """Chat messages of the items; thoughts that stand apart are none."""
    for index, item in enumerate(items):
        place = f"{where}[{index}]"
        data = expect(item, dict, place)
        kind = take(data, "type", str, "message", place)
        if kind == "message":
            yield {"role": take(data, "role", str, "assistant", place), "content": _content(data, place, media)}
        elif kind == "function_call":
            call = {"name": take(data, "name", str, "", place), "arguments": take(data, "arguments", str, "", place)}
            yield {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]}
        elif kind == "function_call_output":
            yield {"role": "tool", "content": take(data, "output", str, "", place)}
        elif kind != "reasoning":
            expected = "a message, a call or its output"
            raise InvalidInput(f"{place}.type is {kind!r}, expected {expected}", field=f"{place}.type")


def _content(item: Mapping[str, Any], where: str, media: list[Any]) -> Any:
    parts = text_or(item.get("content") or "", list, f"{where}.content")
    if isinstance(parts, str):
        return parts
    found = [_part(part, f"{where}.content[{index}]", media) for index, part in enumerate(parts)]
    texts = [part["text"] for part in found if part["type"] == "text"]
    return "".join(texts) if len(texts) == len(found) else found


def _part(part: Any, where: str, media: list[Any]) -> Message:
    data = expect(part, dict, where)
    kind = take(data, "type", str, "", where)
    if kind in _TEXTS:
        return {"type": "text", "text": take(data, "refusal" if kind == "refusal" else "text", str, "", where)}
    url = data.get("image_url") if kind == "input_image" else None
    if not isinstance(url, str) or not is_data_url(url):
        raise InvalidInput(f"{where} must be a text, or an image as a data URL", field=where)
    media.append({"data": base64.b64encode(bytes_of(url, where)).decode()})
    return {"type": "image", "media": len(media) - 1}
