"""What every REST request passes: key and scope, errors in one shape, metrics."""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rewardhub import logs, tracing
from rewardhub.errors import Forbidden, InternalError, InvalidInput, RewardHubError, Unavailable, UnspokenHttp
from rewardhub.server import replies
from rewardhub.server.auth import OPEN_ROUTES, SCOPES, Auth, Caller, is_loopback
from rewardhub.server.body import FULL, waits_to_send
from rewardhub.server.inflight import Inflight
from rewardhub.server.metrics import DoorMetrics

_LONGEST_HOST = 256
"""Characters of what can name this machine."""
Endpoint = Callable[[Request], Awaitable[Response]]
_HOST = re.compile(r"(\[[0-9A-Fa-fvV:.~_-]+\]|[\w.~%!$&'()*+,;=-]*)(:\d*)?", re.ASCII)


class Guard:
    """The outermost ASGI layer. Puts the :class:`Caller` into the request's state as ``caller``, its part of what
    is in flight as ``share``, and as ``held`` a stack of what is given back once the request is answered.

    ``routes`` are answered by their endpoints; ``app`` has everything else: the documents, and what is no route.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Mapping[tuple[str, str], Endpoint],
        auth: Auth,
        inflight: Inflight,
        metrics: DoorMetrics,
    ) -> None:
        self._app = app
        self._routes = routes
        self._auth = auth
        self._inflight = inflight
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        watched = _Watched(scope, receive, send)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]  # the server leaves the body out
        endpoint = self._routes.get((method, scope["path"]))
        try:
            with contextlib.ExitStack() as held:
                if scope["extensions"][FULL]:
                    raise Unavailable("too many connections", retry_after_s=1.0)
                headers = _text(scope)
                caller = self._admit(scope, headers)
                share = self._inflight.of(caller.tenant if caller and caller.tenant else _peer(scope))
                scope["state"] = {"caller": caller, "held": held, "share": share}
                if scope["path"] not in OPEN_ROUTES:
                    held.enter_context(share.call())
                held.enter_context(tracing.caller(headers))
                if endpoint is None:
                    await self._app(scope, watched.receive, watched)
                else:
                    reply = await endpoint(Request(scope, watched.receive))
                    await reply(scope, watched.receive, watched)
        except RewardHubError as error:
            await watched.reply(error)
        except asyncio.CancelledError:  # by nobody but the server, whose time to finish is over
            if watched.status:
                raise
            await watched.reply(Unavailable("the hub is shutting down", retry_after_s=1.0))
        except Exception as error:
            # What fails within the application has been told and logged by it.
            if endpoint is not None or not watched.status:
                await watched.reply(internal(scope, error))
        finally:
            self._metrics.request("rest", _route(scope), str(watched.status or 499), time.perf_counter() - started)

    def _admit(self, scope: Scope, headers: list[tuple[str, str]]) -> Caller | None:
        _check_framing(headers, scope["http_version"])
        _check_host(headers, scope["http_version"])
        if scope["path"] in OPEN_ROUTES:
            return self._caller_if_any(headers)
        if self._auth.keyless:
            _check_same_machine(headers)
        caller = self._auth.caller(headers)
        caller.require(SCOPES.get(scope["path"]))
        return caller

    def _caller_if_any(self, headers: list[tuple[str, str]]) -> Caller | None:
        try:
            return self._auth.caller(headers)
        except RewardHubError:
            return None


class _Watched:
    """``send`` that remembers the status of the answer, 0 before it began, and ``receive`` whether it was called."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._asked = False
        self.status = 0

    async def receive(self) -> Message:
        self._asked = True
        return await self._receive()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            # A caller that was not told to send its body may do so, or send its next request: nobody can tell which.
            if not self._asked and waits_to_send(Headers(scope=self._scope)):
                MutableHeaders(scope=message)["connection"] = "close"
        await self._send(message)

    async def reply(self, error: RewardHubError) -> None:
        if not self.status:
            await replies.error_reply(error, self._scope["path"])(self._scope, self._receive, self)


def internal(scope: Scope, error: Exception) -> InternalError:
    """Logs the exception; the caller is told its id only."""
    error_id = logs.fault("request failed", error, method=scope["method"], route=_route(scope))
    return InternalError(f"an internal error; its id is {error_id}")


def _text(scope: Scope) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]


def tenant_of(scope: Scope) -> str:
    caller: Caller | None = scope["state"]["caller"]
    return caller.tenant if caller else ""


def _peer(scope: Scope) -> str:
    """The address that callers without a key are told apart by."""
    client: tuple[str, int] | None = scope["client"]
    return client[0] if client else ""


def _route(scope: Scope) -> str:
    path: str = scope["path"]
    return path if path in SCOPES or path in OPEN_ROUTES else "other"


def _check_framing(headers: list[tuple[str, str]], version: str) -> None:
    """RFC 9112 6.1: where a proxy and the hub could take a body to end at different places, neither is asked to."""
    if version not in {"1.0", "1.1"}:
        raise UnspokenHttp("expected HTTP/1.1", 505)
    codings = [value.strip().lower() for name, value in headers if name == "transfer-encoding"]
    if codings and version == "1.0":
        raise InvalidInput("HTTP/1.0 has no transfer codings", field="transfer-encoding")
    if codings not in ([], ["chunked"]):
        raise UnspokenHttp("the only transfer coding is chunked", 501, field="transfer-encoding")


def _check_host(headers: list[tuple[str, str]], version: str) -> None:
    """RFC 9112 3.2: a proxy and the hub could read two of them, or none, otherwise."""
    hosts = [value for name, value in headers if name == "host"]
    if len(hosts) > 1 or (not hosts and version != "1.0") or not all(map(_HOST.fullmatch, hosts)):
        raise InvalidInput("expected one host header, a name or an address and perhaps a port", field="host")


def _check_same_machine(headers: list[tuple[str, str]]) -> None:
    # Without keys, a page in this machine's browser must not reach the hub: neither across origins
    # nor by a name that resolves to the loopback address.
    for name, value in headers:
        if name in {"host", "origin"} and not (len(value) < _LONGEST_HOST and _names_loopback(name, value)):
            raise Forbidden(f"without keys, the {name} must name this machine by 127.0.0.1, [::1] or localhost")


@lru_cache(maxsize=256)
def _names_loopback(name: str, value: str) -> bool:
    try:
        return is_loopback(urlsplit(value if name == "origin" else f"//{value}").hostname or "")
    except ValueError:
        return False
