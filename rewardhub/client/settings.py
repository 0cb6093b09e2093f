"""What a client was told, and how long it waits between tries."""

import random
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from rewardhub.client.failure import OnFailure, check_policy
from rewardhub.errors import InvalidInput
from rewardhub.types import Call

GROUPS_OF_A_REQUEST = 1_000
RESPONSES_OF_A_REQUEST = 65_536
_SCHEMES = ("http", "https", "grpc", "grpcs")
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
        parts = urlsplit(self.url)
        if parts.scheme not in _SCHEMES or not parts.hostname or not _has_usable_port(parts):
            text = f"url is {self.url!r}, expected http://host:port, https://…, grpc://host:port or grpcs://…"
            raise InvalidInput(text, field="url")
        for name in ("timeout_s", "in_flight"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"{name} is {getattr(self, name)}, expected more than 0", field=name)
        if self.retries < 0:
            raise InvalidInput(f"retries is {self.retries}, expected 0 or more", field="retries")

    def allowed_s(self, call: Call) -> float:
        """Seconds that this call, or a group of its stream, may take."""
        return min(call.deadline_ms / 1000 or self.timeout_s, _LONGEST_S)


def _has_usable_port(parts: SplitResult) -> bool:
    try:
        return parts.port is not None or parts.scheme != "grpc"  # the other three have a customary port
    except ValueError:  # above 65535, or no number
        return False


def pause_s(attempt: int, retry_after_s: float = 0.0) -> float:
    """Seconds before try ``attempt`` + 1 (from 1): doubling, jittered by half, never below Retry-After."""
    longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (attempt - 1))
    return max(retry_after_s, longest * random.uniform(0.5, 1.0))
