"""The HTTP connections that all judges share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ssl import SSLContext

import httpx

from rewardhub.errors import Unavailable
from rewardhub.media.look import Looker

CONNECT_TIMEOUT_S = 5.0
CALLS_PER_CLIENT = 8


@dataclass(slots=True)
class _Shard:
    client: httpx.AsyncClient
    calls: int = 0


class JudgePool:
    """The connections of a hub's judges, and what looks at their images. ``start`` and ``aclose`` belong to one event
    loop.

    A client's connection pool takes time in the square of its connections for every request, so a
    client serves a few calls at once and more of them are made as they are needed.
    """

    def __init__(self) -> None:
        self._shards: list[_Shard] = []
        self._ssl: SSLContext | None = None
        self.looker = Looker()

    @contextmanager
    def client(self) -> Iterator[httpx.AsyncClient]:
        """A client for one call; raises ``Unavailable`` before ``start`` and after ``aclose``."""
        if self._ssl is None:
            raise Unavailable("the judge pool is not started", retry_after_s=1.0)
        shard = next((each for each in self._shards if each.calls < CALLS_PER_CLIENT), None)
        if shard is None:
            shard = _Shard(_new_client(self._ssl))
            self._shards.append(shard)
        shard.calls += 1
        try:
            yield shard.client
        finally:
            shard.calls -= 1

    async def start(self) -> None:
        """Makes ready for calls; connections are opened as questions need them."""
        self._ssl = self._ssl or httpx.create_ssl_context()

    async def aclose(self) -> None:
        """Closes every connection; calls under way fail."""
        shards, self._shards, self._ssl = self._shards, [], None
        for shard in shards:
            await shard.client.aclose()
        await self.looker.aclose()


def _new_client(ssl: SSLContext) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        verify=ssl,
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=30.0),
        headers={"accept-encoding": "identity", "content-type": "application/json"},
        follow_redirects=False,
    )
