"""Bytes by tenant and SHA-256 within bounds: what was used least recently leaves first.

What something beside its shelf still holds, as a group that is being scored does, stays: letting it go would free no
memory, and the bounds would not hold.
"""

import gc
import math
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from rewardhub.errors import Unavailable

COLLECT_S = 1.0
"""The least time between two searches for what only garbage holds."""


@dataclass(slots=True)
class Entry:
    """An image: its bytes, its shown size, when it was used last."""

    data: bytes
    width: int
    height: int
    used: float


def _references(entry: Entry) -> int:
    return sys.getrefcount(entry.data)


_ALONE = _references(Entry(bytes(bytearray(8)), 0, 0, 0.0))
"""What the interpreter counts of bytes that nothing but their entry holds."""


class Shelf:
    """What one tenant has, least recently used first."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, Entry] = OrderedDict()
        self.bytes = 0

    def add(self, sha256: str, entry: Entry) -> None:
        self.entries[sha256] = entry
        self.bytes += len(entry.data)

    def touch(self, sha256: str, now: float) -> None:
        self.entries[sha256].used = now
        self.entries.move_to_end(sha256)

    def pop_unheld(self, now: float, before: float = math.inf) -> Entry | None:
        """The oldest that was last used ``before`` and that nobody holds; None where there is none."""
        for _ in range(len(self.entries)):
            sha256, entry = next(iter(self.entries.items()))
            if entry.used >= before:
                return None
            if _references(entry) <= _ALONE:
                del self.entries[sha256]
                self.bytes -= len(entry.data)
                return entry
            self.touch(sha256, now)
        return None


class Shelves:
    """The shelves of all tenants. Safe to call from any thread; ``clock`` is in seconds."""

    def __init__(self, tenant_bytes: int, total_bytes: int, ttl_s: float, clock: Callable[[], float]) -> None:
        self.of: dict[str, Shelf] = {}
        self.bytes = 0
        self.evictions = 0
        self._tenant_bytes, self._total_bytes, self._ttl_s = tenant_bytes, total_bytes, ttl_s
        self._clock = clock
        self._collected = -math.inf
        self._lock = threading.Lock()

    def find(self, sha256: str, tenant: str) -> Entry | None:
        """The entry, which is used by that."""
        with self._lock:
            shelf = self.of.get(tenant)
            entry = shelf.entries.get(sha256) if shelf else None
            if shelf is None or entry is None or entry.used + self._ttl_s < self._clock():
                return None
            shelf.touch(sha256, self._clock())
            return entry

    def add(self, sha256: str, entry: Entry, tenant: str) -> Entry:
        """The entry that is there from now on; raises ``Unavailable`` where what is held leaves no room."""
        with self._lock:
            gone = self._drop_expired()
            shelf = self.of.setdefault(tenant, Shelf())
            if sha256 in shelf.entries:  # another thread was faster
                return shelf.entries[sha256]
            size = len(entry.data)
            while shelf.bytes + size > self._tenant_bytes:
                gone.append(self._evicted([shelf]))
            while self.bytes + size > self._total_bytes:
                gone.append(self._evicted(sorted(self.of.values(), key=lambda each: -each.bytes)))
            shelf.add(sha256, entry)
            self.bytes += size
        del gone  # much memory, for which nobody shall wait
        return entry

    def sweep(self) -> float:
        """Lets go of what nobody used for the time to live; returns in how many seconds the next may be due."""
        with self._lock:
            gone = self._drop_expired()
            uses = [next(iter(shelf.entries.values())).used for shelf in self.of.values()]
            due_s = min(uses, default=self._clock()) + self._ttl_s - self._clock()
        del gone
        return due_s

    def stats(self) -> dict[str, int]:
        """Bytes and items held, and items that left before their time."""
        with self._lock:
            items = sum(len(shelf.entries) for shelf in self.of.values())
            return {"bytes": self.bytes, "items": items, "evictions": self.evictions}

    def _evicted(self, shelves: list[Shelf]) -> Entry:
        for shelf in shelves:
            if (entry := shelf.pop_unheld(self._clock())) is not None:
                self.bytes -= len(entry.data)
                self.evictions += 1
                return entry
        if self._clock() - self._collected >= COLLECT_S:
            self._collected = self._clock()
            gc.collect()  # groups that failed may wait for it, in cycles with their errors
            return self._evicted(shelves)
        raise Unavailable("media of groups that are being scored fill the store", retry_after_s=1.0)

    def _drop_expired(self) -> list[Entry]:
        now = self._clock()
        gone: list[Entry] = []
        for shelf in self.of.values():
            while (entry := shelf.pop_unheld(now, now - self._ttl_s)) is not None:
                gone.append(entry)
                self.bytes -= len(entry.data)
        self.of = {tenant: shelf for tenant, shelf in self.of.items() if shelf.entries}
        return gone
