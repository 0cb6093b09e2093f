"""Single flight between hubs: who computes a key holds a short lease on it in Redis.

One script answers per key its score or claims it. The holder renews its leases while it computes and gives each
back after its score is stored; both are fenced by a token, so that a holder that was away too long cannot end
another's lease. Who finds a key held asks again and again, for half of its own remaining time, and then computes
itself; where the holder failed, or died and its lease has ended, one of those who ask holds the key next. Where Redis
does not answer everything is granted.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from rewardhub.cache.redis_store import RedisStore
from rewardhub.cache.row import Row

LEASE_MS = 2_000
POLL_S = (0.005, 0.01, 0.02, 0.05)

_RENEW = """
for _, key in ipairs(KEYS) do
    if redis.call('get', key) == ARGV[1] then redis.call('pexpire', key, ARGV[2]) end
end
"""
_RELEASE = """
for _, key in ipairs(KEYS) do
    if redis.call('get', key) == ARGV[1] then redis.call('del', key) end
end
"""


class Lease(AbstractContextManager["Lease"]):
    """The keys that one look-up holds, until it ends.

    ``patience_s`` is how long it may wait, ``until`` the time of ``time.monotonic`` when it no longer does.
    """

    def __init__(self, store: RedisStore, patience_s: float, until: float, *, lease_ms: int = LEASE_MS) -> None:
        self._store, self._until, self._lease_ms = store, until, lease_ms
        self._within_s = patience_s / 2
        self._token = secrets.token_hex(8)
        self._turn = 0
        self._held: list[bytes] = []
        self._renewing: asyncio.Task[None] | None = None

    async def claim(self, keys: Sequence[bytes]) -> tuple[dict[bytes, Row], list[bytes]]:
        """The rows known by now, and the keys that this look-up is to compute; to be asked again for the rest."""
        if self._turn:
            await asyncio.sleep(POLL_S[min(self._turn, len(POLL_S)) - 1])
        self._turn += 1
        replies = await self._store.claim(keys, self._token, self._lease_ms, self._within_s)
        if replies is None:
            self._hold(keys if self._store.open else ())  # the claim may arrive all the same
            return {}, list(keys)
        late = time.monotonic() >= self._until
        answers = list(zip(keys, replies, strict=True))
        self._hold([key for key, reply in answers if reply is True])
        known = {key: reply for key, reply in answers if not isinstance(reply, bool)}
        return known, [key for key, reply in answers if reply is True or (late and reply is False)]

    def release(self, keys: Sequence[bytes]) -> None:
        """Gives back what has been computed: nobody is to wait for it who only waits for the rest with this one."""
        done = set(keys)
        self._store.scripted(_RELEASE, [key for key in self._held if key in done], self._token)
        self._held = [key for key in self._held if key not in done]

    def __exit__(self, *_: object) -> None:
        if self._renewing:
            self._renewing.cancel()
        self._store.scripted(_RELEASE, self._held, self._token)

    def _hold(self, keys: Sequence[bytes]) -> None:
        self._held += keys
        if self._held and self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_ms / 3000)
            self._store.scripted(_RENEW, self._held, self._token, str(self._lease_ms))
