"""Reading a request body under limits, and giving up work that nobody waits for."""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from rewardhub.errors import Cancelled, DeadlineExceeded, TooLarge, Unavailable, UnspokenHttp
from rewardhub.server.inflight import Upload
from rewardhub.wire.holders import check_holders
from rewardhub.wire.lines import loads

T = TypeVar("T")
_DISCARD_S = 2.0
MAX_HOLDERS = 1_000_000
GONE, FULL = "rewardhub.gone", "rewardhub.full"
"""Extensions of the ASGI scope: what tells when the caller goes away, as a task that waits for it would cost more, and
whether the door has too many connections to answer.
"""


async def read_body(request: Request, upload: Upload, within_s: float) -> bytes:
    """The body; limits hold for the bytes that come, whatever their declared length.

    Raises ``TooLarge``, ``DeadlineExceeded`` for one that trickles, ``UnspokenHttp`` for an encoded one.
    """
    encodings = {each.strip().lower() for each in request.headers.getlist("content-encoding")}
    if not encodings <= {"", "identity"}:
        raise UnspokenHttp(
            "a body with a content-encoding is not accepted, send it plain", 415, field="content-encoding"
        )
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > upload.limit:
        await discard_unread(request, upload.limit)
        raise upload.too_large()
    try:
        async with asyncio.timeout(within_s):
            async for chunk in request.stream():
                upload.add(chunk)
            return upload.joined()
    except (TooLarge, Unavailable):
        await _discard(request, upload.limit)
        raise
    except TimeoutError:
        raise DeadlineExceeded(f"the body did not come within {within_s:g} s") from None
    except ClientDisconnect:
        raise Cancelled("the caller went away") from None


def decoded(body: bytes) -> Any:
    """The JSON value; raises ``InvalidInput``, for more than ``MAX_HOLDERS`` objects and lists before they are made."""
    check_holders(body, MAX_HOLDERS, "body")
    return loads(body)


def waits_to_send(headers: Mapping[str, str]) -> bool:
    """Whether the caller sends its body once it is told to."""
    return headers.get("expect", "").lower() == "100-continue"


async def discard_unread(request: Request, limit: int) -> None:
    """Lets a caller that sends a body of which nothing was read come to its end."""
    if not waits_to_send(request.headers):
        await _discard(request, limit)


async def _discard(request: Request, limit: int) -> None:
    # While it sends it does not read, and closing on it would lose the answer.
    left = 8 * limit
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(_DISCARD_S):
            while left > 0:
                message = await request.receive()
                if not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which is cancelled when the caller disconnects; then raises ``Cancelled``."""
    task, gone = asyncio.current_task(), False
    assert task is not None

    def leave() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    watch = request.scope["extensions"][GONE]
    if not watch(leave):
        work.close()
        raise Cancelled("the caller went away")
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise Cancelled("the caller went away") from None
    finally:
        watch(None)


async def disconnected(request: Request) -> None:
    """Returns when the caller is gone; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
