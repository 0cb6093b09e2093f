"""The media store: bytes by tenant and SHA-256, bounded, in memory.

A tenant sees only what it uploaded itself, so that nobody learns what others hold. What was used
least recently leaves first; a media that nobody used for the time to live leaves too. What a group that is being scored
holds stays.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rewardhub.errors import InvalidInput, RewardHubError, TooLarge
from rewardhub.lasting import lasting
from rewardhub.media.decode import MAX_PIXELS, inspect
from rewardhub.media.shelves import Entry, Shelves
from rewardhub.types import Group, Media, Response

SWEEP_S = 0.5
"""The least time between two searches for media whose time to live is over."""
_MEDIA = attrgetter("media")


class MediaLimits(BaseModel):
    """Bytes of one media, of a group, of one tenant and of all; pixels of one image; images and frames of a prompt, or
    of one response.

    A group's media count once each, those that its prompt or one response shows as often as it shows them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    item_bytes: int = Field(default=20 * 2**20, gt=0)
    group_bytes: int = Field(default=256 * 2**20, gt=0)
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


class Remote(Protocol):
    """Fetches what addresses give."""

    async def at_hand(self, group: Group, tenant: str, within_s: float) -> Group: ...


class MediaStore:
    """Safe to call from any thread. ``clock`` is in seconds."""

    def __init__(self, limits: MediaLimits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or MediaLimits()
        self.remote: Remote | None = None
        self._clock = clock
        bounds = self.limits
        self._shelves = Shelves(bounds.tenant_bytes, bounds.total_bytes, bounds.ttl_s, clock)

    def put(self, data: bytes, tenant: str = "") -> Media:
        """Stores an image; storing it again only renews it.

        Raises ``InvalidInput`` for what is no PNG, JPEG or WebP, ``TooLarge`` over the limit of bytes or
        pixels, both decided from the header, and ``Unavailable`` while groups hold so much that there is no room. The
        media returned has its shown size and its data.
        """
        if len(data) > self.limits.item_bytes:
            raise TooLarge(f"the media has {len(data)} bytes, over the limit of {self.limits.item_bytes}")
        sha256 = hashlib.sha256(data).hexdigest()
        entry = self._find(sha256, tenant)
        if entry is None:
            width, height = inspect(data, self.limits.pixels).shown
            kept = bytes(memoryview(data))  # a copy: who keeps what they sent holds nothing of the store's
            entry = self._shelves.add(sha256, Entry(kept, width, height, self._clock()), tenant)
        return Media(sha256=sha256, width=entry.width, height=entry.height, data=entry.data)

    def get(self, sha256: str, tenant: str = "") -> bytes:
        """The bytes; raises ``InvalidInput`` naming a hash that was never uploaded."""
        return self._entry(sha256, tenant, "media").data

    def missing(self, hashes: Iterable[str], tenant: str = "") -> list[str]:
        """Those of the hashes that the tenant has to upload, once each, in order."""
        return [sha256 for sha256 in dict.fromkeys(hashes) if self._find(sha256, tenant) is None]

    def lacking(self, group: Group, tenant: str = "") -> list[str]:
        """The hashes that the tenant has to upload for the group; none for what shows more than it may, nor for what
        comes inline.
        """
        few = [media for _, owned in owners(group) if shown(owned) <= self.limits.frames for media in owned]
        inline = {media.sha256 for media in few if media.data is not None}
        return self.missing((each for media in few for each in _hashes(media) if each not in inline), tenant)

    def resolve(self, group: Group, tenant: str = "") -> Group:
        """The group with the bytes of every media at hand; inline bytes are stored on the way.

        A hash or size that is not declared is filled in. The store's own bytes are handed out, never a copy: a
        frame costs the memory of one however often it is named. Raises ``InvalidInput``, ``TooLarge`` or
        ``Unavailable`` naming the field and the hash. Resolving twice is cheap and changes nothing.
        """
        responses = group.responses
        brought = any(map(_MEDIA, responses))
        if not brought and not group.media:
            return group
        self._check_counts(group)
        self._check_bytes(group, tenant)
        media = self._all(group.media, tenant, "media")  # first: a response may name what the prompt brought inline
        if brought:
            responses = tuple(self._with_media(each, index, tenant) for index, each in enumerate(responses))
        return replace(group, media=media, responses=responses)

    def fetches(self, group: Group) -> bool:
        """Whether :meth:`fetch` has something to wait for."""
        if self.remote is None:
            return False
        return any(media.url for media in _media_of(group))

    async def fetch(self, group: Group, tenant: str = "", within_s: float = math.inf) -> Group:
        """The group with hashes in place of addresses, where this hub fetches; raises as ``Remote.at_hand``."""
        if self.remote is None:
            return group
        self._check_counts(group)
        return await self.remote.at_hand(group, tenant, within_s)

    def sweep(self) -> float:
        """Lets go of what nobody used for the time to live; returns in how many seconds the next may be due."""
        return self._shelves.sweep()

    async def keep_swept(self) -> None:
        """Sweeps until it is cancelled."""

        async def sweep() -> None:
            due_s = await asyncio.to_thread(self.sweep)
            await asyncio.sleep(max(due_s, SWEEP_S))

        await lasting("the search for media whose time is over", sweep)

    def stats(self) -> dict[str, int]:
        """Bytes and items held, and items that left before their time."""
        return self._shelves.stats()

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

    def _check_counts(self, group: Group) -> None:
        """Raises ``InvalidInput``: what no model reads is not looked for."""
        for where, media in owners(group):
            if (count := shown(media)) > self.limits.frames:
                reason = f"{where} shows {count} images and frames, at most {self.limits.frames}"
                raise InvalidInput(reason, field=where)

    def _check_bytes(self, group: Group, tenant: str) -> None:
        """Raises ``TooLarge``: a media that was uploaded once may be named any number of times."""
        limit, whole = self.limits.group_bytes, dict[str, int]()
        for where, media in owners(group):
            sizes = [each for one in media for each in self._sizes(one, tenant)]
            whole.update(sizes)
            if (size := sum(size for _, size in sizes)) > limit:
                raise TooLarge(f"{where} shows {size} bytes, over the limit of {limit}", field=where)
        if (size := sum(whole.values())) > limit:
            raise TooLarge(f"the media of the group have {size} bytes, over the limit of {limit}", field="media")

    def _sizes(self, media: Media, tenant: str) -> Iterator[tuple[str, int]]:
        if media.data is not None and not media.frames:
            yield media.sha256 or str(id(media)), len(media.data)
            return
        for sha256 in media.frames or (media.sha256,):
            if (entry := self._find(sha256, tenant)) is not None:
                yield sha256, len(entry.data)

    def _video(self, media: Media, tenant: str, where: str) -> Media:
        if not media.frames:
            raise InvalidInput(f"{where} is a video without frames", field=f"{where}.frames")
        if media.frame_data:
            return media
        entries = [self._entry(sha256, tenant, f"{where}.frames[{index}]") for index, sha256 in enumerate(media.frames)]
        width, height = media.width or entries[0].width, media.height or entries[0].height
        data = tuple(entry.data for entry in entries)
        return replace(media, kind="video", width=width, height=height, data=None, frame_data=data)

    def _inline(self, media: Media, data: bytes, tenant: str, where: str) -> Entry:
        known = self._find(media.sha256, tenant) if media.sha256 else None
        if known is not None and known.data is data:
            return known
        try:
            stored = self.put(data, tenant)
        except RewardHubError as error:
            raise type(error)(f"{where}: {error.message}", field=where, retry_after_s=error.retry_after_s) from None
        if media.sha256 not in {"", stored.sha256}:
            raise InvalidInput(
                f"{where}.sha256 is not the hash of its bytes ({stored.sha256})", field=f"{where}.sha256"
            )
        return Entry(stored.data or data, stored.width, stored.height, 0.0)

    def _entry(self, sha256: str, tenant: str, where: str) -> Entry:
        entry = self._find(sha256, tenant)
        if entry is None:
            raise InvalidInput(f"{where}: {sha256 or '(no hash)'} was never uploaded, or not lately", field=where)
        return entry

    def _find(self, sha256: str, tenant: str) -> Entry | None:
        return self._shelves.find(sha256, tenant)


def owners(group: Group) -> Iterator[tuple[str, Sequence[Media]]]:
    """The media of the prompt and those of each response that has any, with the name of their field."""
    yield "media", group.media
    for index, response in enumerate(group.responses):
        if response.media:
            yield f"responses[{index}].media", response.media


def shown(media: Sequence[Media]) -> int:
    """How many images and frames they are."""
    return sum(len(each.frames) or 1 for each in media)


def _media_of(group: Group) -> Iterator[Media]:
    for _, media in owners(group):
        yield from media


def _hashes(media: Media) -> Sequence[str]:
    if media.url:
        return ()
    if media.frames:
        return media.frames
    return () if media.data is not None or not media.sha256 else (media.sha256,)
