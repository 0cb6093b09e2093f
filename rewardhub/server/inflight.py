"""What is in flight is bounded: calls at once, and the bytes of bodies being read or worked on."""

import contextlib
from collections.abc import Iterator
from typing import Self

from rewardhub.errors import TooLarge, Unavailable

_RETRY_S = 0.5
_CRUMBS_BYTES = 4_096
"""Chunks are kept in pieces of about so many bytes: one of a few bytes alone takes ten times as many of memory."""


class Inflight:
    """Refuses early, with a retry-after, instead of queueing."""

    def __init__(self, calls: int, max_bytes: int) -> None:
        self._free_calls = calls
        self._free_bytes = max_bytes

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """A call being answered; raises ``Unavailable`` where too many are."""
        if self._free_calls <= 0:
            raise Unavailable("too many calls at once", retry_after_s=_RETRY_S)
        self._free_calls -= 1
        try:
            yield
        finally:
            self._free_calls += 1

    def upload(self, limit: int, what: str) -> "Upload":
        """The bytes of one body of at most ``limit`` bytes; close it when the call is answered."""
        return Upload(self, limit, what)

    def take(self, size: int) -> None:
        if size > self._free_bytes:
            raise Unavailable("too many bytes in flight", retry_after_s=_RETRY_S)
        self._free_bytes -= size

    def give(self, size: int) -> None:
        self._free_bytes += size


class Upload:
    """Chunks of one body, counted against its own limit and that of all."""

    def __init__(self, inflight: Inflight, limit: int, what: str) -> None:
        self._inflight = inflight
        self.limit = limit
        self._what = what
        self._chunks: list[bytes] = []
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._chunks.clear()
        self._inflight.give(self._size)
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Raises ``TooLarge`` over the limit, ``Unavailable`` where all uploads together are too many."""
        if self._size + len(chunk) > self.limit:
            raise self.too_large()
        self._inflight.take(len(chunk))
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
