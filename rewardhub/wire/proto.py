"""Groups, calls and scores as protobuf: columns on the wire, one fingerprint table per reply.

An empty list of a ``Columns`` message is the default for every row, so a column of plain ok values is
one packed list of doubles.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from rewardhub.errors import InvalidInput, RewardHubError
from rewardhub.types import (
    CacheMode,
    Call,
    Column,
    Group,
    GroupScores,
    Media,
    Message,
    Response,
    Space,
    Status,
    Timings,
)
from rewardhub.v1 import types_pb2 as pb
from rewardhub.wire.fields import expect, run_name
from rewardhub.wire.holders import check_holders
from rewardhub.wire.lines import bounded, checked_hash, hash_of, loads, reference_from_json, to_bytes
from rewardhub.wire.plain import is_plain, plain_responses

CACHE_MODES: tuple[CacheMode, ...] = ("use", "bypass", "read_only", "refresh")
PRIORITIES = ("online", "bulk")
KINDS = ("image", "video")
SPACES = tuple(Space)
MAX_HOLDERS = 200_000
_TEXT = pb.Response.DESCRIPTOR.fields_by_name["text"]


def group_to_proto(group: Group, *, with_responses: bool = True, media_data: bool = False) -> pb.Group:
    message = pb.Group(id=group.id, problem_type=group.problem_type, recipe=group.recipe)
    message.expected, message.lost = group.expected, group.lost
    if isinstance(group.prompt, str):
        message.prompt = group.prompt
    else:
        message.messages.extend(map(_message_to_proto, group.prompt))
    if group.reference:
        message.reference = to_bytes(dict(group.reference))
    if group.metadata:
        message.metadata = to_bytes(dict(group.metadata))
    message.media.extend(media_to_proto(media, media_data) for media in group.media)
    if with_responses:
        add = message.responses.add
        for response in group.responses:
            if is_plain(response):
                add().text = response.text
            else:
                add().CopyFrom(response_to_proto(response, media_data))
    return message


def group_from_proto(message: pb.Group, where: str = "group") -> Group:
    """The group; raises ``InvalidInput`` naming the field."""
    return Group(
        id=message.id,
        prompt=_messages(message.messages, f"{where}.messages", len(message.media)) or message.prompt,
        responses=responses_from_proto(message.responses, where),
        reference=_reference(message.reference, f"{where}.reference"),
        media=_media(message.media, f"{where}.media"),
        problem_type=message.problem_type,
        recipe=message.recipe,
        metadata=_object(message.metadata, f"{where}.metadata"),
        expected=message.expected,
        lost=message.lost,
    )


def responses_from_proto(messages: Sequence[pb.Response], where: str) -> tuple[Response, ...]:
    texts = _texts(messages)
    if texts is not None:
        return plain_responses(texts)
    return tuple(_response(each, f"{where}.responses[{index}]") for index, each in enumerate(messages))


def _texts(messages: Iterable[pb.Response]) -> list[str] | None:
    """The texts of responses that hold nothing else, which is the common case; None where one does."""
    texts: list[str] = []
    for each in messages:
        present = each.ListFields()
        if present and (len(present) > 1 or present[0][0] is not _TEXT):
            return None
        texts.append(present[0][1] if present else "")
    return texts


def response_to_proto(response: Response, media_data: bool = False) -> pb.Response:
    message = pb.Response(text=response.text)
    if is_plain(response):
        return message
    if response.tokens is not None:
        message.tokens = response.tokens
    if response.signals:
        message.signals.update(response.signals)
    message.messages.extend(map(_message_to_proto, response.messages))
    message.steps.extend(pb.Span(start=start, end=end) for start, end in response.steps)
    message.media.extend(media_to_proto(media, media_data) for media in response.media)
    return message


def _response(message: pb.Response, where: str) -> Response:
    tokens = message.tokens if message.HasField("tokens") else None
    return Response(
        text=message.text,
        messages=_messages(message.messages, f"{where}.messages", len(message.media)),
        tokens=tokens,
        signals=_finite(dict(message.signals), f"{where}.signals"),
        steps=tuple((span.start, span.end) for span in message.steps),
        media=_media(message.media, f"{where}.media"),
    )


def _finite(numbers: Mapping[str, float], where: str) -> Mapping[str, float]:
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise InvalidInput(f"{where}.{name} is not finite", field=f"{where}.{name}")
    return numbers


def media_to_proto(media: Media, with_data: bool = False) -> pb.Media:
    return pb.Media(
        sha256=media.sha256,
        kind=cast(Any, KINDS.index(media.kind)),
        width=media.width,
        height=media.height,
        space=cast(Any, SPACES.index(media.space)),
        frames=media.frames,
        fps=media.fps,
        url=media.url,
        data=(media.data or b"") if with_data else b"",
    )


def media_from_proto(message: pb.Media, where: str) -> Media:
    sha256 = message.sha256
    if message.data:
        sha256 = checked_hash(message.data, sha256, where)
    elif sha256 or not (message.frames or message.url):
        hash_of(sha256, f"{where}.sha256")
    return Media(
        sha256=sha256,
        kind=cast(Any, _pick(KINDS, message.kind, f"{where}.kind")),
        width=message.width,
        height=message.height,
        space=_pick(SPACES, message.space, f"{where}.space"),
        frames=tuple(hash_of(frame, f"{where}.frames") for frame in message.frames),
        fps=message.fps,
        url=message.url,
        data=message.data or None,
    )


def _media(messages: Iterable[pb.Media], where: str) -> tuple[Media, ...]:
    return tuple(media_from_proto(each, f"{where}[{index}]") for index, each in enumerate(messages))


def _pick(values: Sequence[Any], index: int, where: str) -> Any:
    if not 0 <= index < len(values):
        raise InvalidInput(f"{where} is {index}, expected 0 to {len(values) - 1}", field=where)
    return values[index]


def _message_to_proto(message: Message) -> pb.Message:
    content = message.get("content") or ""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    extra = {key: value for key, value in message.items() if key not in {"role", "content"}}
    return pb.Message(
        role=message.get("role", ""),
        parts=[
            pb.Part(text=part.get("text", ""))
            if part.get("type") == "text"
            else pb.Part(media=cast(int, part["media"]))
            for part in parts
        ],
        extra=to_bytes(extra) if extra else b"",
    )


def _messages(messages: Iterable[pb.Message], where: str, media: int) -> tuple[Message, ...]:
    return tuple(_message(each, f"{where}[{index}]", media) for index, each in enumerate(messages))


def _message(message: pb.Message, where: str, media: int) -> Message:
    parts: list[Mapping[str, Any]] = []
    for index, part in enumerate(message.parts):
        if part.WhichOneof("content") != "media":
            parts.append({"type": "text", "text": part.text})
        elif part.media < media:
            parts.append({"type": "image", "media": part.media})
        else:
            field = f"{where}.parts[{index}].media"
            raise InvalidInput(f"{field} is {part.media}, expected 0 to {media - 1}", field=field)
    plain = len(parts) == 1 and parts[0]["type"] == "text"
    content = parts[0]["text"] if plain else parts
    return {**_object(message.extra, f"{where}.extra"), "role": message.role, "content": content}


def _object(data: bytes, where: str) -> Mapping[str, Any]:
    return bounded(expect(_decoded(data, where), dict, where), where) if data else {}


def _reference(data: bytes, where: str) -> Mapping[str, Any]:
    return reference_from_json(_decoded(data, where), where) if data else {}


def _decoded(data: bytes, where: str) -> Any:
    check_holders(data, MAX_HOLDERS, where)
    try:
        return loads(data)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error.message}", field=where) from None


def call_to_proto(call: Call) -> pb.CallOptions:
    message = pb.CallOptions(
        recipe=call.recipe,
        run=call.run,
        policy_version=call.policy_version,
        inputs=call.inputs,
        deadline_ms=call.deadline_ms,
        cache=cast(Any, CACHE_MODES.index(call.cache)),
        priority=cast(Any, PRIORITIES.index(call.priority)),
        details=call.details,
        repin=call.repin,
        inline_recipe=call.recipe_text,
    )
    if call.step is not None:
        message.step = call.step
    return message


def call_from_proto(message: pb.CallOptions) -> Call:
    return Call(
        recipe=message.recipe,
        run=run_name(message.run, "options.run"),
        step=message.step if message.HasField("step") else None,
        policy_version=message.policy_version,
        inputs=_finite(dict(message.inputs), "options.inputs"),
        deadline_ms=message.deadline_ms,
        cache=_pick(CACHE_MODES, message.cache, "options.cache"),
        priority=_pick(PRIORITIES, message.priority, "options.priority"),
        details=message.details,
        repin=message.repin,
        recipe_text=message.inline_recipe,
    )


class Fingerprints:
    """The fingerprint table of one reply."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def index(self, fingerprint: str) -> int:
        return self._index.setdefault(fingerprint, len(self._index))

    def table(self) -> list[str]:
        return list(self._index)


def scores_to_proto(scores: GroupScores, table: Fingerprints, *, details: bool) -> pb.GroupScores:
    timings = scores.timings
    plain = scores.complete and scores.indices == list(range(len(scores)))
    return pb.GroupScores(
        id=scores.id,
        indices=[] if plain else scores.indices,
        total=_columns_to_proto(scores.total, table, details),
        parts=[
            pb.PartColumns(path=path, columns=_columns_to_proto(column, table, details))
            for path, column in scores.parts.items()
        ],
        timings=pb.Timings(queue_ms=timings.queue_ms, run_ms=timings.run_ms, total_ms=timings.total_ms),
        complete=scores.complete,
    )


def _columns_to_proto(column: Column, table: Fingerprints, details: bool) -> pb.Columns:
    message = pb.Columns(fingerprint=table.index(column.fingerprint))
    if column.statuses.count(Status.OK) == len(column):
        message.values.extend(cast(list[float], column.values))
    else:
        message.values.extend(_with_nan(column.values))
        message.present.extend(value is not None for value in column.values)
        message.statuses.extend(cast(Any, [status.code for status in column.statuses]))
    if column.cached and any(column.cached):
        message.cached.extend(column.cached)
    if column.confidence:
        message.confidence.extend(math.nan if value is None else value for value in column.confidence)
    if column.steps:
        message.steps.extend(pb.StepScores(values=_with_nan(steps)) for steps in column.steps)
    if details and column.details:
        message.details.extend(to_bytes(each) if each else b"" for each in column.details)
    return message


def _with_nan(values: Iterable[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def scores_from_proto(message: pb.GroupScores, fingerprints: Sequence[str]) -> GroupScores:
    """The scores of a reply; trusts the hub that wrote it."""
    timings = message.timings
    total = _columns_from_proto(message.total, fingerprints)
    return GroupScores(
        id=message.id,
        total=total,
        parts={part.path: _columns_from_proto(part.columns, fingerprints) for part in message.parts},
        indices=list(message.indices) or list(range(len(total))),
        complete=message.complete,
        timings=Timings(timings.queue_ms, timings.run_ms, timings.total_ms),
    )


def _columns_from_proto(message: pb.Columns, fingerprints: Sequence[str]) -> Column:
    values: list[float | None] = list(message.values)
    if message.present:
        values = [value if present else None for value, present in zip(values, message.present, strict=True)]
    statuses = [Status.from_code(code) for code in message.statuses] or [Status.OK] * len(values)
    details = [loads(each) if each else None for each in message.details] or None
    return Column(
        values,
        statuses,
        fingerprint=fingerprints[message.fingerprint] if fingerprints else "",
        details=details,
        confidence=_without_nan(message.confidence) or None,
        steps=[tuple(_without_nan(each.values)) for each in message.steps] or None,
        cached=list(message.cached) or None,
    )


def _without_nan(values: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def error_to_proto(error: RewardHubError) -> pb.Error:
    return pb.Error(
        code=error.code,
        message=error.message,
        field=error.field,
        retryable=error.retryable,
        retry_after_ms=int(error.retry_after_s * 1000),
    )
