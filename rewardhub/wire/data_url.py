"""``data:`` URLs (RFC 2397), read as browsers read them: the WHATWG Fetch Standard, "data: URL processor"."""

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from rewardhub.errors import InvalidInput

_BASE64 = re.compile(r"; *base64 *", re.IGNORECASE)


def is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


def bytes_of(url: str, field: str) -> bytes:
    """What the URL holds, whatever type it declares; raises ``InvalidInput`` where that is nothing or no base64.

    Base64 may have blanks and line ends in it, and lack its padding.
    """
    head, comma, body = url[5:].partition(",")
    mark = head.rfind(";")
    data = unquote_to_bytes(body)
    if mark >= 0 and _BASE64.fullmatch(head, mark):
        data = b"".join(data.split())
        try:
            data = base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInput(f"{field}: a data: URL that is not base64", field=field) from None
    if not data:
        reason = "holds nothing" if comma else "has no comma"
        raise InvalidInput(f"{field}: a data: URL that {reason}", field=field)
    return data
