"""Decoding untrusted image bytes under limits that are checked before any pixel is decoded."""

import io

from PIL import Image, ImageOps

from rewardhub.errors import InvalidInput
from rewardhub.types import Media

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 50_000_000
MAX_BYTES = 64 * 1024 * 1024
MAX_RATIO = 200


def decode_image(media: Media, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The RGB image of ``media.data``, upright by its EXIF tag.

    Raises ``InvalidInput`` where the bytes are missing, of another kind, damaged, over ``max_pixels``,
    or longer than 200 times their width.
    """
    if media.kind != "image":
        raise InvalidInput(f"this model takes images, not {media.kind}", field="media")
    if media.data is None:
        raise InvalidInput("the bytes of a media are missing", field="media")
    if len(media.data) > MAX_BYTES:
        raise InvalidInput(f"an image of more than {MAX_BYTES} bytes", field="media")
    try:
        with Image.open(io.BytesIO(media.data), formats=FORMATS) as image:
            _check_size(image.width, image.height, max_pixels)
            return ImageOps.exif_transpose(image).convert("RGB")
    except InvalidInput:
        raise
    except Exception as error:
        raise InvalidInput(f"not a readable PNG, JPEG or WebP image: {type(error).__name__}", field="media") from error


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InvalidInput(f"an image of {width} x {height} pixels, over {max_pixels}", field="media")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise InvalidInput(f"an image of {width} x {height} pixels is too narrow", field="media")
