"""Errors of a whole call, from the two doors back to the classes of ``rewardhub.errors``."""

from typing import Any

import httpx

from rewardhub import errors
from rewardhub.errors import HubUnreachable, InternalError, InvalidInput, RewardHubError, UnknownName
from rewardhub.v1 import types_pb2 as pb
from rewardhub.wire.lines import loads

_CLASSES: tuple[type[RewardHubError], ...] = (
    InternalError,
    InvalidInput,
    errors.NoAnswer,
    errors.OverLimit,
    errors.ReferenceUnparseable,
    errors.Unavailable,
    errors.TooLarge,
    errors.QuotaExceeded,
    errors.DeadlineExceeded,
    errors.Cancelled,
    errors.JudgeUnparseable,
    errors.PinMismatch,
    errors.Unauthenticated,
    errors.Forbidden,
)
_BY_CODE = {kind.code: kind for kind in _CLASSES}
_BY_GRPC = {kind.grpc: kind for kind in reversed(_CLASSES)} | {"INVALID_ARGUMENT": InvalidInput}


_BROKEN_OFF = frozenset({502, 504})
"""What a proxy answers where the hub's own answer broke off or did not come in time."""


class ConnectionLost(HubUnreachable):
    """The connection broke after the request had left: the hub may or may not have read it."""


def refusal(code: str, message: str, field: str = "", retry_after_s: float = 0.0, http: int = 0) -> RewardHubError:
    """The error with this code; an unknown code is an ``InternalError``, from 400 to 499 ``InvalidInput``."""
    kind = _BY_CODE.get(code, InvalidInput if 400 <= http < 500 else InternalError)
    if http == UnknownName.http and code == UnknownName.code:
        kind = UnknownName
    return _made(kind, message, field, retry_after_s)


def _made(kind: type[RewardHubError], message: str, field: str, retry_after_s: float) -> RewardHubError:
    error = kind.__new__(kind)  # UnknownName composes its message from names that only the hub knows
    RewardHubError.__init__(error, message, field=field, retry_after_s=retry_after_s)
    return error


def from_proto(error: pb.Error) -> RewardHubError:
    return refusal(error.code, error.message, error.field, error.retry_after_ms / 1000)


def from_body(status: int, body: bytes, retry_after: str | None) -> RewardHubError:
    """The error of a REST reply; a reply that no hub wrote is ``HubUnreachable`` (retryable from 500 on)."""
    wait_s = float(retry_after) if retry_after and retry_after.replace(".", "", 1).isdigit() else 0.0
    try:
        data: dict[str, Any] = loads(body)["error"]
        return refusal(data["code"], data["message"], data.get("field") or "", wait_s, status)
    except (InvalidInput, KeyError, TypeError):
        text = f"HTTP {status} without an error of a hub; is this the address of a hub?"
        kind = HubUnreachable if status >= 500 or status == 429 else InvalidInput
        if status in _BROKEN_OFF:
            kind = ConnectionLost
        return kind(text, retry_after_s=wait_s)


def from_httpx(error: httpx.HTTPError, url: str) -> RewardHubError:
    before = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    if isinstance(error, httpx.TimeoutException) and not before:
        return errors.DeadlineExceeded(f"no answer from {url} in time")
    kind = HubUnreachable if before else ConnectionLost
    return kind(f"{url}: {str(error) or type(error).__name__}")


def from_rpc(error: Any, url: str) -> RewardHubError:
    """The error of a ``grpc.RpcError``; what the hub itself says in the trailing metadata wins."""
    metadata = {str(key): value for key, value in error.trailing_metadata() or ()}
    code, text = error.code().name, str(error.details() or "")
    if told := metadata.get("rewardhub-error"):
        data, http = loads(told), UnknownName.http if code == UnknownName.grpc else 0
        return refusal(data["code"], data["message"], data["field"], data["retry_after_ms"] / 1000, http)
    if code == "UNIMPLEMENTED":
        return InvalidInput(f"{url}: {text}; is this the address of a hub?", field="url")
    if code in {"UNAVAILABLE", "UNKNOWN"}:
        before = "failed to connect" in text.lower()
        return (HubUnreachable if before else ConnectionLost)(f"{url}: {text or code}")
    return _made(UnknownName if code == "NOT_FOUND" else _BY_GRPC.get(code, InternalError), text, "", 0.0)
