"""Media that a caller names by an address: fetched once, stored under their hash, known by it from then on."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rewardhub.errors import DeadlineExceeded, InvalidInput, RewardHubError
from rewardhub.media.fetch import Fetcher
from rewardhub.media.store import MediaStore
from rewardhub.types import Group, Media

KEPT_S, FAILED_S, MAX_KEPT = 60.0, 2.0, 4_096
"""How long what an address gave, or that it failed, is remembered, and of how many addresses."""


@dataclass(slots=True, eq=False)
class _Fetch:
    task: asyncio.Task[str]
    until: float


class Remote:
    """The addresses of one hub; what they give is in its ``store``, and tenants share nothing."""

    def __init__(self, fetcher: Fetcher, store: MediaStore) -> None:
        self._fetcher = fetcher
        self._store = store
        self._fetches: OrderedDict[tuple[str, str], _Fetch] = OrderedDict()

    async def at_hand(self, group: Group, tenant: str, within_s: float) -> Group:
        """The group with the hash of a stored media in place of each address.

        Raises what the fetch and the store raise, naming the field, and ``DeadlineExceeded``.
        """
        theirs = ((f"responses[{n}].media", each.media) for n, each in enumerate(group.responses))
        owners = [("media", group.media), *theirs]
        if not any(media.url for _, owned in owners for media in owned):
            return group
        try:
            async with asyncio.timeout(within_s):
                own, *others = await asyncio.gather(*(self._all(owned, where, tenant) for where, owned in owners))
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while media were fetched") from None
        responses = zip(group.responses, others, strict=True)
        return replace(group, media=own, responses=tuple(replace(each, media=media) for each, media in responses))

    async def _all(self, owned: Sequence[Media], where: str, tenant: str) -> tuple[Media, ...]:
        return tuple(
            await asyncio.gather(*(self._one(each, f"{where}[{n}].url", tenant) for n, each in enumerate(owned)))
        )

    async def _one(self, media: Media, where: str, tenant: str) -> Media:
        if not media.url:
            return media
        if media.sha256 and self._has(media.sha256, tenant):
            return replace(media, url="")
        try:
            sha256 = await asyncio.shield(self._fetch(media.url, tenant))
        except RewardHubError as error:
            raise type(error)(f"{where}: {error.message}", field=where, retry_after_s=error.retry_after_s) from None
        if media.sha256 not in {"", sha256}:
            raise InvalidInput(f"{where} gives other bytes than those of {media.sha256}", field=where)
        return replace(media, sha256=sha256, url="")

    def _fetch(self, url: str, tenant: str) -> asyncio.Task[str]:
        key = (tenant, url)
        known = self._fetches.get(key)
        if known is not None and self._holds(known, tenant):
            return known.task
        task = asyncio.create_task(self._stored(url, tenant))
        fetch = self._fetches[key] = _Fetch(task, 0.0)
        task.add_done_callback(lambda _: self._settle(fetch))
        while len(self._fetches) > MAX_KEPT:
            self._fetches.popitem(last=False)
        return task

    def _holds(self, fetch: _Fetch, tenant: str) -> bool:
        """Whether it runs, failed just now, or gave lately what the store still has."""
        if not fetch.task.done():
            return True
        return time.monotonic() < fetch.until and (_failed(fetch.task) or self._has(fetch.task.result(), tenant))

    def _has(self, sha256: str, tenant: str) -> bool:
        return not self._store.missing([sha256], tenant)

    async def _stored(self, url: str, tenant: str) -> str:
        data = await self._fetcher.get(url, tenant)
        return (await asyncio.to_thread(self._store.put, data, tenant)).sha256

    @staticmethod
    def _settle(fetch: _Fetch) -> None:
        fetch.until = time.monotonic() + (FAILED_S if _failed(fetch.task) else KEPT_S)


def _failed(task: asyncio.Task[str]) -> bool:
    return task.cancelled() or task.exception() is not None
