"""The server below the REST door: its socket, its limits and its certificates."""

import contextlib
import math
import os
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from rewardhub.errors import ConfigError
from rewardhub.server.auth import parse_address
from rewardhub.server.http_protocol import HeadLimited
from rewardhub.server.settings import BACKSTOP

LAST_WRITES_S = 2.0


class RestServer(uvicorn.Server):
    """Serves ``app`` on one socket, over TLS where there is a ``context``. Leaves the signals to others."""

    def __init__(self, app: ASGIApp, listening: socket.socket, calls: int, context: ssl.SSLContext | None) -> None:
        config = uvicorn.Config(
            app,
            http=HeadLimited,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=BACKSTOP * calls,
            timeout_graceful_shutdown=math.ceil(LAST_WRITES_S),
        )
        config.load()
        config.ssl = context
        self._listening = listening
        super().__init__(config)

    async def run_on_socket(self) -> None:
        """Serves until ``should_exit``."""
        await self.serve([self._listening])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # A listener closes its socket when it ends, and another one may follow.
        await super().startup([each.dup() for each in sockets or ()])

    async def take(self, context: ssl.SSLContext) -> None:
        """Whoever connects from now on is shown these certificates; connections that there are go on.

        What waits to be accepted stays in the socket's queue, which the old and the new listener share.
        """
        old, before = self.servers, self.config.ssl
        self.config.ssl = context
        try:
            await self.startup([self._listening])
        except BaseException:
            self.servers, self.config.ssl = old, before
            raise
        for each in old:
            each.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _said(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)  # of a name: negative


@contextlib.contextmanager
def bound(address: str) -> Iterator[socket.socket]:
    """A listening socket; raises ``ConfigError`` where there is none to be had."""
    host, port = parse_address("http", address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"http: REST cannot listen on {address}: {_said(error)}", field="http") from None
    # asyncio sets this only on sockets that name their protocol; accepted ones inherit it from here.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listening:
        yield listening
