"""From untrusted bytes to pixels.

:func:`inspect` decides from the header alone; :func:`decode` runs the one decoder that the header
names. A decoder is native code: run it in a process whose memory is capped.
"""

import io
from collections.abc import Iterator

from PIL import Image

from rewardhub.errors import InvalidInput, RewardHubError, TooLarge
from rewardhub.media.header import Header, pixels_of, read_header
from rewardhub.types import Media

MAX_PIXELS = 50_000_000
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HIGH_BYTE = [value >> 8 for value in range(65_536)]


def inspect(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """The header; allocates nothing that grows with the image.

    Raises ``InvalidInput`` for what is no PNG, JPEG or WebP still image, ``TooLarge`` above ``max_pixels``.
    """
    header = read_header(data)
    if not header.width or not header.height:
        raise InvalidInput(f"the {header.format} is {header.width} x {header.height} pixels")
    if header.width * header.height > max_pixels:
        size = f"{header.width} x {header.height}"
        raise TooLarge(f"the {header.format} is {size} pixels, over the limit of {max_pixels}")
    return header


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image as RGB, turned as its Exif orientation says, transparency laid over white.

    16-bit grey keeps its high byte; colour profiles are ignored. Raises as :func:`inspect` does, and
    ``InvalidInput`` where the data behind the header is damaged.
    """
    header = inspect(data, max_pixels)
    try:
        with Image.open(io.BytesIO(pixels_of(data)), formats=(header.format,)) as image:
            if image.size != (header.width, header.height):
                raise InvalidInput(f"the {header.format} decodes to another size than its header says")
            image.load()
            shown = _rgb(image, header.bits)
    except (RewardHubError, MemoryError):
        raise
    except Exception:
        raise InvalidInput(f"the {header.format} is damaged") from None
    turn = _TURNS.get(header.orientation)
    return shown if turn is None else shown.transpose(turn)


def _rgb(image: Image.Image, bits: int) -> Image.Image:
    """The image on white paper; ``bits`` are those of a sample of the file, in which it names a transparent colour."""
    key = image.info.get("transparency")
    if image.mode.startswith("I"):
        wide = image.convert("I")
        grey = wide.point(_HIGH_BYTE, "L")
        if isinstance(key, int):
            grey.paste(255, mask=wide.point([255 * (value == key) for value in range(65_536)], "L"))
        return grey.convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "L" and isinstance(key, int):
        image.info["transparency"] = (key & (1 << bits) - 1) * 255 // ((1 << bits) - 1)
    elif isinstance(key, tuple) and bits == 16:  # of which Pillow keeps the high bytes
        image.info["transparency"] = tuple(value >> 8 for value in key)
    over = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", over.size, "white")
    white.paste(over, mask=over.getchannel("A"))
    return white


def images(media: Media, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The image of a resolved media, or the frames of a resolved video one by one."""
    for data in encoded(media):
        yield decode(data, max_pixels)


def encoded(media: Media) -> Iterator[bytes]:
    """The bytes of a resolved image, or of each frame of a resolved video.

    Raises ``InvalidInput`` where they are not at hand, all frames of a video included.
    """
    if media.kind == "video" and not media.frames:
        raise InvalidInput("a video is read as a list of frames, and has none", field="media")
    if media.frames:
        if len(media.frame_data) != len(media.frames):
            reason = f"a video of {len(media.frames)} frames has the bytes of {len(media.frame_data)}"
            raise InvalidInput(reason, field="media")
        yield from media.frame_data
    elif media.data is None:
        raise InvalidInput(f"the bytes of media {media.sha256} are missing", field="media")
    else:
        yield media.data
