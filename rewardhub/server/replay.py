"""Requests sent twice: an idempotency key names a request, whose answer a second sending gets too.

The caller may send a request again under its key (``idempotency-key``, a header or gRPC metadata) because
it does not know whether the first one arrived. While the first runs the second waits for it; afterwards
it gets the same answer, for ``TTL_S`` seconds. Answers with a score that may succeed later are not kept, so that
a second sending tries anew. The same key with another body is an error. Keys belong to their tenant.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rewardhub.errors import InvalidInput, KeyReused
from rewardhub.server.inflight import Share
from rewardhub.types import GroupScores

HEADER = "idempotency-key"
TTL_S = 300.0
MAX_KEYS, MAX_KEY_CHARS, MAX_KEPT_BYTES = 1_024, 256, 64 * 2**20
GROUP_BYTES, ROW_BYTES = 1_000, 400
Answers = list[GroupScores]


@dataclass(slots=True, eq=False)
class _Entry:
    digest: bytes
    task: asyncio.Task[Answers]
    until: float = 0.0
    size: int = 0


class Replays:
    """The keys of one door. Of answers that are kept the oldest is out first; what runs is bounded by the calls."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running: dict[tuple[str, str], _Entry] = {}
        self._kept: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._bytes = 0

    async def once(
        self, tenant: str, key: str, body: bytes, work: Callable[[], Awaitable[Answers]], share: Share
    ) -> Answers:
        """The answer of ``work``, which is not called again for a key and body that it was called for.

        The work goes on where its caller goes away, and its body counts in the ``share`` of what is in flight until
        it is done. Raises ``KeyReused`` where the key came with another body, ``Unavailable`` where too much is in
        flight, and what ``work`` raises.
        """
        if not 0 < len(key) <= MAX_KEY_CHARS:
            raise InvalidInput(f"{HEADER} has {len(key)} characters, expected 1 to {MAX_KEY_CHARS}", field=HEADER)
        self._drop_old()
        name, digest = (tenant, key), hashlib.sha256(body).digest()
        entry = self._running.get(name) or self._kept.get(name)
        if entry is None:
            size = len(body)
            share.take(size)
            entry = self._running[name] = _Entry(digest, asyncio.create_task(_run(work)))
            entry.task.add_done_callback(lambda _: self._settle(name, entry, share, size))
        elif entry.digest != digest:
            raise KeyReused(f"{HEADER} {key!r} was used for another request", field=HEADER)
        return await asyncio.shield(entry.task)

    def _settle(self, name: tuple[str, str], entry: _Entry, share: Share, taken: int) -> None:
        share.give(taken)
        del self._running[name]
        failed = entry.task.cancelled() or entry.task.exception() is not None
        entry.size = 0 if failed else _size(entry.task.result())
        if not 0 < entry.size <= MAX_KEPT_BYTES // 8:
            return
        entry.until = self._clock() + TTL_S
        self._kept[name] = entry
        self._bytes += entry.size
        while self._bytes > MAX_KEPT_BYTES or len(self._kept) > MAX_KEYS:
            self._bytes -= self._kept.popitem(last=False)[1].size

    def _drop_old(self) -> None:
        now = self._clock()
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._bytes -= self._kept.popitem(last=False)[1].size


async def _run(work: Callable[[], Awaitable[Answers]]) -> Answers:
    return await work()


def _size(answers: Answers) -> int:
    """About how many bytes the answers take; 0 where one of them may yet be better."""
    statuses = [status for scores in answers for status in scores.total.statuses]
    if any(status.retryable for status in set(statuses)):
        return 0
    details = sum(len(str(each.total.details)) for each in answers if each.total.details)
    return GROUP_BYTES * len(answers) + ROW_BYTES * len(statuses) + details
