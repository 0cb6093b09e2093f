"""OpenAI's ``POST /v1/chat/completions`` and ``GET /v1/models`` on the hub's own generative models.

Field names: the public API of OpenAI, as judges and other clients of it speak it. Replies are greedy and
whole: no sampling, no streaming, one choice. ``model`` is the name of a card of the generative kind.
"""

import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rewardhub.errors import InvalidInput, nearest
from rewardhub.server.compat.values import error_of
from rewardhub.types import Call, Group, Media, Response, Score, Status
from rewardhub.wire.data_url import bytes_of, is_data_url
from rewardhub.wire.fields import expect
from rewardhub.wire.lines import bounded

_FIELDS = frozenset({
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "stream",
    "response_format", "seed", "user",
})  # fmt: skip
_FAILURES = frozenset({
    Status.UNAVAILABLE, Status.TIMEOUT, Status.INVALID_INPUT, Status.OVER_LIMIT, Status.CANCELLED,
    Status.INTERNAL_ERROR,
})  # fmt: skip


def question(body: Any) -> tuple[Group, Call]:
    """The group and call of a request; raises ``InvalidInput`` that names the field at fault."""
    if not isinstance(body, Mapping):
        raise InvalidInput("the body must be an object", field="body")
    if unknown := sorted(set(body) - _FIELDS):
        raise InvalidInput(f"unknown field {unknown[0]!r}{nearest(unknown[0], _FIELDS)}", field=unknown[0])
    for name, only in (("n", (None, 1)), ("stream", (None, False)), ("temperature", (None, 0)), ("top_p", (None, 1))):
        if body.get(name) not in only:
            raise InvalidInput(f"{name} must be {only[1]}: replies are greedy, whole and one", field=name)
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not expect(model, str, "model"):
        raise InvalidInput("model must name a generative model of this hub", field="model")
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("messages must be a list of messages", field="messages")
    media: list[Media] = []
    prompt = tuple(_message(each, f"messages[{index}]", media) for index, each in enumerate(messages))
    group = Group("chat", prompt, (Response(),), media=tuple(media), metadata=_options(body))
    return group, Call(recipe=model, cache="bypass")


def completion(score: Score, model: str) -> dict[str, Any]:
    """The answer; raises the error that the score's status stands for."""
    details = score.details
    if score.status in _FAILURES:
        raise error_of(score)
    if not isinstance(details.get("text"), str) or "completion_tokens" not in details:
        raise InvalidInput(f"{model} is not a generative model", field="model")
    message = {"role": "assistant", "content": details["text"]}
    prompt, written = int(details["prompt_tokens"]), int(details["completion_tokens"])
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}", "object": "chat.completion", "created": int(time.time()),
        "model": model, "choices": [{"index": 0, "message": message, "finish_reason": details["finish"]}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written},
    }  # fmt: skip


def _options(body: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    if most is not None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise InvalidInput("max_tokens must be a whole number from 1", field="max_tokens")
        options["max_tokens"] = most
    form = body.get("response_format")
    if form is not None and form != {"type": "text"}:
        schema = form.get("json_schema") if isinstance(form, Mapping) and form.get("type") == "json_schema" else None
        if not isinstance(schema, Mapping) or not isinstance(schema.get("schema"), Mapping):
            raise InvalidInput("response_format must be text or a json_schema", field="response_format")
        options["schema"] = bounded(schema["schema"], "response_format")
    return options


def _message(message: Any, where: str, media: list[Media]) -> dict[str, Any]:
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, str | list) or not isinstance(message.get("role"), str):
        raise InvalidInput(f"{where} must have a role and content", field=where)
    role = expect(message["role"], str, f"{where}.role")
    if isinstance(content, str):
        return {"role": role, "content": expect(content, str, f"{where}.content")}
    parts = [_part(part, f"{where}.content[{index}]", media) for index, part in enumerate(content)]
    return {"role": role, "content": parts}


def _part(part: Any, where: str, media: list[Media]) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": expect(part["text"], str, f"{where}.text")}
    image = part.get("image_url") if kind == "image_url" else None
    url = image.get("url") if isinstance(image, Mapping) else None
    if not isinstance(url, str) or not (is_data_url(url) or url.startswith(("https://", "http://"))):
        raise InvalidInput(f"{where} must be a text, or an image as a data URL", field=where)
    media.append(Media.from_bytes(bytes_of(url, where)) if is_data_url(url) else Media(url=url))
    return {"type": "image", "media": len(media) - 1}


def models(names: Iterable[str], started: float) -> dict[str, Any]:
    """The list of ``GET /v1/models``; ``started`` is when the hub began, in seconds of the epoch."""
    rows = [{"id": name, "object": "model", "created": int(started), "owned_by": "rewardhub"} for name in names]
    return {"object": "list", "data": rows}
