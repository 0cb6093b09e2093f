"""Fetching media by address, off unless the operator lists hosts.

A name is resolved once, every address it has is checked, and the connection goes to the address that was
checked. Each redirect is a new request with new checks. No cookies, no credentials, no proxies of the
environment, no compression, no connection kept for another fetch.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urljoin

import httpcore

from rewardhub.errors import DeadlineExceeded, InvalidInput, TooLarge, Unavailable
from rewardhub.media.addresses import Policy, Target, parse
from rewardhub.media.turns import Turns
from rewardhub.threads import Threads

WIDTH, QUEUE = 32, 512
"""Fetches at once and those that wait for a turn, of all tenants; half of either is the most of one."""
REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LATER = frozenset({408, 425, 429})
_HEADERS = ((b"accept", b"image/png, image/jpeg, image/webp"), (b"accept-encoding", b"identity"))
LookUp = Callable[..., list[tuple[Any, ...]]]


class Fetcher:
    """Gets at most ``max_bytes`` within ``within_s`` seconds, its turn and redirects included."""

    def __init__(
        self,
        policy: Policy,
        *,
        max_bytes: int,
        within_s: float = 10.0,
        look_up: LookUp = socket.getaddrinfo,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = policy
        self._max_bytes = max_bytes
        self._within_s = within_s
        self._ssl = ssl_context
        self._names = _Names(look_up)
        self._turns = Turns(WIDTH, QUEUE)

    async def get(self, url: str, tenant: str = "") -> bytes:
        """The bytes behind a URL.

        Raises ``InvalidInput`` for what may not or cannot be fetched, ``TooLarge``, ``DeadlineExceeded``, and
        ``Unavailable`` where another try may succeed.
        """
        try:
            async with asyncio.timeout(self._within_s), self._turns.turn(tenant):
                return await self._follow(parse(url), _Pinned(self._policy, self._names, tenant))
        except TimeoutError:
            raise DeadlineExceeded(f"the fetch took more than {self._within_s:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError):
            raise Unavailable("the host could not be reached or broke off", retry_after_s=1.0) from None
        except ValueError:  # of the name's encoding, or of a redirect; errors of TLS, caught above, are some too
            raise InvalidInput("the address, or one that it redirects to, names no host") from None

    async def _follow(self, target: Target, network: "_Pinned") -> bytes:
        for _ in range(REDIRECTS + 1):
            self._policy.check_host(target)
            answer = await self._request(target, network)
            if isinstance(answer, bytes):
                return answer
            if target.scheme == "https" and answer.scheme == "http":
                raise InvalidInput("the host redirects from https to http")
            target = answer
        raise InvalidInput(f"the host redirects more than {REDIRECTS} times")

    async def _request(self, target: Target, network: "_Pinned") -> bytes | Target:
        """The body, or where the host redirects to."""
        url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        async with (
            httpcore.AsyncConnectionPool(ssl_context=self._ssl, network_backend=network) as pool,
            pool.stream("GET", url, headers=[*_HEADERS, (b"host", _host(target))]) as response,
        ):
            headers = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS and b"location" in headers:
                return parse(urljoin(target.origin + target.path, headers[b"location"].decode("latin-1")))
            if response.status in _LATER or response.status >= 500:
                raise Unavailable(f"the host answers {response.status}", retry_after_s=1.0)
            if response.status != 200:
                raise InvalidInput(f"the host answers {response.status}")
            if headers.get(b"content-encoding", b"").lower() not in {b"", b"identity"}:
                raise InvalidInput("the host answers in a content-encoding that was not asked for")
            return await self._body(response, headers.get(b"content-length", b"0"))

    async def _body(self, response: httpcore.Response, declared: bytes) -> bytes:
        if not re.fullmatch(rb"\d{1,18}", declared) or int(declared) > self._max_bytes:
            raise self._too_large()
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self._max_bytes:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the media has more than the limit of {self._max_bytes} bytes")


class _Names:
    """Looks names up on threads of its own, so that slow name servers delay fetches only, and of one tenant first."""

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        self._threads = Threads(WIDTH, "names")
        self._turns = Turns(WIDTH, QUEUE)

    async def addresses(self, host: str, port: int, tenant: str) -> list[str]:
        await self._turns.take(tenant)
        looking = self._threads.run(lambda: self._look_up(host, port, type=socket.SOCK_STREAM))

        def over(looked: asyncio.Future[Any]) -> None:
            looked.exception()  # is told to who waits, if anyone does
            self._turns.give_back(tenant)

        looking.add_done_callback(over)
        found = await asyncio.shield(looking)  # which goes on, and holds its turn, where nobody waits any more
        return list(dict.fromkeys(str(each[4][0]).partition("%")[0] for each in found))


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, never to a name."""

    def __init__(self, policy: Policy, names: _Names, tenant: str) -> None:
        self._policy, self._names, self._tenant = policy, names, tenant
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        for address in await self._addresses(host, port):
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError:
                continue
        raise httpcore.ConnectError("no address answers")

    async def _addresses(self, host: str, port: int) -> list[str]:
        """Every address of the name, all of them allowed."""
        addresses = await self._names.addresses(host, port, self._tenant)
        for address in addresses:
            self._policy.check_address(address, port)
        return addresses


def _host(target: Target) -> bytes:
    host, default = target.origin.partition("://")[2], {"http": ":80", "https": ":443"}[target.scheme]
    return host.removesuffix(default).encode()
