"""What is in flight is bounded: calls at once, and the bytes of bodies being read or worked on.

No caller can take all of it: who holds more than :data:`SHARE` times what is free gets no more. One alone comes to
some seven eighths, which leaves the rest to those that hold less.
"""

import contextlib
from collections.abc import Iterator
from typing import Self

from rewardhub.errors import TooLarge, Unavailable

SHARE = 7
_RETRY_S = 0.5
_CRUMBS_BYTES = 4_096
"""Chunks are kept in pieces of about so many bytes: one of a few bytes alone takes ten times as many of memory."""


class Inflight:
    """The room of one door; refuses early, with a retry-after, instead of queueing."""

    def __init__(self, calls: int, max_bytes: int) -> None:
        self._calls = _Room(calls, "calls at once")
        self._bytes = _Room(max_bytes, "bytes in flight")

    def of(self, caller: str) -> "Share":
        """What this caller has of it."""
        return Share(self._calls, self._bytes, caller)

    @property
    def free_bytes(self) -> int:
        return self._bytes.free


class _Room:
    def __init__(self, free: int, what: str) -> None:
        self.free = free
        self._what = what
        self._held: dict[str, int] = {}

    def take(self, caller: str, size: int, own: int = 0) -> None:
        """``own`` is what the same piece of work took before: alone it may take all that is free."""
        held = self._held.get(caller, 0)
        if size > self.free:
            raise Unavailable(f"too many {self._what}", retry_after_s=_RETRY_S)
        if held > own and held > SHARE * self.free:
            raise Unavailable(f"too many {self._what} of one caller", retry_after_s=_RETRY_S)
        self.free -= size
        self._held[caller] = held + size

    def give(self, caller: str, size: int) -> None:
        self.free += size
        left = self._held.pop(caller, 0) - size
        if left > 0:
            self._held[caller] = left


class Share:
    """One caller's part of what is in flight."""

    def __init__(self, calls: _Room, room: _Room, caller: str) -> None:
        self._calls = calls
        self._bytes = room
        self._caller = caller

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """A call being answered; raises ``Unavailable`` where too many are."""
        self._calls.take(self._caller, 1)
        try:
            yield
        finally:
            self._calls.give(self._caller, 1)

    def upload(self, limit: int, what: str) -> "Upload":
        """The bytes of one body of at most ``limit`` bytes; close it when the call is answered."""
        return Upload(self, limit, what)

    def take(self, size: int, own: int = 0) -> None:
        self._bytes.take(self._caller, size, own)

    def give(self, size: int) -> None:
        self._bytes.give(self._caller, size)


class Upload:
    """Chunks of one body, counted against its own limit and that of all."""

    def __init__(self, share: Share, limit: int, what: str) -> None:
        self._share = share
        self.limit = limit
        self._what = what
        self._chunks: list[bytes] = []
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._chunks.clear()
        self._share.give(self._size)
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Raises ``TooLarge`` over the limit, ``Unavailable`` where all uploads together are too many."""
        if self._size + len(chunk) > self.limit:
            raise self.too_large()
        self._share.take(len(chunk), self._size)
        self._size += len(chunk)
        if self._chunks and len(self._chunks[-1]) + len(chunk) <= _CRUMBS_BYTES:
            self._chunks[-1] += chunk
        else:
            self._chunks.append(chunk)

    def too_large(self) -> TooLarge:
        return TooLarge(f"the {self._what} has more than the limit of {self.limit} bytes")

    def joined(self) -> bytes:
        """All bytes; the chunks are let go."""
        data = b"".join(self._chunks)
        self._chunks = [data]
        return data
