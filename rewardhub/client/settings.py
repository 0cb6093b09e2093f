"""What a client was told, and how long it waits between tries."""

import random
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from rewardhub.client.failure import OnFailure, check_policy
from rewardhub.errors import InvalidInput
from rewardhub.types import Call

GROUPS_OF_A_REQUEST = 1_000
RESPONSES_OF_A_REQUEST = 65_536
_SCHEMES = ("http", "https", "grpc", "grpcs")
_USER = re.compile("//[^/]*@")
_FIRST_PAUSE_S = 0.1
_LONGEST_S = 2_000_000.0  # its milliseconds fit the 32 bits of a deadline
_LONGEST_PAUSE_S = 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """``timeout_s`` bounds a call, or a group of a stream, where the call names no deadline."""

    url: str
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    on_failure: OnFailure = "raise"
    retries: int = 6
    in_flight: int = 256

    def __post_init__(self) -> None:
        check_policy(self.on_failure)
        if not _is_usable(self.url):
            text = f"url is {self.shown!r}, expected http://host:port, https://…, grpc://host:port or grpcs://…"
            raise InvalidInput(text, field="url")
        for name in ("timeout_s", "in_flight"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}, expected more than 0", field=name)
        if self.retries < 0:
            raise InvalidInput(f"retries is {self.retries}, expected 0 or more", field="retries")

    @property
    def shown(self) -> str:
        """The url for messages, without the user and the password of a proxy before the hub."""
        return _USER.sub("//", self.url, count=1)

    def allowed_s(self, call: Call) -> float:
        """Seconds that this call, or a group of its stream, may take."""
        return min(call.deadline_ms / 1000 or self.timeout_s, _LONGEST_S)


def _is_usable(url: str) -> bool:
    if not url.isprintable() or " " in url or "?" in url or "#" in url:
        return False
    try:
        parts = urlsplit(url)
        known_port = parts.port is not None or parts.scheme != "grpc"  # the other three have a customary port
    except ValueError:  # a port above 65535, or half of a bracket
        return False
    plain = parts.scheme in {"http", "https"} or (parts.path in {"", "/"} and "@" not in parts.netloc)
    return parts.scheme in _SCHEMES and bool(parts.hostname) and plain and known_port


def pause_s(attempt: int, retry_after_s: float = 0.0) -> float:
    """Seconds before try ``attempt`` + 1 (from 1): doubling, jittered by half, never below Retry-After."""
    longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (attempt - 1))
    return max(retry_after_s, longest * random.uniform(0.5, 1.0))
