"""Errors of a whole call, from the two doors back to the classes of ``rewardhub.errors``."""

import math
import os
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
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
    errors.KeyReused,
    errors.Unauthenticated,
    errors.Forbidden,
)
_BY_CODE = {kind.code: kind for kind in _CLASSES}
_BY_GRPC = {kind.grpc: kind for kind in reversed(_CLASSES)} | {"INVALID_ARGUMENT": InvalidInput}


_STREAM_RESET = "RST_STREAM"
_NEVER_CONNECTED = ("failed to connect", "errors resolving", "resolution failed")
_HTTP_STATUS = re.compile(r"http2 header with status: (\d{3})")
_OWN: Mapping[int, type[RewardHubError]] = {401: errors.Unauthenticated, 403: errors.Forbidden, 413: errors.TooLarge}
_NOT_PASSED_ON = frozenset({408, 425, 429, 503})
"""What a proxy answers of its own to a request that no hub has read."""


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


def from_reply(url: str, status: int, headers: Mapping[str, str], body: bytes) -> RewardHubError:
    """The error of a REST reply, by :func:`from_stranger` where no hub wrote it."""
    wait_s = _seconds(headers.get("retry-after", ""))
    try:
        data: dict[str, Any] = loads(body)["error"]
        return refusal(data["code"], data["message"], data.get("field") or "", wait_s, status)
    except (InvalidInput, KeyError, TypeError):
        by = "".join(f", {name} {headers[name]!r}" for name in ("server", "location") if name in headers)
        return from_stranger(url, status, by, wait_s)


def from_stranger(url: str, status: int, by: str = "", wait_s: float = 0.0) -> RewardHubError:
    """The error of an HTTP status that a proxy, or what is no hub, gave: retryable from 500 on and where it says so."""
    if status in _NOT_PASSED_ON:
        kind: type[RewardHubError] = HubUnreachable
    else:
        kind = ConnectionLost if status >= 500 else _OWN.get(status, InvalidInput)
    asks = "a proxy before the hub?" if kind is not InvalidInput else "is this the address of a hub?"
    text = f"{url}: HTTP {status} without an error of a hub{by}; {asks}"
    return kind(text, field="url" if kind is InvalidInput else "", retry_after_s=wait_s)


def _seconds(retry_after: str) -> float:
    """Of a ``Retry-After`` header, a number or a date; 0 for what is neither."""
    try:
        number = float(retry_after)
    except ValueError:
        try:
            number = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return 0.0
    return number if 0 < number < math.inf else 0.0


def from_httpx(error: httpx.HTTPError, url: str) -> RewardHubError:
    before = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    if isinstance(error, httpx.TimeoutException) and not before:
        return errors.DeadlineExceeded(f"no answer from {url} in time")
    kind = HubUnreachable if before else ConnectionLost
    hint = "; is this the REST door of a hub?" if str(error).startswith("illegal ") else ""
    return kind(f"{url}: {_reason(error)}{hint}")


def _reason(error: BaseException) -> str:
    """What the system said of a connection, where libraries have put words of their own before it."""
    cause: BaseException | None = error
    while cause is not None:
        if (
            (type(cause) is OSError or isinstance(cause, ConnectionError))
            and cause.errno is not None
            and cause.errno > 0
        ):
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


def from_rpc(error: Any, url: str) -> RewardHubError:
    """The error of a ``grpc.RpcError``; what the hub itself says in the trailing metadata wins."""
    metadata = {str(key): value for key, value in error.trailing_metadata() or ()}
    code, text = error.code().name, str(error.details() or "")
    if told := metadata.get("rewardhub-error"):
        data, http = loads(told), UnknownName.http if code == UnknownName.grpc else 0
        return refusal(data["code"], data["message"], data["field"], data["retry_after_ms"] / 1000, http)
    if status := _HTTP_STATUS.search(text):
        return from_stranger(url, int(status[1]))
    if code == "UNIMPLEMENTED":
        return InvalidInput(f"{url}: {text}; is this the address of a hub?", field="url")
    if code in {"UNAVAILABLE", "UNKNOWN"} or _STREAM_RESET in text:
        before = any(sign in text.lower() for sign in _NEVER_CONNECTED)
        return (HubUnreachable if before else ConnectionLost)(f"{url}: {text or code}")
    return _made(UnknownName if code == "NOT_FOUND" else _BY_GRPC.get(code, InternalError), f"{url}: {text}", "", 0.0)
