"""Events that wait for media: named to the caller as missing, run once the bytes are there.

Events of one group keep their order: what follows a waiting event of the same group waits behind it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from rewardhub.errors import QuotaExceeded, RewardHubError
from rewardhub.server.inflight import Share

MAX_PARKED, MAX_MISSING = 1_024, 65_536
"""Events that wait on one stream, and media that they wait for."""


@dataclass(slots=True, eq=False)
class Parked:
    """An event of ``size`` bytes.

    ``run`` does its work, whether or not its media came; ``drop`` answers for it unrun.
    """

    group_id: str
    missing: set[str]
    until: float
    run: Callable[[], Awaitable[None]]
    drop: Callable[[RewardHubError], None]
    size: int = 0
    running: bool = False


class Parking:
    """The waiting events of one stream, oldest first. With ``inflight`` their bytes count among all."""

    def __init__(self, inflight: Share | None = None) -> None:
        self._inflight = inflight
        self._parked: list[Parked] = []
        self._turn = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._parked)

    def holds(self, group_id: str) -> bool:
        return any(each.group_id == group_id for each in self._parked)

    def park(self, event: Parked) -> None:
        """Raises ``QuotaExceeded`` where too many wait, ``Unavailable`` where too many bytes are in flight."""
        if len(self._parked) >= MAX_PARKED:
            raise QuotaExceeded(f"more than {MAX_PARKED} events wait for media on this stream", retry_after_s=1.0)
        if len(event.missing) + sum(len(each.missing) for each in self._parked) > MAX_MISSING:
            raise QuotaExceeded(f"more than {MAX_MISSING} media are missing on this stream", retry_after_s=1.0)
        if self._inflight:
            self._inflight.take(event.size)
        self._parked.append(event)

    def wanted(self) -> set[str]:
        return {sha256 for each in self._parked for sha256 in each.missing}

    def lacks_only(self, missing: Collection[str]) -> None:
        """What else was wanted is there."""
        for each in self._parked:
            each.missing.intersection_update(missing)

    async def release(self) -> None:
        """Runs, in order, what waits for no media and behind no other event."""
        async with self._turn:
            while (event := self._next()) is not None:
                event.running = True  # stays parked meanwhile, so that nothing overtakes it
                self._give(event)
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

    def wait_no_more(self, sha256: str) -> None:
        """The media came, or turned out to be unusable."""
        for each in self._parked:
            each.missing.discard(sha256)

    def refuse(self, sha256: str, error: RewardHubError) -> None:
        """Answers for the events that wait for a media which there is no room for."""
        self._drop([each for each in self._parked if sha256 in each.missing], error)

    def drop(self, group_id: str, error: RewardHubError) -> None:
        """Answers for a group's events that have not run."""
        self._drop([each for each in self._parked if each.group_id == group_id and not each.running], error)

    def clear(self) -> None:
        """Nobody waits for answers any more."""
        for each in self._parked:
            if not each.running:
                self._give(each)
        self._parked = []

    def _drop(self, dropped: Collection[Parked], error: RewardHubError) -> None:
        self._parked = [each for each in self._parked if each not in dropped]
        for each in dropped:
            self._give(each)
            each.drop(error)

    def _give(self, event: Parked) -> None:
        if self._inflight:
            self._inflight.give(event.size)
