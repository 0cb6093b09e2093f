"""Events that wait for media: named to the caller as missing, run once the bytes are there.

Events of one group keep their order: what follows a waiting event of the same group waits behind it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from rewardhub.errors import QuotaExceeded, RewardHubError

MAX_PARKED = 1_024


@dataclass(slots=True, eq=False)
class Parked:
    """``run`` does the event's work, whether or not its media came; ``drop`` answers for it unrun."""

    group_id: str
    missing: set[str]
    until: float
    run: Callable[[], Awaitable[None]]
    drop: Callable[[RewardHubError], None]
    running: bool = False


class Parking:
    """The waiting events of one stream, oldest first."""

    def __init__(self) -> None:
        self._parked: list[Parked] = []
        self._turn = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._parked)

    def holds(self, group_id: str) -> bool:
        return any(each.group_id == group_id for each in self._parked)

    def park(self, event: Parked) -> None:
        if len(self._parked) >= MAX_PARKED:
            raise QuotaExceeded(f"more than {MAX_PARKED} events wait for media on this stream", retry_after_s=1.0)
        self._parked.append(event)

    def wanted(self) -> list[str]:
        return [sha256 for each in self._parked for sha256 in each.missing]

    async def release(self, missing: Collection[str]) -> None:
        """Runs, in order, what waits for none of the ``missing`` hashes and behind no other event."""
        async with self._turn:
            for each in self._parked:
                each.missing.intersection_update(missing)
            while (event := self._next()) is not None:
                event.running = True  # stays parked meanwhile, so that nothing overtakes it
                try:
                    await event.run()
                finally:
                    self._parked.remove(event)

    def _next(self) -> Parked | None:
        behind: set[str] = set()
        for each in self._parked:
            if not each.missing and each.group_id not in behind:
                return each
            behind.add(each.group_id)
        return None

    def give_up(self, now: float | None = None) -> None:
        """Lets run, without its media, what has waited too long; ``now`` is in ``time.monotonic`` seconds."""
        moment = time.monotonic() if now is None else now
        for each in self._parked:
            if each.until <= moment:
                each.missing.clear()

    def give_up_on(self, sha256: str) -> None:
        """Waits no longer for a media that turned out to be unusable."""
        for each in self._parked:
            each.missing.discard(sha256)

    def drop(self, group_id: str, error: RewardHubError) -> None:
        """Answers for a group's events that have not run."""
        dropped = [each for each in self._parked if each.group_id == group_id and not each.running]
        self._parked = [each for each in self._parked if each not in dropped]
        for each in dropped:
            each.drop(error)
