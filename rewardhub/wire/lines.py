"""Groups and scores as JSON: the group file, the REST bodies, the score lines.

Works on decoded objects; :func:`loads` decodes strictly enough for untrusted text. A ``path`` of a
media is read only where the caller passes ``read_path`` (the command line and the client do, the
server never).
"""

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from rewardhub.errors import InvalidInput
from rewardhub.types import (
    CacheMode,
    Call,
    Column,
    Group,
    GroupScores,
    Media,
    Message,
    Response,
    Score,
    Space,
    Status,
    Timings,
)
from rewardhub.wire.fields import choice, each, expect, join, known_only, natural, numbers, run_name, take, text_or

ReadPath = Callable[[str], bytes]
GROUP_FIELDS = (
    "id", "prompt", "media", "reference", "responses", "problem_type", "recipe", "metadata", "expected",
    "lost",
)  # fmt: skip
CALL_FIELDS = (
    "recipe", "run", "step", "policy_version", "inputs", "deadline_ms", "cache", "priority", "details", "repin",
    "recipe_text",
)  # fmt: skip
_RESPONSE_FIELDS = ("text", "messages", "tokens", "signals", "steps", "media")
_MEDIA_FIELDS = ("sha256", "data", "path", "kind", "width", "height", "space", "frames", "fps", "url")
T = TypeVar("T")
MAX_DEPTH = 100
MAX_DIGITS = 4_000
_HEX = frozenset("0123456789abcdef")


def loads(data: str | bytes) -> Any:
    """The JSON value; NaN and Infinity pass (a scorer judges them), malformed text is ``InvalidInput``."""
    try:
        return _decoder.decode(data if isinstance(data, str) else _text(data))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"not a JSON value: {_reason(error)}") from None


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _integer(digits: str) -> int | str:
    """An integer; one of more digits than Python converts stays text, which no neighbour pays for."""
    return int(digits) if len(digits) <= MAX_DIGITS else digits


def _text(data: bytes) -> str:
    return data.decode(json.detect_encoding(data), "surrogatepass")


def _plain(value: Any) -> Any:
    if not hasattr(value, "tolist"):
        raise TypeError(f"{type(value).__name__} is no JSON value")
    return value.tolist()


# Made once: json.loads and json.dumps make theirs for every call with options.
_decoder = json.JSONDecoder(parse_int=_integer)
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)


def dumps(value: Any) -> str:
    """Compact JSON; a non-finite number becomes null, so that the text is valid everywhere.

    Arrays, tensors and their scalars become lists and numbers; raises ``TypeError`` for what is no JSON.
    """
    try:
        return _encoder.encode(value)
    except ValueError:
        return _encoder.encode(_finite(value))


def to_bytes(value: Any) -> bytes:
    """Compact JSON in UTF-8; half of a surrogate pair stays an escape."""
    return dumps(value).encode("utf-8", "backslashreplace")


def bounded(value: T, where: str) -> T:
    """``value`` if it nests at most ``MAX_DEPTH`` objects and lists, so that nothing later recurses too deep."""
    layer: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        layer = [item for each in layer if isinstance(each, dict | list) for item in _items(each)]
        if not layer:
            return value
    raise InvalidInput(f"{where} is nested deeper than {MAX_DEPTH}", field=where)


def _items(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value if value is None or isinstance(value, str | int) else _finite(_plain(value))


def group_from_json(data: Any, where: str = "", read_path: ReadPath | None = None, default_id: str = "") -> Group:
    """The group of a line; raises ``InvalidInput`` naming the field and what was expected."""
    data = expect(data, dict, where or "group")
    known_only(data, GROUP_FIELDS, where)
    media = each(data, "media", lambda item, at: _media(item, at, read_path), where)
    return Group(
        id=_identifier(data, where) or default_id,
        prompt=_prompt(data.get("prompt"), join(where, "prompt"), len(media)),
        responses=each(data, "responses", lambda item, at: _response(item, at, read_path), where),
        reference=reference_from_json(data.get("reference"), join(where, "reference")),
        media=media,
        problem_type=take(data, "problem_type", str, "", where),
        recipe=take(data, "recipe", str, "", where),
        metadata=bounded(take(data, "metadata", dict, {}, where), join(where, "metadata")),
        expected=natural(data, "expected", where),
        lost=natural(data, "lost", where),
    )


def _identifier(data: Mapping[str, Any], where: str) -> str:
    value = data.get("id")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else take(data, "id", str, "", where)


def _prompt(value: Any, where: str, media: int) -> str | tuple[Message, ...]:
    items = text_or("" if value is None else value, list, where)
    if isinstance(items, str):
        return items
    return tuple(_message(item, f"{where}[{index}]", media) for index, item in enumerate(items))


def _message(value: Any, where: str, media: int) -> Message:
    data = bounded(expect(value, dict, where), where)
    take(data, "role", str, "", where)
    content = data.get("content")
    parts = text_or("" if content is None else content, list, f"{where}.content")
    if not isinstance(parts, str):
        for index, part in enumerate(parts):
            _check_part(expect(part, dict, f"{where}.content[{index}]"), f"{where}.content[{index}]", media)
    return data


def _check_part(part: Mapping[str, Any], where: str, media: int) -> None:
    kind = choice(part, "type", ("text", "image", "video"), where)
    if kind == "text":
        take(part, "text", str, "", where)
        return
    index = expect(part.get("media"), int, f"{where}.media")
    if not 0 <= index < media:
        raise InvalidInput(f"{where}.media is {index}, expected 0 to {media - 1}", field=f"{where}.media")


def reference_from_json(value: Any, where: str) -> Mapping[str, Any]:
    told = text_or({} if value is None else value, dict, where)
    return {"answer": told} if isinstance(told, str) else bounded(told, where)


def _response(value: Any, where: str, read_path: ReadPath | None) -> Response:
    data = text_or(value, dict, where)
    if isinstance(data, str):
        return Response(data)
    known_only(data, _RESPONSE_FIELDS, where)
    media = each(data, "media", lambda item, at: _media(item, at, read_path), where)
    return Response(
        text=take(data, "text", str, "", where),
        messages=each(data, "messages", lambda item, at: _message(item, at, len(media)), where),
        tokens=natural(data, "tokens", where) if data.get("tokens") is not None else None,
        signals=numbers(data, "signals", where),
        steps=each(data, "steps", _span, where),
        media=media,
    )


def _span(value: Any, where: str) -> tuple[int, int]:
    pair = expect(value, list, where)
    if len(pair) != 2 or not 0 <= expect(pair[0], int, f"{where}[0]") <= expect(pair[1], int, f"{where}[1]") < 2**31:
        raise InvalidInput(f"{where} is not [start, end] with 0 <= start <= end < 2^31", field=where)
    return pair[0], pair[1]


def _media(value: Any, where: str, read_path: ReadPath | None) -> Media:
    data = expect(value, dict, where)
    known_only(data, _MEDIA_FIELDS, where)
    content = _media_bytes(data, where, read_path)
    frames = each(data, "frames", hash_of, where)
    sha256 = hash_of(data["sha256"], join(where, "sha256")) if data.get("sha256") else ""
    url = take(data, "url", str, "", where)
    if content is not None:
        sha256 = checked_hash(content, sha256, where)
    elif not sha256 and not frames and not url:
        raise InvalidInput(f"{where} has none of sha256, data, path, frames and url", field=where)
    return Media(
        sha256=sha256,
        kind=cast(Any, choice(data, "kind", ("image", "video"), where)),
        width=natural(data, "width", where),
        height=natural(data, "height", where),
        space=Space(choice(data, "space", tuple(Space), where)),
        frames=frames,
        fps=take(data, "fps", float, 0.0, where),
        url=url,
        data=content,
    )


def _media_bytes(data: Mapping[str, Any], where: str, read_path: ReadPath | None) -> bytes | None:
    if data.get("path") is not None:
        if read_path is None:
            raise InvalidInput(f"{where}.path: a hub opens no path; upload the bytes", field=f"{where}.path")
        return read_path(take(data, "path", str, "", where))
    if data.get("data") is None:
        return None
    try:
        return base64.b64decode(take(data, "data", str, "", where), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{where}.data is not base64", field=f"{where}.data") from None


def checked_hash(content: bytes, sha256: str, where: str) -> str:
    actual = hashlib.sha256(content).hexdigest()
    if sha256 not in {"", actual}:
        raise InvalidInput(f"{where}.sha256 is not the hash of its bytes ({actual})", field=f"{where}.sha256")
    return actual


def hash_of(value: Any, where: str) -> str:
    """A SHA-256 in lower-case hex digits."""
    text = expect(value, str, where)
    if len(text) != 64 or not _HEX.issuperset(text):
        raise InvalidInput(f"{where} is not 64 lower-case hex digits", field=where)
    return text


def _step(data: Mapping[str, Any]) -> int:
    step = take(data, "step", int, 0, "")
    if not -(2**63) <= step < 2**63:
        raise InvalidInput(f"step is {step}, expected an integer of 64 bits", field="step")
    return step


def call_from_json(data: Mapping[str, Any]) -> Call:
    """The call of a REST body; ``groups`` is read apart."""
    known_only(data, (*CALL_FIELDS, "groups"), "")
    return Call(
        recipe=take(data, "recipe", str, "", ""),
        run=run_name(take(data, "run", str, "", ""), "run"),
        step=_step(data) if data.get("step") is not None else None,
        policy_version=take(data, "policy_version", str, "", ""),
        inputs=numbers(data, "inputs", ""),
        deadline_ms=natural(data, "deadline_ms", ""),
        cache=cast(CacheMode, choice(data, "cache", ("use", "bypass", "read_only", "refresh"), "")),
        priority=cast(Any, choice(data, "priority", ("online", "bulk"), "")),
        details=take(data, "details", bool, True, ""),
        repin=take(data, "repin", bool, False, ""),
        recipe_text=take(data, "recipe_text", str, "", ""),
    )


def call_to_json(call: Call) -> dict[str, Any]:
    default = Call()
    values = {name: getattr(call, name) for name in CALL_FIELDS}
    return {name: value for name, value in values.items() if value != getattr(default, name)}


def group_to_json(group: Group, *, media_data: bool = False) -> dict[str, Any]:
    """The line of a group; with ``media_data`` the bytes travel along as base64."""
    line = {
        "id": group.id,
        "prompt": group.prompt if isinstance(group.prompt, str) else list(group.prompt),
        "media": [_media_to_json(media, media_data) for media in group.media],
        "reference": dict(group.reference),
        "responses": [_response_to_json(response, media_data) for response in group.responses],
        "problem_type": group.problem_type,
        "recipe": group.recipe,
        "metadata": dict(group.metadata),
    }
    counts = {"expected": group.expected, "lost": group.lost}
    return line | {name: count for name, count in counts.items() if count}


def _response_to_json(response: Response, media_data: bool) -> str | dict[str, Any]:
    if response == Response(response.text):
        return response.text
    data: dict[str, Any] = {
        "messages": list(response.messages),
        "signals": dict(response.signals),
        "steps": [list(span) for span in response.steps],
        "media": [_media_to_json(media, media_data) for media in response.media],
    }
    line = {"text": response.text} | {key: value for key, value in data.items() if value}
    return line if response.tokens is None else line | {"tokens": response.tokens}


def _media_to_json(media: Media, media_data: bool) -> dict[str, Any]:
    data: dict[str, Any] = {"sha256": media.sha256, "kind": media.kind, "width": media.width}
    data |= {
        "height": media.height,
        "space": str(media.space),
        "frames": list(media.frames),
        "fps": media.fps,
        "url": media.url,
    }
    if media_data and media.data is not None:
        data["data"] = base64.b64encode(media.data).decode()
    return {key: value for key, value in data.items() if value}


def scores_to_json(scores: GroupScores, *, details: bool = True) -> dict[str, Any]:
    """The score line of a group."""
    timings = scores.timings
    return {
        "id": scores.id,
        "scores": [score_to_json(score, details=details) for score in scores],
        "indices": scores.indices or list(range(len(scores))),
        "complete": scores.complete,
        "timings": {"queue_ms": timings.queue_ms, "run_ms": timings.run_ms, "total_ms": timings.total_ms},
    }


def score_to_json(score: Score, *, details: bool = True) -> dict[str, Any]:
    data: dict[str, Any] = {"value": score.value, "status": str(score.status), "blame": str(score.blame)}
    data |= {"retryable": score.retryable, "confidence": score.confidence}
    data["parts"] = {path: score_to_json(part, details=details) for path, part in score.parts.items()}
    data["steps"] = list(score.steps)
    data["details"] = dict(score.details) if details else {}
    return data | {"fingerprint": score.fingerprint, "cached": score.cached}


def scores_from_json(data: Mapping[str, Any]) -> GroupScores:
    """The inverse of :func:`scores_to_json`; trusts the hub that wrote it."""
    rows = [_score_from_json(item) for item in data["scores"]]
    paths = {path: None for row in rows for path in row.parts}
    parts = {path: column_of([row.parts[path] for row in rows]) for path in paths}
    timings = Timings(**data.get("timings", {}))
    indices, complete = list(data.get("indices", [])), bool(data.get("complete", True))
    return GroupScores(data["id"], column_of(rows), parts, indices, complete, timings)


def column_of(rows: list[Score]) -> Column:
    """The column of scores that carry one fingerprint."""
    return Column.of(rows, rows[0].fingerprint if rows else "")


def _score_from_json(data: Mapping[str, Any]) -> Score:
    return Score(
        value=data["value"],
        status=Status(data["status"]),
        confidence=data.get("confidence"),
        parts={path: _score_from_json(part) for path, part in data.get("parts", {}).items()},
        steps=tuple(data.get("steps", ())),
        details=data.get("details", {}),
        fingerprint=data.get("fingerprint", ""),
        cached=data.get("cached", False),
    )
