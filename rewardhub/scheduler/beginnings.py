"""What the tasks of one group have in common: encoded once for all terms and rows, and sent to a worker once.

A reference may be of megabytes, and a task of one row: written anew for each it would hold the event loop up, and the
workers, for longer than they score. What is long is written beside the event loop, where short groups would lose time.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rewardhub.json_values import weight
from rewardhub.pace import apart
from rewardhub.scheduler.messages import Beginning, encode
from rewardhub.types import Group
from rewardhub.wire.proto import group_to_proto

T = TypeVar("T")
LONG = 32_768
"""Characters of prompt, reference and metadata from which on they are sent apart from their rows."""


def is_long(group: Group) -> bool:
    """Whether what a group's responses share is too much to be written on the event loop."""
    return weight([group.prompt, group.reference, group.metadata]) >= LONG


async def beside(group: Group, make: Callable[[], T]) -> T:
    """What ``make`` writes of a group; of a long one beside the event loop."""
    return await apart(is_long(group), make)


@dataclass(frozen=True, slots=True)
class Shared:
    """``group`` stands before the rows of a task; where it is long, ``key`` names the message that brings it."""

    group: bytes
    key: int = 0
    message: bytes = b""


@dataclass
class _Users:
    """``group`` holds those objects whose places in memory are its key."""

    group: Group
    making: asyncio.Future[Shared]
    count: int = 0


class Beginnings:
    """Those of the groups that are being scored."""

    def __init__(self) -> None:
        self._keys = itertools.count(1)
        self._known: dict[Any, _Users] = {}

    def __len__(self) -> int:
        return len(self._known)

    @asynccontextmanager
    async def of(self, group: Group) -> AsyncIterator[Shared]:
        """The beginning of a group; raises whatever keeps it from being written as a message."""
        if not is_long(group):
            yield Shared(_written(group))
            return
        parts = (group.prompt, group.reference, group.metadata)
        key = (*map(id, parts), group.media, group.id, group.problem_type, group.recipe, group.expected, group.lost)
        users = self._known.get(key)
        if users is None:
            made = asyncio.ensure_future(asyncio.to_thread(_sent_apart, group, next(self._keys)))
            users = self._known[key] = _Users(group, made)
        users.count += 1
        try:
            yield await asyncio.shield(users.making)
        finally:
            users.count -= 1
            if not users.count:
                del self._known[key]
                users.making.cancel()


def _written(group: Group) -> bytes:
    return group_to_proto(replace(group, responses=()), with_responses=False).SerializeToString()


def _sent_apart(group: Group, key: int) -> Shared:
    return Shared(b"", key, encode(Beginning(key, _written(group))))
