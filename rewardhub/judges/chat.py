"""One call of an OpenAI-compatible chat endpoint, with every size and time bounded."""

import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec

from rewardhub.errors import InternalError, JudgeUnparseable, RewardHubError, Unavailable

LONGEST_RETRY_AFTER_S = 3600.0
UNSTATED_PUSH_BACK_S = 0.25
LONGEST_MODEL_NAME = 200
BROKEN_OFF = frozenset({"length", "max_tokens", "content_filter", "abort", "error"})
"""Ends of a reply that may lack its end."""


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str | None:
        """The content; of parts those that are text, so without what a model thought."""
        if isinstance(self.content, list):
            return "".join(part.text or "" for part in self.content if part.type == "text")
        return self.content


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: Any = None


class _Completion(msgspec.Struct):
    """The names, counts and errors beside the text are read leniently: they void no verdict."""

    choices: list[_Choice] | None = None
    model: Any = None
    usage: Any = None
    error: Any = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint answered, and what broke it off, "" for nothing; token counts are the endpoint's own, 0 where it
    gave none that can be true.
    """

    text: str
    model: str = ""
    broken_off: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EndpointFailure(Unavailable):
    """The endpoint did not answer the call: refused, broke off, stalled, or 408 or 5xx."""


class PushedBack(EndpointFailure):
    """The endpoint answered 429: it is well, and wants fewer calls."""


class Misconfigured(InternalError):
    """401, 403, 404, 405 or a redirect: wrong key, address or model; another call would not help."""


class NotACompletion(JudgeUnparseable):
    """The endpoint's reply is too large or is no chat completion at all."""


async def complete(
    client: httpx.AsyncClient, url: str, headers: dict[str, str], body: dict[str, Any], *, max_bytes: int
) -> Reply:
    """Posts ``body`` to the endpoint at ``url`` and reads at most ``max_bytes`` of the reply.

    The caller bounds the time.

    Raises ``EndpointFailure`` (or ``PushedBack``) where another call may help, ``NotACompletion`` or
    ``JudgeUnparseable`` for a reply that cannot be read, ``Misconfigured`` for a refused key or address
    and ``InternalError`` for any other refused request. No error carries a header or the reply's text.
    """
    content = msgspec.json.encode(body)
    try:
        async with client.stream("POST", f"{url}/chat/completions", headers=headers, content=content) as answer:
            if answer.status_code != 200:
                raise refusal(answer.status_code, answer.headers.get("retry-after", ""))
            data = await _read(answer, max_bytes)
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise EndpointFailure(f"the judge endpoint failed: {type(error).__name__}") from None
    return _decoded(data, most_tokens=max_bytes + len(content))


def refusal(status: int, retry_after: str) -> RewardHubError:
    """The error for an HTTP status other than 200."""
    message = f"the judge endpoint answered {status}"
    seconds = retry_after_s(retry_after)
    if status == 429:
        return PushedBack(message, retry_after_s=seconds or UNSTATED_PUSH_BACK_S)
    if status == 408 or status >= 500:
        return EndpointFailure(message, retry_after_s=seconds)
    return Misconfigured(message) if status in {401, 403, 404, 405} or status < 400 else InternalError(message)


def retry_after_s(header: str) -> float:
    """Seconds of a Retry-After header (a number or an HTTP date); 0 where it is missing or garbled."""
    text = header.strip()[:64]
    try:
        seconds = float(text) if text[:1].isdigit() else _seconds_until(text)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S) if seconds == seconds else 0.0  # noqa: PLR0124  # NaN


def _seconds_until(date: str) -> float:
    when = parsedate_to_datetime(date)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()


async def _read(answer: httpx.Response, max_bytes: int) -> bytes:
    # Raw bytes: the request asked for no compression, so a compressed bomb stays as small as it came.
    data = bytearray()
    async for chunk in answer.aiter_raw():
        data += chunk
        if len(data) > max_bytes:
            raise NotACompletion(f"the reply is over {max_bytes} bytes")
    return bytes(data)


def _decoded(data: bytes, most_tokens: int) -> Reply:
    try:
        completion = msgspec.json.decode(data, type=_Completion)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotACompletion("the reply is not a chat completion") from None
    if not completion.choices and completion.error:
        raise EndpointFailure("the judge endpoint answered 200 with an error")
    text = completion.choices[0].message.text if completion.choices else None
    if text is None:
        raise JudgeUnparseable("the reply holds no text")
    finish = completion.choices[0].finish_reason if completion.choices else None
    usage = completion.usage if isinstance(completion.usage, dict) else {}
    return Reply(
        text=text,
        model=completion.model[:LONGEST_MODEL_NAME] if isinstance(completion.model, str) else "",
        broken_off=finish if isinstance(finish, str) and finish in BROKEN_OFF else "",
        prompt_tokens=_count(usage.get("prompt_tokens"), most_tokens),
        completion_tokens=_count(usage.get("completion_tokens"), most_tokens),
    )


def _count(said: Any, most: int) -> int:
    """A count of tokens as an endpoint tells it: it is added to what a tenant has spent, so it has to be possible."""
    return said if isinstance(said, int) and 0 <= said <= most else 0
