"""Media travel once: which hashes the hub holds, and the uploads under way."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from rewardhub.types import Group, GroupScores, Media, Status

_MOST_HASHES = 100_000
AT_ONCE = 16
"""Uploads at a time. A group is sent as soon as its own are done: behind these alone, which would else push its media
out of a small store before it is there.
"""


@dataclass(slots=True, eq=False)
class _Upload:
    task: asyncio.Task[None]
    waiting: int = 0


class MediaBook:
    """The hashes that the hub behind one connection was given. Not for several event loops."""

    def __init__(self, upload: Callable[[bytes], Awaitable[object]]) -> None:
        self._upload = upload
        self._known: OrderedDict[str, None] = OrderedDict()
        self._uploads: dict[str, _Upload] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def missing(self, group: Group) -> list[Media]:
        """Media of the group whose bytes are at hand and that were not uploaded yet."""
        found = {media.sha256: media for media in media_of(group) if media.data is not None}
        for sha256 in found.keys() & self._known.keys():
            self._known.move_to_end(sha256)
        return [media for sha256, media in found.items() if sha256 not in self._known]

    def given(self, sha256: str) -> bool:
        """Whether the hub took it; what it refused, it would refuse again."""
        return sha256 in self._known

    async def ensure(self, media: Iterable[Media]) -> None:
        """Uploads these; a media that several groups ask for at once is uploaded once, as long as one waits for it."""
        uploads = {each.sha256: self._started(each) for each in media}
        for each in uploads.values():
            each.waiting += 1
        try:
            await asyncio.gather(*(asyncio.shield(each.task) for each in uploads.values()))
        finally:
            for sha256, each in uploads.items():
                each.waiting -= 1
                if not each.waiting:
                    each.task.cancel()
                    del self._uploads[sha256]

    async def again(self, media: Media) -> None:
        """Uploads it in any case: the hub may have lost it."""
        self.forget([media.sha256])
        await self.ensure([media])

    def forget(self, sha256s: Iterable[str]) -> None:
        """The hub does not hold these (any more)."""
        for sha256 in sha256s:
            self._known.pop(sha256, None)

    def _started(self, media: Media) -> _Upload:
        if media.sha256 not in self._uploads:
            self._uploads[media.sha256] = _Upload(asyncio.create_task(self._put(media)))
        return self._uploads[media.sha256]

    async def _put(self, media: Media) -> None:
        async with self._turns:
            await self._upload(media.data or b"")
        self._known[media.sha256] = None
        if len(self._known) > _MOST_HASHES:
            self._known.popitem(last=False)


def media_of(group: Group) -> Iterator[Media]:
    yield from group.media
    for response in group.responses:
        yield from response.media


def lost_media(group: Group, scores: GroupScores, *, guess: bool) -> list[str]:
    """Hashes that we could upload again and that the hub, by these scores, does not hold.

    A hub says so with ``invalid_input`` and a reason that names the hash; where there are no details, and we may
    ``guess``, every media of the group is suspected.
    """
    if Status.INVALID_INPUT not in scores.total.statuses:
        return []
    ours = [media.sha256 for media in media_of(group) if media.data is not None]
    rows = [score for score in scores if score.status is Status.INVALID_INPUT]
    reasons = " ".join(str(score.details.get("reason", "")) for score in rows)
    return [sha256 for sha256 in ours if (guess and not reasons.strip()) or sha256 in reasons]
