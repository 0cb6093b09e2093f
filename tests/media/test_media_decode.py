"""The guarded decode: what passes, what is refused from the header, and what refusing costs."""

import io
import resource
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from rewardhub.errors import InvalidInput, RewardHubError, TooLarge
from rewardhub.media.decode import decode, images, inspect
from rewardhub.media.header import Header, exif_orientation, read_header
from rewardhub.types import Media


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(size=(40, 30), mode="RGB") -> Image.Image:
    image = Image.new("RGB", size, "navy")
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 4, size[1] // 2), fill="red")
    return image.convert(mode)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(width=50_000, height=50_000) -> bytes:
    """A valid PNG of a few kilobytes that decodes to gigabytes."""
    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 5_000_000, 9)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", ihdr) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def webp_bomb() -> bytes:
    data = bytearray(encoded(picture(), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"))
    assert data[12:16] == b"VP8X"
    data[24:30] = (16_382).to_bytes(3, "little") * 2
    return bytes(data)


def gif(frames: int) -> bytes:
    return encoded(picture(), "GIF", save_all=True, append_images=[picture((40, 30), "L")] * (frames - 1))


def png_of(bits: int, kind: int, row: bytes, *chunks: bytes, width: int = 2) -> bytes:
    """A PNG of one row, byte by byte; ``kind`` is its colour type."""
    ihdr = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0))
    rest = png_chunk(b"IDAT", zlib.compress(b"\0" + row)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + ihdr + b"".join(chunks) + rest


def exif_of(entries: int) -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + struct.pack("<HHIHH", 0x100, 3, 1, 1, 0) * entries


def scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan stands so often that there are ``count``."""
    data = encoded(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + b"\xff\xd9"


GOOD = {
    "png": encoded(picture()),
    "png-palette": encoded(picture(mode="P")),
    "png-grey": encoded(picture(mode="L")),
    "png-bilevel": encoded(picture(mode="1")),
    "jpeg": encoded(picture(), "JPEG"),
    "jpeg-progressive": encoded(picture((400, 300)), "JPEG", progressive=True),
    "jpeg-cmyk": encoded(picture(mode="CMYK"), "JPEG"),
    "jpeg-grey": encoded(picture(mode="L"), "JPEG"),
    "webp": encoded(picture(), "WEBP"),
    "webp-lossless": encoded(picture(), "WEBP", lossless=True),
    "webp-alpha": encoded(picture(mode="RGBA"), "WEBP"),
}
BAD = {
    "empty": b"",
    "six bytes": b"\x89PNG\r\n",
    "signature only": b"\x89PNG\r\n\x1a\n",
    "text": b"hello" * 100,
    "gif": gif(3),
    "tiff": encoded(picture(), "TIFF"),
    "bmp": encoded(picture(), "BMP"),
    "eps": encoded(picture(), "EPS"),
    "pdf": encoded(picture(), "PDF"),
    "psd": b"8BPS\0\1" + bytes(100),
    "fits": b"SIMPLE  =                    T" + b" " * 2850,
    "ico": b"\0\0\1\0\1\0" + bytes(100),
    "avif": b"\0\0\0\x20ftypavif" + bytes(100),
    "heic": b"\0\0\0\x18ftypheic" + bytes(100),
    "mp4": b"\0\0\0\x20ftypisom" + bytes(100),
    "jxl": b"\xff\x0a" + bytes(100),
    "jxl box": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100),
    "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
    "webm": b"\x1a\x45\xdf\xa3" + bytes(100),
    "avi": b"RIFF\x40\0\0\0AVI LIST" + bytes(100),
    "wave": b"RIFF\x40\0\0\0WAVEfmt " + bytes(100),
    "html": b"<!doctype html><p>404",
    "xml": b"<?xml version='1.0'?><svg/>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "gzip": b"\x1f\x8b" + bytes(100),
    "zip": b"PK\x03\x04" + bytes(100),
    "truncated jpeg": GOOD["jpeg"][:-20],
    "half a jpeg": GOOD["jpeg"][:100],
    "truncated png": GOOD["png"][:-4],
    "truncated webp": GOOD["webp"][:-6],
    "png then zip": GOOD["png"] + b"PK\x03\x04" + bytes(100),
    "webp then html": GOOD["webp"] + b"<script>",
    "gif then png": gif(1) + GOOD["png"],
    "pdf then jpeg": b"%PDF-1.7\n" + GOOD["jpeg"],
    "animated png": encoded(picture(), save_all=True, append_images=[picture(mode="L").convert("RGB")]),
    "animated webp": encoded(picture(), "WEBP", save_all=True, append_images=[picture((40, 30), "L")]),
    "png of no width": bomb(0, 10),
    "jpeg of 100 scans": GOOD["jpeg"][:-2] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 100 + b"\xff\xd9",
    "jpeg with two frames": GOOD["jpeg"][:2] + b"\xff\xc0\0\x0b\x08\0\1\0\1\1\1\x11\0" + GOOD["jpeg"][2:],
    "many chunks": bomb()[:33] + png_chunk(b"abCd", b"") * 70_000 + png_chunk(b"IEND", b""),
    "fill bytes": b"\xff\xd8\xff" + b"\xff" * 1_000_000,
}


@pytest.mark.parametrize("name", GOOD)
def test_good_images_decode_to_rgb_of_the_headers_size(name):
    """PNG, JPEG and WebP of every colour mode decode to RGB in the size that the header gave."""
    image = decode(GOOD[name])
    assert image.mode == "RGB"
    assert image.size == inspect(GOOD[name]).shown
    red, _, blue = image.getpixel((2, 2))
    assert red != blue or name in {"png-grey", "png-bilevel", "jpeg-grey"}
    assert max(red - image.getpixel((image.width - 1, image.height - 1))[0], 0) > 50


@pytest.mark.parametrize("name", BAD)
def test_bad_media_are_refused_from_the_header(name):
    """T64: every foreign, cut, animated or doubled file is invalid input, within 100 ms."""
    start = time.perf_counter()
    with pytest.raises(InvalidInput):
        inspect(BAD[name])
    assert time.perf_counter() - start < 0.1


NAMES = {
    "avif": "AVIF", "heic": "HEIC", "mp4": "a video in MP4 or QuickTime", "jxl": "JPEG XL", "jxl box": "JPEG XL",
    "jp2": "JPEG 2000", "webm": "a video in Matroska or WebM", "avi": "a video in AVI", "wave": "something else in RIFF",
    "html": "HTML", "xml": "XML", "svg": "SVG", "ico": "ICO", "gif": "GIF", "empty": "empty", "text": "something else",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_file_is_named(name):
    """Who uploads an AVIF, a video or a page of an error is told what came."""
    with pytest.raises(InvalidInput, match=f"^the media is {NAMES[name]}, expected PNG, JPEG or WebP$"):
        inspect(BAD[name])


EXIF_BOMBS = {
    "png": png_of(8, 2, bytes(6), *[png_chunk(b"eXIf", exif_of(65_535))] * 25),
    "jpeg": GOOD["jpeg"][:2] + (b"\xff\xe1\xfd\x4aExif\0\0" + exif_of(5_402)) * 300 + GOOD["jpeg"][2:],
}


@pytest.mark.parametrize("name", EXIF_BOMBS)
def test_exif_is_read_once_and_not_for_long(name):
    """T64: 20 MB of Exif, in one block or in hundreds, cost a few milliseconds."""
    started = time.process_time()
    assert inspect(EXIF_BOMBS[name]).orientation == 1
    assert time.process_time() - started < 0.05
    assert decode(EXIF_BOMBS[name]).mode == "RGB"


def test_scans_of_a_large_jpeg_are_bounded_by_its_pixels():
    """T64: 63 passes over 49 million pixels are refused from the header, 63 over a small image are not."""
    assert decode(scans(200, 63)).size == (200, 200)
    with pytest.raises(InvalidInput, match="the JPEG of 7000 x 7000 pixels has 63 scans"):
        inspect(scans(7000, 63))
    assert inspect(scans(7000, 12)).width == 7000


@pytest.mark.parametrize("data", [bomb(), webp_bomb()], ids=["png", "webp"])
def test_a_decode_bomb_names_its_size_and_the_limit(data):
    """T64: 50,000 x 50,000 pixels in ten kilobytes are too large, from the header."""
    with pytest.raises(TooLarge, match="pixels, over the limit of 50000000"):
        decode(data)


def test_bombs_cost_no_memory():
    """T64, R17: refusing every bomb takes at most 64 MB more and 100 ms each, in a fresh process."""
    code = (
        "import resource,sys,time;sys.path.insert(0,sys.argv[1]);import test_media_decode as t;"
        "from rewardhub.media.decode import decode;from rewardhub.errors import RewardHubError\n"
        "bombs=[t.bomb(),t.webp_bomb(),*t.BAD.values()];decode(t.GOOD['jpeg'])\n"
        "base=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;slowest=0.0\n"
        "for data in bombs:\n"
        "    start=time.perf_counter()\n"
        "    try: decode(data)\n"
        "    except RewardHubError: pass\n"
        "    else: raise SystemExit('decoded')\n"
        "    slowest=max(slowest,time.perf_counter()-start)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss-base,slowest)"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    kilobytes, slowest = map(float, out.split())
    assert kilobytes <= 64 * 1024
    assert slowest <= 0.1


def test_damaged_data_behind_a_good_header_is_invalid_input():
    """A PNG whose pixels do not decompress says that it is damaged."""
    data = bomb(2000, 2000)
    broken = data.replace(data[60:90], bytes(30), 1)
    with pytest.raises(InvalidInput, match="damaged"):
        decode(broken)


def test_too_few_pixels_are_damage_not_a_grey_area():
    """A PNG that holds fewer rows than it says is refused, not filled up."""
    with pytest.raises(InvalidInput, match="damaged"):
        decode(bomb(5000, 5000))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(kind, orientation):
    """The picture is shown the way its Exif tag says, and the header gives that size."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(picture(), kind, exif=exif, **options)
    from PIL import ImageOps

    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    image = decode(data)
    assert read_header(data).orientation == orientation
    assert image.size == expected.size == inspect(data).shown
    assert image.tobytes() == expected.tobytes()


def test_malformed_exif_is_no_orientation():
    """Exif that is cut, foreign or claims 65,535 entries leaves the picture as it is."""
    huge = b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65_535)
    for exif in [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"junk" * 9, huge]:
        assert exif_orientation(exif) == 1


def test_transparency_is_laid_over_white():
    """A transparent pixel is white, a half transparent black one is grey."""
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    shown = decode(encoded(image))
    assert shown.getpixel((0, 0)) == (255, 255, 255)
    assert shown.getpixel((1, 0)) == (127, 127, 127)


KEYED = {
    "grey of 1 bit": (png_of(1, 0, b"\x40", png_chunk(b"tRNS", b"\0\1")), [(0,) * 3, (255,) * 3]),
    "grey of 2 bits": (png_of(2, 0, b"\x10", png_chunk(b"tRNS", b"\0\1")), [(0,) * 3, (255,) * 3]),
    "grey of 4 bits": (png_of(4, 0, b"\x78", png_chunk(b"tRNS", b"\0\7")), [(255,) * 3, (136,) * 3]),
    "grey of 8 bits": (png_of(8, 0, b"\x07\x08", png_chunk(b"tRNS", b"\1\7")), [(255,) * 3, (8,) * 3]),
    "grey of 16 bits": (png_of(16, 0, b"\x12\x34\x12\x35", png_chunk(b"tRNS", b"\x12\x34")), [(255,) * 3, (18,) * 3]),
    "colour": (png_of(8, 2, b"\1\2\3\1\2\4", png_chunk(b"tRNS", b"\0\1\0\2\0\3")), [(255,) * 3, (1, 2, 4)]),
    "colour of 16 bits": (
        png_of(16, 2, bytes(range(1, 13)), png_chunk(b"tRNS", bytes(range(1, 7)))), [(255,) * 3, (7, 9, 11)],
    ),
    "palette": (
        png_of(2, 3, b"\x10", png_chunk(b"PLTE", b"\1\2\3\4\5\6"), png_chunk(b"tRNS", b"\xff\0")),
        [(1, 2, 3), (255,) * 3],
    ),
    "grey and alpha of 16 bits": (png_of(16, 4, b"\x10\0\xff\xff\x10\0\0\0"), [(16,) * 3, (255,) * 3]),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYED)
def test_a_transparent_colour_is_white(name):
    """PNG (W3C) 11.3.1.1: the colour that tRNS names, in as many bits as a sample has, is transparent."""
    data, expected = KEYED[name]
    shown = decode(data)
    assert [shown.getpixel((x, 0)) for x in range(2)] == expected


TEXTS = {
    "long text": png_chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 2_000_000)),
    "long profile": png_chunk(b"iCCP", b"a\0\0" + zlib.compress(b"x" * 2_000_000)),
    "text bombs": png_chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(1_000_000), 9)) * 200,
    "a text of a wrong checksum": png_chunk(b"tEXt", b"a\0b")[:-1] + b"?",
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_not_pixels_is_not_read(name):
    """Texts and profiles of a PNG, however long or damaged, neither cost anything nor lose the image."""
    data = png_of(8, 2, b"\1\2\3\4\5\6", TEXTS[name])
    started = time.process_time()
    assert decode(data).getpixel((1, 0)) == (4, 5, 6)
    assert time.process_time() - started < 0.05


def test_sixteen_bit_grey_keeps_its_high_byte():
    """A 16-bit grey PNG is scaled to 8 bits instead of cut at 255."""
    image = Image.new("I;16", (3, 1))
    for x, value in enumerate([0, 0x8000, 0xFFFF]):
        image.putpixel((x, 0), value)
    shown = decode(encoded(image))
    assert [shown.getpixel((x, 0))[0] for x in range(3)] == [0, 0x80, 0xFF]


def test_a_phones_jpeg_trailer_passes():
    """Bytes behind the end of a JPEG, as phones write them, are ignored."""
    assert decode(GOOD["jpeg"] + b"trailer" * 10).size == (40, 30)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_mutated_images_never_escape(name, data):
    """Whatever bytes are changed, cut or doubled: an image comes out or an error of ours."""
    content = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for candidate in (bytes(content), bytes(content[:cut]), bytes(content[cut:])):
        try:
            assert decode(candidate, 1_000_000).mode == "RGB"
        except RewardHubError as error:
            assert error.message


@given(
    st.binary(max_size=200), st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x20\0\0\0WEBPVP8X", b""])
)
def test_random_bytes_give_a_header_or_invalid_input(tail, magic):
    """No byte string makes the header reader fail otherwise."""
    try:
        assert isinstance(read_header(magic + tail), Header)
    except InvalidInput:
        pass


def test_a_video_is_its_frames():
    """images() yields each frame; a video that lacks some is invalid input."""
    frames = (GOOD["png"], GOOD["jpeg"], GOOD["webp"])
    video = Media(kind="video", frames=("a" * 64,) * 3, frame_data=frames)
    assert [image.size for image in images(video)] == [(40, 30)] * 3
    assert [image.size for image in images(Media.from_bytes(GOOD["png"]))] == [(40, 30)]
    with pytest.raises(InvalidInput, match="are missing"):
        list(images(Media(sha256="a" * 64)))
    for media in (*(replace(video, frame_data=frames[:count]) for count in (0, 1, 2)), replace(video, frames=())):
        with pytest.raises(InvalidInput):
            list(images(media))


def test_peak_memory_of_this_process_is_measurable():
    """The unit of ru_maxrss that the memory test relies on is kilobytes here."""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 10_000
