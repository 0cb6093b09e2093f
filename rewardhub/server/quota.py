"""Quotas per tenant on requests, responses and tokens; off where none is set.

A quota is a bucket that fills at its rate up to one second's worth. Work is let in while the bucket is not
empty and may leave it in debt, so that one large request passes and the average holds all the same.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from rewardhub.errors import QuotaExceeded
from rewardhub.media.store import MediaStore
from rewardhub.scheduler.program_lane import ProgramLane
from rewardhub.scheduler.tenant_slots import TenantSlots
from rewardhub.server.settings import Quota
from rewardhub.server.surface import OpenGroup, ScoringHub
from rewardhub.types import Call, Group, GroupScores, Response

CHARS_PER_TOKEN = 4
"""For responses whose token count the trainer does not send."""


class Bucket:
    """Holds at most ``rate`` units, gains ``rate`` per second; ``now`` is in seconds."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._level = rate
        self._filled = now

    def wait_s(self, now: float) -> float:
        """Seconds until work is let in; 0 is now."""
        self._level = min(self.rate, self._level + (now - self._filled) * self.rate)
        self._filled = now
        return 0.0 if self._level > 0 else max(1e-3, -self._level / self.rate)

    def spend(self, units: float) -> None:
        self._level -= units


class Quotas:
    """The buckets of every tenant that has quotas. ``clock`` is in seconds."""

    def __init__(self, quotas: Mapping[str, Quota], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, dict[str, Bucket]] = {}
        self.programs = TenantSlots()
        self.take(quotas)

    def take(self, quotas: Mapping[str, Quota]) -> None:
        """Holds tenants to these quotas from now on; what they are in debt they stay in debt."""
        self._buckets = {
            tenant: {name: self._bucket(tenant, name, rate) for name, rate in _rates(quota).items() if rate}
            for tenant, quota in quotas.items()
        }
        self.programs.take({tenant: quota.sandboxes for tenant, quota in quotas.items()})

    def _bucket(self, tenant: str, name: str, rate: float) -> Bucket:
        bucket = self._buckets.get(tenant, {}).get(name)
        if bucket is None:
            return Bucket(rate, self._clock())
        bucket.wait_s(self._clock())  # fills it at the rate that held until now
        bucket.rate = rate
        return bucket

    def admit(self, tenant: str) -> None:
        """Raises ``QuotaExceeded`` naming the quota that is used up, with the time until it is not."""
        buckets, now = self._buckets.get(tenant), self._clock()
        for name, bucket in (buckets or {}).items():
            if wait_s := bucket.wait_s(now):
                quota = name.replace("_", " ").replace(" per s", " per second")
                raise QuotaExceeded(
                    f"the quota of {bucket.rate:g} {quota} is used up", field=name, retry_after_s=wait_s
                )

    def charge(self, tenant: str, responses: Iterable[Response], *, requests: int = 1) -> None:
        """Counts the work of requests, or of one that was let in before; raises as :meth:`admit` where it is not."""
        if requests:
            self.admit(tenant)
        buckets = self._buckets.get(tenant)
        if not buckets:
            return
        given = tuple(responses)
        costs = {
            "requests_per_s": lambda: requests,
            "responses_per_s": lambda: len(given),
            "tokens_per_s": lambda: sum(map(_tokens, given)),
        }
        for name, bucket in buckets.items():
            bucket.spend(costs[name]())


def _rates(quota: Quota) -> dict[str, float]:
    return {name: rate for name, rate in quota.model_dump().items() if name.endswith("_per_s")}


def _tokens(response: Response) -> int:
    if response.tokens is not None:
        return response.tokens
    chars = len(response.text) + sum(_chars(message.get("content")) for message in response.messages)
    return chars // CHARS_PER_TOKEN + 1


def _chars(content: Any) -> int:
    """Of a message's content, a text or its parts."""
    if isinstance(content, str):
        return len(content)
    return sum(len(part.get("text") or "") for part in content or ())


class Metered:
    """A hub behind quotas."""

    def __init__(self, hub: ScoringHub, quotas: Quotas) -> None:
        self._hub = hub
        self._quotas = quotas

    @property
    def media(self) -> MediaStore:
        return self._hub.media

    @property
    def programs(self) -> ProgramLane:
        return self._hub.programs

    async def start(self) -> None:
        await self._hub.start()

    def admit(self, tenant: str = "") -> None:
        self._quotas.admit(tenant)
        self._hub.admit(tenant)

    def check_room(self, recipe: str, rows: int, call: Call, tenant: str) -> None:
        self._hub.check_room(recipe, rows, call, tenant)

    async def score(self, groups: Sequence[Group], call: Call, *, tenant: str = "") -> list[GroupScores]:
        self._quotas.charge(tenant, (response for group in groups for response in group.responses))
        return await self._hub.score(groups, call, tenant=tenant)

    def open(self, group: Group, call: Call, *, tenant: str = "") -> OpenGroup:
        self._quotas.charge(tenant, group.responses)
        return _MeteredGroup(self._hub.open(group, call, tenant=tenant), self._quotas, tenant)

    def scorers(self) -> list[dict[str, Any]]:
        return self._hub.scorers()

    def writers(self) -> list[str]:
        return self._hub.writers()

    async def reload(self) -> dict[str, list[str]]:
        return await self._hub.reload()

    def ready(self) -> list[str]:
        return self._hub.ready()

    def metrics_text(self) -> bytes:
        return self._hub.metrics_text()

    async def drain(self, grace_s: float) -> None:
        await self._hub.drain(grace_s)

    async def aclose(self) -> None:
        await self._hub.aclose()


class _MeteredGroup:
    def __init__(self, opened: OpenGroup, quotas: Quotas, tenant: str) -> None:
        self._opened = opened
        self._quotas = quotas
        self._tenant = tenant

    def add(self, responses: Sequence[Response]) -> None:
        self._quotas.charge(self._tenant, responses, requests=0)
        self._opened.add(responses)

    @property
    def late(self) -> bool:
        return self._opened.late

    def close(self) -> None:
        self._opened.close()

    def cancel(self) -> None:
        self._opened.cancel()

    def __aiter__(self) -> AsyncIterator[GroupScores]:
        return aiter(self._opened)
