"""The REST door. Groups that are all at hand travel to /v1/score, those that come one by one to
/v1/score/stream, in one request for all that wait.
"""

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from rewardhub.client.entry import Entry
from rewardhub.client.refusal import ConnectionLost, from_httpx, from_reply, from_stranger, refusal
from rewardhub.client.session import Session
from rewardhub.client.settings import GROUPS_OF_A_REQUEST, RESPONSES_OF_A_REQUEST, Settings
from rewardhub.errors import InternalError, InvalidInput, RewardHubError
from rewardhub.types import Group, Json
from rewardhub.wire.lines import call_to_json, dumps, group_to_json, loads, scores_from_json, to_bytes

_BODY_BYTES = 3 << 20
_CONNECTIONS = 1_000
"""As many as a hub takes calls at once: members of open groups each hold one while they wait for the others."""
_LIMITS = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=256, keepalive_expiry=4)
_LONGEST_GATHERING_S = 0.02
_CONNECT_S = 5.0


class RestDoor:
    """Lives on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.url, self.met = settings.shown, False
        headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        # The default context reads SSL_CERT_FILE; a proxy of the environment is not for a hub of one's own.
        trusted = ssl.create_default_context() if settings.url.startswith("https") else False
        # What waits for a connection waits here: httpx would go through all that wait at each request's begin and end.
        self._free = asyncio.Semaphore(_CONNECTIONS)
        self._http = httpx.AsyncClient(
            base_url=settings.url, headers=headers, limits=_LIMITS, verify=trusted, trust_env=False
        )

    async def exchange(self, session: Session) -> None:
        posts: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as tasks:
            while entries := await session.take():
                streamed = not session.is_whole(entries)
                for part, body in _bodies(session.encoded(entries, _line)):
                    post = tasks.create_task(self._post(session, part, body, streamed=streamed))
                    posts.add(post)
                    post.add_done_callback(posts.discard)
                # The busier the hub, the longer groups gather: fewer requests, and a lone group never waits.
                await asyncio.sleep(min(len(posts) / 1000, _LONGEST_GATHERING_S))

    async def _post(self, session: Session, entries: list[Entry], groups: bytes, *, streamed: bool) -> None:
        left_ms = max(map(session.remaining_ms, entries))
        options = dumps(call_to_json(session.call) | {"deadline_ms": left_ms})
        body = b'%s,"groups":[%s]}' % (options[:-1].encode(), groups)
        this = object()
        for entry in entries:
            entry.post = this
        try:
            if streamed:
                await self._lines(session, body, left_ms / 1000 + 1)
            else:
                reply = await self._json("POST", "/v1/score", left_ms / 1000 + 1, body)
                for line in reply["groups"]:
                    session.settle(scores_from_json(line), final=True)
            lost: RewardHubError = ConnectionLost(f"{self.url} ended its answer early")
        except RewardHubError as error:
            lost = error
        except (KeyError, TypeError, ValueError) as error:
            lost = InternalError(f"{self.url} answered what no hub answers: {error!r}")
        # One that was refused may be under way again, in another.
        session.refuse([entry for entry in entries if entry.sent and entry.post is this], lost)

    async def _lines(self, session: Session, body: bytes, timeout_s: float) -> None:
        async with self._answering("POST", "/v1/score/stream", timeout_s, body) as response:
            async for line in _split(response):
                data = _decoded(line)
                if "error" in data and "scores" not in data:
                    raise _line_error(data["error"])
                session.settle(scores_from_json(data))

    async def _json(self, method: str, path: str, timeout_s: float, body: bytes = b"") -> Any:
        async with self._answering(method, path, timeout_s, body) as response:
            return _decoded(await response.aread())

    @asynccontextmanager
    async def _answering(self, method: str, path: str, timeout_s: float, body: bytes) -> AsyncIterator[httpx.Response]:
        timeout = httpx.Timeout(timeout_s, connect=min(_CONNECT_S, timeout_s))
        kind = "application/octet-stream" if path == "/v1/media" else "application/json"
        headers = {"content-type": kind} if body else {}
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._free,
                self._http.stream(method, path, content=body, headers=headers, timeout=timeout) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    raise from_reply(self.url, response.status_code, response.headers, await response.aread())
                if response.headers.get("content-type", "").startswith("text/html"):
                    raise from_stranger(self.url, response.status_code, ", a page of HTML")
                yield response
        except httpx.HTTPError as error:
            raise from_httpx(error, self.url) from None
        except TimeoutError:
            raise from_httpx(httpx.ReadTimeout(""), self.url) from None

    async def put_media(self, data: bytes, timeout_s: float) -> None:
        await self._json("PUT", "/v1/media", timeout_s, data)

    async def scorers(self, timeout_s: float) -> list[Json]:
        reply = await self._json("GET", "/v1/scorers", timeout_s)
        return list(reply["scorers"])

    async def close(self) -> None:
        await self._http.aclose()


def _line(group: Group) -> bytes:
    return to_bytes(group_to_json(group))


def _bodies(encoded: Sequence[tuple[Entry, bytes]]) -> Iterator[tuple[list[Entry], bytes]]:
    """Entries with their JSON, in parts that fit a body."""
    part: list[Entry] = []
    lines: list[bytes] = []
    size = rows = 0
    for entry, line in encoded:
        more = len(entry.group.responses)
        full = len(part) == GROUPS_OF_A_REQUEST or rows + more > RESPONSES_OF_A_REQUEST
        if part and (full or size + len(line) > _BODY_BYTES):
            yield part, b",".join(lines)
            part, lines, size, rows = [], [], 0, 0
        part.append(entry)
        lines.append(line)
        size += len(line)
        rows += more
    if part:
        yield part, b",".join(lines)


async def _split(response: httpx.Response) -> AsyncIterator[bytes]:
    # Only "\n" ends a line: text in JSON may hold U+2028 and others that str.splitlines() would cut at.
    rest = b""
    async for data in response.aiter_bytes():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
    if rest.strip():
        yield rest


def _decoded(data: bytes) -> Any:
    try:
        return loads(data)
    except InvalidInput as error:  # a fault of whoever answered, not of the caller
        raise InternalError(f"the answer is {error.message}") from None


def _line_error(data: Json) -> RewardHubError:
    wait = data.get("retry_after_s") or 0.0
    wait_s = float(wait) if isinstance(wait, int | float) and math.isfinite(wait) else 0.0
    return refusal(str(data.get("code")), str(data.get("message")), str(data.get("field") or ""), wait_s)
