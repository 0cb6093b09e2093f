"""``data:`` URLs of every shape that pages, trainers and OpenAI's clients write."""

import base64
from urllib.parse import quote, quote_from_bytes

import pytest

from rewardhub.client.parts import as_media
from rewardhub.errors import InvalidInput
from rewardhub.server.compat.openai_chat import question
from rewardhub.types import Media

DATA = bytes(range(256)) + b"\xff"
TEXT = base64.b64encode(DATA).decode()
LINES = [TEXT[at : at + 60] for at in range(0, len(TEXT), 60)]
GOOD = {
    "plain": f"data:image/png;base64,{TEXT}", "another type": f"data:image/gif;base64,{TEXT}", "no type": f"data:;base64,{TEXT}",
    "capitals": f"DATA:image/PNG;BASE64,{TEXT}", "no image": f"data:application/octet-stream;base64,{TEXT}",
    "parameters": f"data:image/png;charset=utf-8;name=a%20b.png;base64,{TEXT}", "a blank": f"data:image/png; base64,{TEXT}",
    "percent": f"data:image/png,{quote_from_bytes(DATA)}", "percent and base64": f"data:image/png;base64,{quote(TEXT)}",
    "lines": "data:image/png;base64," + "\r\n".join(LINES), "blanks": "data:image/png;base64," + " ".join(LINES),
    "no padding": "data:image/png;base64," + TEXT.rstrip("="),
}  # fmt: skip
BAD = {
    "nothing": "data:", "no comma": "data:image/png;base64", "empty": "data:image/png;base64,", "half a byte": "data:;base64,A",
    "other letters": "data:image/png;base64,!!!!", "letters of URLs": "data:image/png;base64,_-__", "padding within": "data:;base64,AA==AAAA",
    "not ASCII": "data:image/png;base64,ÄÖÜ=",
}  # fmt: skip


def chat(url: str) -> Media:
    part = {"type": "image_url", "image_url": {"url": url}}
    return question({"model": "m", "messages": [{"role": "user", "content": [part]}]})[0].media[0]


@pytest.mark.parametrize("read", [as_media, chat])
@pytest.mark.parametrize("name", GOOD)
def test_what_a_url_holds(read, name):
    """The client's images and the chat route read the same bytes of every spelling."""
    assert read(GOOD[name]).data == DATA


@pytest.mark.parametrize("read", [as_media, chat])
@pytest.mark.parametrize("name", BAD)
def test_what_holds_nothing_is_refused(read, name):
    """No empty image is uploaded in place of one that could not be read."""
    with pytest.raises(InvalidInput, match="a data: URL that"):
        read(BAD[name])
