"""Events that wait for media: named to the caller as missing, run once the bytes are there.

Events of one group keep their order: what follows a waiting event of the same group waits behind it.
"""

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from rewardhub.errors import QuotaExceeded, RewardHubError

MAX_PARKED = 1_024


@dataclass(slots=True)
class Parked:
    """``run`` does the event's work; ``refuse`` answers for it when the media never came."""

    group_id: str
    missing: set[str]
    until: float
    run: Callable[[], Awaitable[None]]
    refuse: Callable[[RewardHubError], None]


class Parking:
    """The waiting events of one stream, oldest first."""

    def __init__(self) -> None:
        self._parked: list[Parked] = []

    def __len__(self) -> int:
        return len(self._parked)

    def holds(self, group_id: str) -> bool:
        return any(each.group_id == group_id for each in self._parked)

    def park(self, event: Parked) -> None:
        if len(self._parked) >= MAX_PARKED:
            raise QuotaExceeded(f"more than {MAX_PARKED} events wait for media on this stream", retry_after_s=1.0)
        self._parked.append(event)

    def forget(self, group_id: str) -> bool:
        """Drops a group's events; tells whether there were any."""
        before = len(self._parked)
        self._parked = [each for each in self._parked if each.group_id != group_id]
        return len(self._parked) < before

    def wanted(self) -> list[str]:
        return [sha256 for each in self._parked for sha256 in each.missing]

    async def release(self, missing: Collection[str]) -> None:
        """Runs, in order, what waits for none of the ``missing`` hashes and behind no other event."""
        waiting: list[Parked] = []
        free: list[Parked] = []
        behind: set[str] = set()
        for each in self._parked:
            each.missing.intersection_update(missing)
            blocked = bool(each.missing) or each.group_id in behind
            (waiting if blocked else free).append(each)
            if blocked:
                behind.add(each.group_id)
        self._parked = waiting
        for each in free:
            await each.run()

    def refuse_hash(self, sha256: str, error: RewardHubError) -> None:
        """Answers for all that waits for a media that turned out to be unusable."""
        self._refuse([each.group_id for each in self._parked if sha256 in each.missing], error)

    def refuse_late(self, error: RewardHubError, now: float | None = None) -> None:
        """Answers for all that has waited too long; ``now`` is in ``time.monotonic`` seconds."""
        moment = time.monotonic() if now is None else now
        self._refuse([each.group_id for each in self._parked if each.until <= moment], error)

    def _refuse(self, groups: Collection[str], error: RewardHubError) -> None:
        refused = [each for each in self._parked if each.group_id in groups]
        self._parked = [each for each in self._parked if each.group_id not in groups]
        for each in refused:
            each.refuse(error)
