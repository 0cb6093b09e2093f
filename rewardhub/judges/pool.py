"""The HTTP client that all judges share."""

import httpx

from rewardhub.errors import Unavailable

CONNECT_TIMEOUT_S = 5.0


class JudgePool:
    """One client for every judge of a hub. ``start`` and ``aclose`` belong to one event loop."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    @property
    def client(self) -> httpx.AsyncClient:
        """Raises ``Unavailable`` before ``start`` and after ``aclose``."""
        if self._client is None:
            raise Unavailable("the judge pool is not started", retry_after_s=1.0)
        return self._client

    async def start(self) -> None:
        """Opens the client; connections are made as questions need them."""
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=256),
                headers={"accept-encoding": "identity", "content-type": "application/json"},
                follow_redirects=False,
            )

    async def aclose(self) -> None:
        """Closes every connection; calls under way fail as ``unavailable``."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
