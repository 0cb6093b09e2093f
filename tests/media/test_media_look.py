"""Images that are decoded elsewhere, only to know whether they can be."""

import asyncio
import io
import os
import signal
import zlib

import pytest
from PIL import Image

from rewardhub.errors import InvalidInput, Unavailable
from rewardhub.media import look
from rewardhub.media.look import Looker
from rewardhub.types import Media


def image(form="PNG", size=(64, 48)) -> bytes:
    data = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(data, form)
    return data.getvalue()


@pytest.fixture
async def looker():
    found = Looker()
    yield found
    await found.aclose()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
async def test_whole_and_cut_images(looker, form):
    """What decodes passes, what is cut short behind its header does not, and each is looked at once."""
    whole = image(form)
    await looker.check(Media.from_bytes(whole))
    cut = Media.from_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        with pytest.raises(InvalidInput, match=cut.sha256[:12]) as raised:
            await looker.check(cut)
        assert raised.value.field == "media"
    pid = looker.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.wait_for(looker.check(Media.from_bytes(whole)), 1.0)
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_more_pixels_than_the_limit(looker):
    """The caller is told the limit, and no memory is taken."""
    header = (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    data = image()
    chunk = b"IHDR" + header
    large = data[:8] + (13).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[33:]
    with pytest.raises(InvalidInput, match="over the limit"):
        await looker.check(Media.from_bytes(large))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_process_that_is_lost(looker, number, monkeypatch):
    """What it was looking at is not blamed, and the next image has another process."""
    monkeypatch.setattr(look, "LOOK_S", 1.0)
    await looker.check(Media.from_bytes(image()))
    os.kill(lost := looker.pid, number)
    with pytest.raises(Unavailable):
        await looker.check(Media.from_bytes(image()))
    await looker.check(Media.from_bytes(image()))
    assert looker.pid not in {0, lost}


async def test_callers_that_go_away(looker):
    """One that is cancelled leaves the answers to their own images; a looker that is closed leaves no process."""
    asked = [asyncio.create_task(looker.check(Media.from_bytes(image()))) for _ in range(8)]
    await asyncio.sleep(0.01)
    asked[0].cancel()
    asked[3].cancel()
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert [each for index, each in enumerate(done) if index not in {0, 3}] == [None] * 6
    cut = Media.from_bytes(image()[:-60])
    with pytest.raises(InvalidInput):
        await looker.check(cut)
    pid = looker.pid
    await looker.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
