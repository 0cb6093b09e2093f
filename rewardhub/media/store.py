"""The media store: bytes by tenant and SHA-256, bounded, in memory.

A tenant sees only what it uploaded itself, so that nobody learns what others hold. What was used
least recently leaves first; a media that nobody used for the time to live leaves too.
"""

import asyncio
import hashlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rewardhub.errors import InvalidInput, RewardHubError, TooLarge
from rewardhub.media.decode import MAX_PIXELS, inspect
from rewardhub.types import Group, Media, Response

SWEEP_S = 0.5
"""The least time between two searches for media whose time to live is over."""
_MEDIA = attrgetter("media")


class MediaLimits(BaseModel):
    """Bytes of one media, of a group's frames, of one tenant and of all; pixels of one image; frames of one video."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item_bytes: int = Field(default=20 * 2**20, gt=0)
    frames_bytes: int = Field(default=128 * 2**20, gt=0)
    tenant_bytes: int = Field(default=2**30, gt=0)
    total_bytes: int = Field(default=2 * 2**30, gt=0)
    pixels: int = Field(default=MAX_PIXELS, gt=0)
    frames: int = Field(default=512, gt=0)
    ttl_s: float = Field(default=3600.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> "MediaLimits":
        if not self.item_bytes <= self.tenant_bytes <= self.total_bytes:
            raise ValueError("expected item_bytes <= tenant_bytes <= total_bytes")
        return self


@dataclass(slots=True)
class _Entry:
    data: bytes
    width: int
    height: int
    used: float


class _Shelf:
    """What one tenant holds, least recently used first."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, _Entry] = OrderedDict()
        self.bytes = 0

    def add(self, sha256: str, entry: _Entry) -> None:
        self.entries[sha256] = entry
        self.bytes += len(entry.data)

    def pop_oldest(self) -> _Entry:
        _, entry = self.entries.popitem(last=False)
        self.bytes -= len(entry.data)
        return entry

    def oldest_use(self) -> float:
        return next(iter(self.entries.values())).used


class Remote(Protocol):
    """Fetches what addresses give."""

    async def at_hand(self, group: Group, tenant: str, within_s: float) -> Group: ...


class MediaStore:
    """Safe to call from any thread. ``clock`` is in seconds."""

    def __init__(self, limits: MediaLimits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or MediaLimits()
        self.evictions = 0
        self.remote: Remote | None = None
        self._clock = clock
        self._lock = threading.Lock()
        self._shelves: dict[str, _Shelf] = {}
        self._bytes = 0

    def put(self, data: bytes, tenant: str = "") -> Media:
        """Stores an image; storing it again only renews it.

        Raises ``InvalidInput`` for what is no PNG, JPEG or WebP, ``TooLarge`` over the limit of bytes or
        pixels; both are decided from the header. The media returned has its shown size and its data.
        """
        if len(data) > self.limits.item_bytes:
            raise TooLarge(f"the media has {len(data)} bytes, over the limit of {self.limits.item_bytes}")
        sha256 = hashlib.sha256(data).hexdigest()
        entry = self._find(sha256, tenant)
        if entry is None:
            width, height = inspect(data, self.limits.pixels).shown
            entry = self._add(sha256, _Entry(data, width, height, self._clock()), tenant)
        return Media(sha256=sha256, width=entry.width, height=entry.height, data=entry.data)

    def get(self, sha256: str, tenant: str = "") -> bytes:
        """The bytes; raises ``InvalidInput`` naming a hash that was never uploaded."""
        return self._entry(sha256, tenant, "media").data

    def missing(self, hashes: Iterable[str], tenant: str = "") -> list[str]:
        """Those of the hashes that the tenant has to upload, once each, in order."""
        return [sha256 for sha256 in dict.fromkeys(hashes) if self._find(sha256, tenant) is None]

    def resolve(self, group: Group, tenant: str = "") -> Group:
        """The group with the bytes of every media at hand; inline bytes are stored on the way.

        A hash or size that is not declared is filled in. The store's own bytes are handed out, never a copy: a
        frame costs the memory of one however often it is named. Raises ``InvalidInput`` or ``TooLarge`` naming
        the field and the hash. Resolving twice is cheap and changes nothing.
        """
        responses = group.responses
        if any(map(_MEDIA, responses)):
            responses = tuple(self._with_media(each, index, tenant) for index, each in enumerate(responses))
        elif not group.media:
            return group
        self._check_frames(group, tenant)
        return replace(group, media=self._all(group.media, tenant, "media"), responses=responses)

    def fetches(self, group: Group) -> bool:
        """Whether :meth:`fetch` has something to wait for."""
        if self.remote is None:
            return False
        return any(media.url for media in _media_of(group))

    async def fetch(self, group: Group, tenant: str = "", within_s: float = math.inf) -> Group:
        """The group with hashes in place of addresses, where this hub fetches; raises as ``Remote.at_hand``."""
        return group if self.remote is None else await self.remote.at_hand(group, tenant, within_s)

    def sweep(self) -> float:
        """Lets go of what nobody used for the time to live; returns in how many seconds the next may be due."""
        with self._lock:
            gone = self._drop_expired()
            uses = [shelf.oldest_use() for shelf in self._shelves.values()]
            due_s = min(uses, default=self._clock()) + self.limits.ttl_s - self._clock()
        del gone  # much memory, for which nobody shall wait
        return due_s

    async def keep_swept(self) -> None:
        """Sweeps until it is cancelled."""
        while True:
            due_s = await asyncio.to_thread(self.sweep)
            await asyncio.sleep(max(due_s, SWEEP_S))

    def stats(self) -> dict[str, int]:
        """Bytes and items held, and items that left before their time."""
        with self._lock:
            items = sum(len(shelf.entries) for shelf in self._shelves.values())
            return {"bytes": self._bytes, "items": items, "evictions": self.evictions}

    def _with_media(self, response: Response, index: int, tenant: str) -> Response:
        if not response.media:
            return response
        return replace(response, media=self._all(response.media, tenant, f"responses[{index}].media"))

    def _all(self, media: Sequence[Media], tenant: str, where: str) -> tuple[Media, ...]:
        return tuple(self._one(each, tenant, f"{where}[{index}]") for index, each in enumerate(media))

    def _one(self, media: Media, tenant: str, where: str) -> Media:
        if media.url:
            raise InvalidInput(f"{where}.url: this hub fetches no addresses; upload the bytes", field=f"{where}.url")
        if media.frames or media.kind == "video":
            return self._video(media, tenant, where)
        if media.data is None:
            entry = self._entry(media.sha256, tenant, f"{where}.sha256")
        else:
            entry = self._inline(media, media.data, tenant, where)
        size = (entry.width, entry.height) if not media.width or not media.height else (media.width, media.height)
        sha256 = media.sha256 or hashlib.sha256(entry.data).hexdigest()
        return replace(media, sha256=sha256, width=size[0], height=size[1], data=entry.data)

    def _check_frames(self, group: Group, tenant: str) -> None:
        """Raises ``TooLarge``: a frame that was uploaded once may be named any number of times."""
        frames = [sha256 for media in _media_of(group) for sha256 in media.frames]
        size = sum(len(entry.data) for sha256 in frames if (entry := self._find(sha256, tenant)) is not None)
        if size > self.limits.frames_bytes:
            limit = self.limits.frames_bytes
            raise TooLarge(f"the frames of the group have {size} bytes, over the limit of {limit}", field="media")

    def _video(self, media: Media, tenant: str, where: str) -> Media:
        if not 0 < len(media.frames) <= self.limits.frames:
            reason = f"{where} has {len(media.frames)} frames, expected 1 to {self.limits.frames}"
            raise InvalidInput(reason, field=f"{where}.frames")
        if media.frame_data:
            return media
        entries = [self._entry(sha256, tenant, f"{where}.frames[{index}]") for index, sha256 in enumerate(media.frames)]
        width, height = media.width or entries[0].width, media.height or entries[0].height
        data = tuple(entry.data for entry in entries)
        return replace(media, kind="video", width=width, height=height, data=None, frame_data=data)

    def _inline(self, media: Media, data: bytes, tenant: str, where: str) -> _Entry:
        known = self._find(media.sha256, tenant) if media.sha256 else None
        if known is not None and known.data is data:
            return known
        try:
            stored = self.put(data, tenant)
        except RewardHubError as error:
            raise type(error)(f"{where}: {error.message}", field=where) from None
        if media.sha256 not in {"", stored.sha256}:
            raise InvalidInput(
                f"{where}.sha256 is not the hash of its bytes ({stored.sha256})", field=f"{where}.sha256"
            )
        return _Entry(data, stored.width, stored.height, 0.0)

    def _entry(self, sha256: str, tenant: str, where: str) -> _Entry:
        entry = self._find(sha256, tenant)
        if entry is None:
            raise InvalidInput(f"{where}: {sha256 or '(no hash)'} was never uploaded, or not lately", field=where)
        return entry

    def _find(self, sha256: str, tenant: str) -> _Entry | None:
        with self._lock:
            shelf = self._shelves.get(tenant)
            entry = shelf.entries.get(sha256) if shelf else None
            if shelf is None or entry is None or entry.used + self.limits.ttl_s < self._clock():
                return None
            entry.used = self._clock()
            shelf.entries.move_to_end(sha256)
            return entry

    def _add(self, sha256: str, entry: _Entry, tenant: str) -> _Entry:
        with self._lock:
            self._drop_expired()
            shelf = self._shelves.setdefault(tenant, _Shelf())
            if sha256 in shelf.entries:  # another thread was faster
                return shelf.entries[sha256]
            size = len(entry.data)
            while shelf.entries and shelf.bytes + size > self.limits.tenant_bytes:
                self._evict(shelf)
            while self._bytes and self._bytes + size > self.limits.total_bytes:
                self._evict(max(self._shelves.values(), key=lambda each: each.bytes))
            shelf.add(sha256, entry)
            self._bytes += size
            return entry

    def _evict(self, shelf: _Shelf) -> None:
        self._bytes -= len(shelf.pop_oldest().data)
        self.evictions += 1

    def _drop_expired(self) -> list[_Entry]:
        limit = self._clock() - self.limits.ttl_s
        gone: list[_Entry] = []
        for shelf in self._shelves.values():
            while shelf.entries and shelf.oldest_use() < limit:
                gone.append(shelf.pop_oldest())
                self._bytes -= len(gone[-1].data)
        self._shelves = {tenant: shelf for tenant, shelf in self._shelves.items() if shelf.entries}
        return gone


def references(group: Group) -> list[str]:
    """The hashes whose bytes the group needs from the store."""
    return [sha256 for media in _media_of(group) for sha256 in _hashes(media)]


def _media_of(group: Group) -> Iterator[Media]:
    yield from group.media
    for response in group.responses:
        yield from response.media


def _hashes(media: Media) -> Sequence[str]:
    if media.url:
        return ()
    if media.frames:
        return media.frames
    return () if media.data is not None or not media.sha256 else (media.sha256,)
