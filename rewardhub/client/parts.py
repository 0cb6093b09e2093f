"""Groups from what people and trainers have at hand: texts, numbers, images of any make."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsIndex

from rewardhub.errors import InvalidInput
from rewardhub.types import MAX_CHARS, Call, Group, Media, Message, Response
from rewardhub.wire.data_url import bytes_of, is_data_url
from rewardhub.wire.fields import describe, expect
from rewardhub.wire.lines import call_from_json, call_to_json, dumps, loads
from rewardhub.wire.samples import as_reference

_NO_PNG = ("CMYK", "YCbCr", "HSV", "LAB")
"""Modes of PIL that PNG does not know and RGB can stand for."""


def sendable(group: Any, name: str) -> Group:
    """The group, with this id where it has none, its responses as :func:`readable`; raises ``InvalidInput`` where it
    or a part of it is no such thing.
    """
    found: Group = expect(group, Group, "group")
    if not isinstance(group.id, str):  # half a surrogate pair in it fails that group alone, later
        raise InvalidInput(f"group.id is {describe(group.id)}, expected text", field="id")
    for field, kind in (("responses", Response), ("media", Media)):
        items = getattr(found, field)
        if {*map(type, items)} - {kind}:
            for index, each in enumerate(items):
                expect(each, kind, f"group {found.id!r}: {field}[{index}]")
    expected: Any = found.expected
    if not isinstance(expected, SupportsIndex):
        expect(expected, int, f"group {found.id!r}: expected")
    responses = readable(found.responses)
    return (
        found if found.id and responses is found.responses else replace(found, id=found.id or name, responses=responses)
    )


def readable(responses: tuple[Response, ...]) -> tuple[Response, ...]:
    """The responses; of a text that is over the limit of every scorer so much that it still is.

    So a response is ``over_limit`` over either door, whatever a message or a body may hold.
    """
    if not [each for each in responses if isinstance(each.text, str) and len(each.text) > MAX_CHARS]:
        return responses
    return tuple(
        replace(each, text=each.text[: MAX_CHARS + 1]) if isinstance(each.text, str) else each for each in responses
    )


def sendable_call(call: Any) -> Call:
    """The call, checked as a hub checks it; raises ``InvalidInput`` that names the field."""
    return call_from_json(loads(dumps(call_to_json(expect(call, Call, "call")))))


def make_group(
    responses: Iterable[str | Response],
    *,
    prompt: str | Sequence[Message] = "",
    reference: Any = None,
    images: Iterable[Any] = (),
    group_id: str = "",
) -> Group:
    """A whole group. ``reference`` is an object, or the answer itself; ``images`` see :func:`as_media`."""
    for name, value in (("responses", responses), ("images", images)):
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise InvalidInput(f"{name} is {describe(value)}, expected a list", field=name)
    return Group(
        id=group_id,
        prompt=prompt if isinstance(prompt, str) else tuple(prompt),
        responses=tuple(Response(each) if isinstance(each, str) else each for each in responses),
        reference=as_reference(reference),
        media=tuple(map(as_media, images)),
    )


def as_media(image: Any) -> Media:
    """The media of encoded bytes, a path, a ``data:`` URL, a PIL image (as PNG), or a row of an image
    column (``{"bytes", "path"}``). Raises ``InvalidInput`` for anything else; no URL is fetched.
    """
    if isinstance(image, Media):
        return image
    if isinstance(image, bytes | bytearray | memoryview):
        return Media.from_bytes(bytes(image))
    if isinstance(image, Mapping) and (image.get("bytes") or image.get("path")):
        return as_media(image.get("bytes") or Path(image["path"]))
    if isinstance(image, str) and is_data_url(image):
        return Media.from_bytes(bytes_of(image, "images"))
    if isinstance(image, str | Path) and "://" not in str(image):
        return Media.from_bytes(_read(Path(image)))
    if hasattr(image, "save") and hasattr(image, "convert"):
        return Media.from_bytes(_png(image))
    shown = repr(image[:80]) if isinstance(image, str) else type(image).__name__
    raise InvalidInput(f"an image is {shown}, expected bytes, a path or a PIL image", field="images")


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    try:
        (image.convert("RGB") if image.mode in _NO_PNG else image).save(buffer, format="PNG")
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidInput(f"a PIL image of mode {image.mode} cannot be sent: {error}", field="images") from None
    return buffer.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"image {str(path)!r} cannot be read: {error}", field="images") from None
