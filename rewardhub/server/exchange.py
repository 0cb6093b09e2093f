"""A reload at the doors: keys, quotas and certificates as the operator's files now state them."""

import asyncio
from collections.abc import Awaitable, Callable

from rewardhub.server import certificates
from rewardhub.server.auth import Auth
from rewardhub.server.certificates import Certificates
from rewardhub.server.quota import Quotas
from rewardhub.server.settings import ServerSettings
from rewardhub.server.surface import ScoringHub

Show = Callable[[Certificates], Awaitable[None]]


class Exchange:
    """``reread`` gives the settings as they now are, and raises where they cannot be served with; ``show`` hands
    certificates to both doors. No connection, call or stream is ended.
    """

    def __init__(self, hub: ScoringHub, served: ServerSettings, auth: Auth, quotas: Quotas, show: Show) -> None:
        self._hub = hub
        self._served = served
        self._auth = auth
        self._quotas = quotas
        self._show = show
        self._turn = asyncio.Lock()
        self.reread: Callable[[], ServerSettings] = lambda: served

    async def __call__(self) -> dict[str, list[str]]:
        """What the hub exchanged, and as ``restart`` the names of changed fields that hold after a restart only.

        Raises ``ConfigError``, with nothing changed, for what cannot be used.
        """
        async with self._turn:
            settings = await asyncio.to_thread(self.reread)
            fixed, shown = self._fixed(settings), None
            if settings.tls is not None and "server.tls" not in fixed:
                shown = await asyncio.to_thread(certificates.load, settings.tls)
            told = await self._hub.reload()
            self._auth.take(settings.keys)
            self._quotas.take(settings.quotas)
            if shown is not None:
                await self._show(shown)
            return told | {"restart": sorted([*told["restart"], *fixed])}

    def _fixed(self, settings: ServerSettings) -> list[str]:
        """A listener speaks TLS or does not, and gRPC's asks every caller for a certificate or none."""
        before, now = self._served, settings
        asks = [(each.tls is not None, bool(each.tls and each.tls.client_ca)) for each in (before, now)]
        changed = {"server.limits": before.limits != now.limits, "server.tls": asks[0] != asks[1]}
        return [name for name, is_changed in changed.items() if is_changed]
