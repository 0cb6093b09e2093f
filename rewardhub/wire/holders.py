"""The objects and lists of a JSON text, counted before they are made: each takes some 60 bytes for two characters, and
while they are decoded no other thread runs.
"""

import json
import re

from rewardhub.errors import InvalidInput

_TEXTS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+\\?(?:"|\Z)', re.DOTALL)


def check_holders(data: bytes, most: int, where: str) -> None:
    """Raises ``InvalidInput`` where ``data`` holds more than ``most``; what is no JSON is said by who decodes it."""
    if data.count(b"[") + data.count(b"{") <= most:
        return
    try:
        bare = _TEXTS.sub("", data.decode(json.detect_encoding(data), "surrogatepass"))
    except UnicodeDecodeError:
        return
    if bare.count("[") + bare.count("{") > most:
        raise InvalidInput(f"{where} holds more than {most} objects and lists", field=where)
