"""Groups from what people and trainers have at hand: texts, numbers, images of any make."""

import base64
import binascii
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewardhub.errors import InvalidInput
from rewardhub.types import Group, Json, Media, Message, Response


def make_group(
    responses: Iterable[str | Response],
    *,
    prompt: str | Sequence[Message] = "",
    reference: Any = None,
    images: Iterable[Any] = (),
    group_id: str = "",
) -> Group:
    """A whole group. ``reference`` is an object, or the answer itself; ``images`` see :func:`as_media`."""
    return Group(
        id=group_id,
        prompt=prompt if isinstance(prompt, str) else tuple(prompt),
        responses=tuple(Response(each) if isinstance(each, str) else each for each in responses),
        reference=as_reference(reference),
        media=tuple(map(as_media, images)),
    )


def as_reference(value: Any) -> Json:
    """An object as it is; anything else becomes ``{"answer": value}``, numbers as text."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return value
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()  # a number of NumPy or torch
    return {"answer": str(value) if isinstance(value, int | float) else value}


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
    if isinstance(image, str) and image.startswith("data:"):
        return Media.from_bytes(_decoded(image))
    if isinstance(image, str | Path) and "://" not in str(image):
        return Media.from_bytes(_read(Path(image)))
    if hasattr(image, "save") and hasattr(image, "convert"):
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        return Media.from_bytes(buffer.getvalue())
    raise InvalidInput(f"an image is {str(image)[:80]!r}, expected bytes, a path or a PIL image", field="images")


def _decoded(url: str) -> bytes:
    try:
        return base64.b64decode(url.partition(";base64,")[2], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("an image is a data: URL that is not base64", field="images") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"image {str(path)!r} cannot be read: {error}", field="images") from None
