"""How many programs of one tenant may be in the sandbox at once."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping

from rewardhub.errors import QuotaExceeded


class TenantSlots:
    """``limits`` by tenant; a tenant without one has none.

    Work is let in while fewer programs than the limit are there and may bring more than are left, so that a
    group larger than its limit is not refused for ever.
    """

    def __init__(self, limits: Mapping[str, int] | None = None) -> None:
        self._limits = {tenant: limit for tenant, limit in (limits or {}).items() if limit}
        self._held: Counter[str] = Counter()

    @contextlib.contextmanager
    def hold(self, tenant: str, count: int) -> Iterator[None]:
        """``count`` programs; raises ``QuotaExceeded`` naming the quota."""
        limit = self._limits.get(tenant)
        if limit is None:
            yield
            return
        if self._held[tenant] >= limit:
            raise QuotaExceeded(
                f"the quota of {limit} sandboxes at once is used up", field="sandboxes", retry_after_s=1.0
            )
        self._held[tenant] += count
        try:
            yield
        finally:
            self._held[tenant] -= count
