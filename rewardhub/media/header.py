"""The headers of PNG, JPEG and WebP read by hand, so that no decoder sees what they already rule out.

Formats: PNG third edition (W3C 2025), JPEG ITU-T T.81, WebP RFC 9649, orientation Exif 2.3.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rewardhub.errors import InvalidInput

MAX_CHUNKS = 16_384
"""Encoders write chunks of 8 KiB and more: this many hold 128 MiB."""
MAX_SCANS, MAX_SCANNED = 64, 800_000_000
"""Each scan of a progressive JPEG costs a pass over the whole image: how many, and the pixels of all of them. Real
encoders write about ten.
"""
MAX_EXIF = 1_024
"""Entries of Exif that are looked at; cameras write about twenty."""
_FOREIGN = {
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%!PS": "EPS",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"SIMP": "FITS",
    b"BM": "BMP",
    b"\0\0\1\0": "ICO",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"<": "HTML",
    b"\x1a\x45\xdf\xa3": "a video in Matroska or WebM",
    b"\x1f\x8b": "gzip",
    b"PK": "ZIP",
}
_BRANDS = {b"avi": "AVIF", b"hei": "HEIC", b"hev": "HEIC", b"mif": "HEIC", b"msf": "HEIC"}
"""How the brand of a file of ISO base media, which is a video else, begins."""
_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says: size in stored pixels, the Exif orientation (1 to 8) to show it in, bits of a sample."""

    format: Literal["PNG", "JPEG", "WEBP"]
    width: int
    height: int
    orientation: int = 1
    bits: int = 8

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height after the orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(data: bytes) -> Header:
    """Raises ``InvalidInput`` for another format, an animation, and a structure that is cut or malformed."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):
        raise InvalidInput("the image is cut off") from None
    raise InvalidInput(f"the media is {_foreign(data) if data else 'empty'}, expected PNG, JPEG or WebP")


def _foreign(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:11], "a video in MP4 or QuickTime")
    if data.startswith(b"RIFF"):
        return "a video in AVI" if data[8:12] == b"AVI " else "something else in RIFF"
    return next((name for magic, name in _FOREIGN.items() if data.startswith(magic)), "something else")


def pixels_of(data: bytes) -> bytes:
    """What a decoder needs of an image that :func:`read_header` took: a PNG without its texts and profiles."""
    if not data.startswith(b"\x89PNG"):
        return data
    chunks = (data[start - 8 : end + 4] for kind, start, end in _chunks(data, 8, ">I4s", 4) if kind in _PIXELS)
    return data[:8] + b"".join(chunks)


def _png(data: bytes) -> Header:
    length, kind, width, height, bits = struct.unpack_from(">I4sIIB", data, 8)
    if kind != b"IHDR" or length != 13:
        raise InvalidInput("the PNG does not begin with IHDR")
    orientation = 0
    for kind, start, end in _chunks(data, 8, ">I4s", 4):
        if kind == b"acTL":
            raise _animated()
        if kind == b"eXIf":
            orientation = orientation or exif_orientation(data[start:end])
        if kind == b"IEND":
            if end + 4 != len(data):
                raise InvalidInput("the PNG goes on after its end")
            return Header("PNG", width, height, orientation or 1, bits)
    raise InvalidInput("the PNG is cut off: no IEND")


def _chunks(data: bytes, at: int, head: str, checksum: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each chunk's content; ``head`` is the layout of length and kind."""
    for _ in range(MAX_CHUNKS):
        if at >= len(data):
            return
        first, second = struct.unpack_from(head, data, at)
        length, kind = (first, second) if isinstance(first, int) else (second, first)
        start, end = at + 8, at + 8 + length
        if end + checksum > len(data):
            raise InvalidInput("the image is cut off inside a chunk")
        yield kind, start, end
        at = end + checksum + (0 if checksum else length & 1)
    raise InvalidInput(f"the image has more than {MAX_CHUNKS} chunks")


def _webp(data: bytes) -> Header:
    size = struct.unpack_from("<I", data, 4)[0] + 8
    if len(data) not in {size, size + (size & 1)}:
        raise InvalidInput(f"the WebP says it has {size} bytes, but {len(data)} came")
    kind, first = data[12:16], data[20:30]
    if kind == b"VP8 ":
        mark, width, height = struct.unpack_from("<3sHH", first, 3)
        if mark != b"\x9d\x01\x2a":
            raise InvalidInput("the WebP has no start code")
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        mark, bits = struct.unpack_from("<BI", first)
        if mark != 0x2F:
            raise InvalidInput("the WebP has no lossless signature")
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8X":
        return _extended_webp(data)
    raise InvalidInput("the WebP begins with an unknown chunk")


def _extended_webp(data: bytes) -> Header:
    if data[20] & 0x02:
        raise _animated()
    width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    orientation = 0
    for kind, start, end in _chunks(data, 12, "<4sI", 0):
        if kind == b"EXIF":
            orientation = orientation or exif_orientation(data[start:end])
    return Header("WEBP", width, height, orientation or 1)


def _jpeg(data: bytes) -> Header:
    size: tuple[int, int] | None = None
    orientation = 0
    for marker, start, end in _segments(data):
        if marker == 0xDA:
            if size is None:
                raise InvalidInput("the JPEG has a scan before its frame")
            _check_scans(data, start, *size)
            return Header("JPEG", *size, orientation or 1)
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            if size is not None:
                raise InvalidInput("the JPEG has two frames")
            height, width = struct.unpack_from(">HH", data, start + 1)
            size = width, height
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", start):
            orientation = orientation or exif_orientation(data[start:end])
    raise InvalidInput("the JPEG is cut off: no scan")


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each segment's content, until the first scan."""
    at = 2
    for _ in range(MAX_CHUNKS):
        if data[at] != 0xFF:
            raise InvalidInput("the JPEG has no marker where one belongs")
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        if length < 2 or at + 2 + length > len(data):
            raise InvalidInput("the JPEG is cut off inside a segment")
        yield marker, at + 4, at + 2 + length
        at += 2 + length
    raise InvalidInput(f"the JPEG has more than {MAX_CHUNKS} segments")


def _check_scans(data: bytes, first: int, width: int, height: int) -> None:
    # Coded data holds no FF byte that a marker could be mistaken for, so both searches are exact.
    if data.rfind(b"\xff\xd9", first) < 0:
        raise InvalidInput("the JPEG is cut off: no end of image")
    scans = data.count(b"\xff\xda", first) + 1
    if scans > MAX_SCANS or (scans > 1 and scans * width * height > MAX_SCANNED):
        raise InvalidInput(f"the JPEG of {width} x {height} pixels has {scans} scans, more than encoders write")


def exif_orientation(exif: bytes) -> int:
    """The orientation tag of IFD 0, 1 where there is none or it is malformed.

    Of several blocks of Exif in one image the first counts, as its decoders have it.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, offset)
        for entry in range(min(entries, MAX_EXIF)):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, offset + 2 + 12 * entry)
            if tag == 0x0112:
                return value if kind == 3 and 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _animated() -> InvalidInput:
    return InvalidInput("the image is animated; upload its frames and name them as a video")
