"""Every error that RewardHub raises, with its code on each door.

RewardHubError                    http  grpc
├── ScoringError                          raised in a scorer, about one response: becomes a status
│   ├── NoAnswer                          no_answer: the response holds nothing to score
│   ├── OverLimit                         over_limit: this input alone exceeds a stated limit
│   ├── ReferenceUnparseable              reference_unparseable: the reference is unusable
│   └── InvalidInput          400  INVALID_ARGUMENT    invalid_input: a field is not what was expected
│       ├── UnknownName       404  NOT_FOUND           nothing is registered under this name
│       ├── UnspokenHttp 415,501,505                    REST: an encoding or a version that the hub does not speak
│       └── ConfigError       400  INVALID_ARGUMENT    a configuration, card or recipe is wrong
├── Unavailable               503  UNAVAILABLE         overload, dead worker or judge; retry later
├── QuotaExceeded             429  RESOURCE_EXHAUSTED  a tenant's quota is used up
├── TooLarge                  413  RESOURCE_EXHAUSTED  a body or media is over its limit
├── DeadlineExceeded          504  DEADLINE_EXCEEDED   the deadline passed
├── Cancelled                 499  CANCELLED           the caller went away
├── JudgeUnparseable                                   a judge's reply holds no verdict
├── PinMismatch               409  FAILED_PRECONDITION the run pinned another fingerprint
├── KeyReused                 409  ALREADY_EXISTS      the idempotency key came with another request
├── Unauthenticated           401  UNAUTHENTICATED     no valid key
├── Forbidden                 403  PERMISSION_DENIED   the key lacks the scope
├── InternalError             500  INTERNAL            a fault of ours
├── HubUnreachable                                     client: no answer from the hub
└── ScoringFailed                                      client: a score has no value (on_failure=raise)
"""

import difflib
import time
from collections.abc import Iterable
from typing import Any

from rewardhub.types import Column, Status

LONGEST_NAME = 64
"""Characters of an unknown name that a message shows, and that are compared to the known ones."""
LONGEST_REASON = 600
LONGEST_FIELD = 200


class RewardHubError(Exception):
    """Base of the tree. ``field`` names the field at fault, ``retry_after_s`` is in seconds."""

    code = "internal_error"
    http = 500
    grpc = "INTERNAL"
    status = Status.INTERNAL_ERROR

    def __init__(self, message: str, *, field: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.field, self.retry_after_s)

    @property
    def retryable(self) -> bool:
        return self.status.retryable

    @property
    def details(self) -> dict[str, Any]:
        """What the details of a score say of it, cut: every row of a group holds them."""
        found: dict[str, Any] = {"reason": shortened(self.message, LONGEST_REASON)}
        if self.field:
            found["field"] = shortened(self.field, LONGEST_FIELD)
        if self.retry_after_s:
            found["retry_after_s"] = round(self.retry_after_s, 3)
        return found

    def column(self, count: int) -> Column:
        """``count`` rows without a value, each of which says why."""
        return Column.failed(count, self.status, code=self.code, **self.details)


def _rebuild(kind: type[RewardHubError], message: str, field: str, retry_after_s: float) -> RewardHubError:
    error = kind.__new__(kind)
    RewardHubError.__init__(error, message, field=field, retry_after_s=retry_after_s)
    return error


class ScoringError(RewardHubError):
    """About one response; raise one of its subclasses in a scorer."""


class NoAnswer(ScoringError):
    code, http, grpc, status = "no_answer", 400, "INVALID_ARGUMENT", Status.NO_ANSWER


class OverLimit(ScoringError):
    code, http, grpc, status = "over_limit", 400, "INVALID_ARGUMENT", Status.OVER_LIMIT


class ReferenceUnparseable(ScoringError):
    code, http, grpc, status = "reference_unparseable", 400, "INVALID_ARGUMENT", Status.REFERENCE_UNPARSEABLE


class InvalidInput(ScoringError):
    code, http, grpc, status = "invalid_input", 400, "INVALID_ARGUMENT", Status.INVALID_INPUT


class UnknownName(InvalidInput):
    """Nothing is registered under ``name``; the message names the nearest known one."""

    http, grpc = 404, "NOT_FOUND"

    def __init__(self, kind: str, name: str, known: Iterable[str], *, field: str = "") -> None:
        super().__init__(f"unknown {kind} {shortened(name, LONGEST_NAME)!r}{nearest(name, known)}", field=field)


class UnspokenHttp(InvalidInput):
    """An encoding, a transfer coding or a version of HTTP that the hub does not speak; ``http`` is 415, 501 or 505."""

    def __init__(self, message: str, http: int, *, field: str = "") -> None:
        super().__init__(message, field=field)
        self.http = http


class ConfigError(InvalidInput):
    """A configuration, card or recipe is wrong; the message names file and line where known."""

    @classmethod
    def of_file(cls, path: object, error: OSError | ValueError | RecursionError, field: str) -> "ConfigError":
        """For a file that cannot be read, or that is not in its format."""
        return cls(f"{path}: {getattr(error, 'strerror', None) or error}", field=field)


class Unavailable(RewardHubError):
    code, http, grpc, status = "unavailable", 503, "UNAVAILABLE", Status.UNAVAILABLE


class QuotaExceeded(RewardHubError):
    code, http, grpc, status = "quota_exceeded", 429, "RESOURCE_EXHAUSTED", Status.UNAVAILABLE


class TooLarge(RewardHubError):
    code, http, grpc, status = "too_large", 413, "RESOURCE_EXHAUSTED", Status.INVALID_INPUT


class DeadlineExceeded(RewardHubError):
    code, http, grpc, status = "timeout", 504, "DEADLINE_EXCEEDED", Status.TIMEOUT


class Cancelled(RewardHubError):
    code, http, grpc, status = "cancelled", 499, "CANCELLED", Status.CANCELLED


class JudgeUnparseable(RewardHubError):
    code, status = "judge_unparseable", Status.JUDGE_UNPARSEABLE


class PinMismatch(RewardHubError):
    code, http, grpc, status = "pin_mismatch", 409, "FAILED_PRECONDITION", Status.INVALID_INPUT


class KeyReused(RewardHubError):
    code, http, grpc, status = "key_reused", 409, "ALREADY_EXISTS", Status.INVALID_INPUT


class Unauthenticated(RewardHubError):
    code, http, grpc, status = "unauthenticated", 401, "UNAUTHENTICATED", Status.INVALID_INPUT


class Forbidden(RewardHubError):
    code, http, grpc, status = "forbidden", 403, "PERMISSION_DENIED", Status.INVALID_INPUT


class InternalError(RewardHubError):
    pass


class HubUnreachable(RewardHubError):
    code, http, grpc, status = "hub_unreachable", 503, "UNAVAILABLE", Status.UNAVAILABLE


class ScoringFailed(RewardHubError):
    """A score has no value and the client was told to raise."""

    code = "scoring_failed"


def shortened(text: str, longest: int) -> str:
    """The text, or its beginning and its end where it has more than ``longest`` characters."""
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 1]}…{text[-end:]}"


class _Allowance:
    """Comparisons of names, of which each takes some microseconds: a caller may have thousands of unknown ones."""

    def __init__(self, most: float, per_s: float) -> None:
        self._most, self._per_s, self._left, self._at = most, per_s, most, 0.0

    def spend(self, count: int) -> bool:
        """Whether so many may be made now; none are where that is too many."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if count > self._left:
            return False
        self._left -= count
        return True


_ALLOWANCE = _Allowance(20_000, 10_000)


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known name, else the list of the known ones.

    Where names are asked for faster than they can be compared to all known ones, the list.
    """
    names = sorted(known)
    close: list[str] = []
    if len(name) <= LONGEST_NAME:  # comparing takes time in the product of the lengths
        short = [each for each in names if len(each) <= LONGEST_NAME]
        close = difflib.get_close_matches(name, short, n=1, cutoff=0.4) if _ALLOWANCE.spend(len(short)) else []
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(names[:20])}" if names else "; none is known"
