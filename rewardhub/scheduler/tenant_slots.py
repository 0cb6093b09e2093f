"""How many programs of one tenant may be in the sandbox at once."""

from collections import Counter
from collections.abc import Mapping

from rewardhub.errors import QuotaExceeded


class TenantSlots:
    """``limits`` by tenant; a tenant without one has none.

    Work is let in while fewer programs than the limit are there and may bring more than are left, so that a
    group larger than its limit is not refused for ever.
    """

    def __init__(self, limits: Mapping[str, int] | None = None) -> None:
        self._held: Counter[str] = Counter()
        self.take(limits or {})

    def take(self, limits: Mapping[str, int]) -> None:
        """Lets work in by these limits from now on; 0 is none."""
        self._limits = {tenant: limit for tenant, limit in limits.items() if limit}

    def enter(self, tenant: str, count: int = 1) -> None:
        """Counts ``count`` programs; raises ``QuotaExceeded`` naming the quota."""
        limit = self._limits.get(tenant)
        if limit is not None and self._held[tenant] >= limit:
            raise QuotaExceeded(
                f"the quota of {limit} sandboxes at once is used up", field="sandboxes", retry_after_s=1.0
            )
        self._held[tenant] += count

    def leave(self, tenant: str) -> None:
        """One program of the tenant has ended."""
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
