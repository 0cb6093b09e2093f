"""A group of which some responses are unusable: the others are scored, each row keeps its place."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rewardhub.errors import RewardHubError
from rewardhub.media.store import MediaStore, owners
from rewardhub.pace import apart
from rewardhub.types import Column, Group, GroupScores, Response, Status

BRIEF_BYTES = 131_072
"""Bytes of media that are hashed, and their chunks counted, within two milliseconds."""


@dataclass(frozen=True, slots=True)
class Partial:
    """``group`` holds the usable responses, which stood at ``kept``; ``errors`` are by index."""

    group: Group
    kept: tuple[int, ...]
    errors: Mapping[int, RewardHubError]

    @property
    def id(self) -> str:
        return self.group.id

    @property
    def rows(self) -> int:
        return len(self.kept) + len(self.errors)

    def merged(self, scores: GroupScores) -> GroupScores:
        """The scores of the usable responses in their places, among the rows of the others."""
        rows = [self.kept[index] for index in scores.indices or range(len(scores))]
        parts = {path: self._spread(rows, column) for path, column in scores.parts.items()}
        total, indices = self._spread(rows, scores.total), list(range(self.rows))
        return GroupScores(scores.id, total, parts, indices, scores.complete, scores.timings)

    def _spread(self, rows: Sequence[int], scored: Column) -> Column:
        spread = Column([None] * self.rows, [Status.INVALID_INPUT] * self.rows)
        for row, error in self.errors.items():
            spread.put([row], error.column(1))
        spread.put(rows, scored)
        return spread


def split(group: Group, responses: Sequence[Any], read: Callable[[Any, int], Response]) -> Partial:
    """Reads each response by itself; ``group`` is the group without them."""
    good: dict[int, Response] = {}
    errors: dict[int, RewardHubError] = {}
    for index, response in enumerate(responses):
        try:
            good[index] = read(response, index)
        except RewardHubError as error:
            error.__traceback__ = error.__context__ = None  # thousands of kept stacks are slow to collect
            errors[index] = error
    rest = replace(group, responses=tuple(good.values()), lost=group.lost + len(errors))
    return Partial(rest, tuple(good), errors)


async def at_hand(media: MediaStore, group: Group, tenant: str, within_s: float) -> Group:
    """The group with its media; many bytes that came inline are looked at beside the event loop."""
    group = await media.fetch(group, tenant, within_s)
    size = sum(len(each.data or b"") for _, owned in owners(group) for each in owned)
    return await apart(size > BRIEF_BYTES, lambda: media.resolve(group, tenant))


async def resolved(item: Group | Partial, media: MediaStore, tenant: str, within_s: float) -> Group | Partial:
    """The item with its media at hand; a response whose media is unusable is split off.

    Raises what the store raises for media of the prompt, or of a member of an open group.
    """
    group = item if isinstance(item, Group) else item.group
    try:
        ready = await at_hand(media, group, tenant, within_s)
        return ready if isinstance(item, Group) else replace(item, group=ready)
    except RewardHubError as error:
        if not error.field.startswith("responses[") or group.is_member:
            raise
    kept, errors = (range(len(group.responses)), {}) if isinstance(item, Group) else (item.kept, item.errors)
    empty = replace(group, responses=(), expected=0)  # what is left of a whole group waits for no others
    prompt = await at_hand(media, empty, tenant, within_s)
    alone = (at_hand(media, Group(group.id, responses=(each,)), tenant, within_s) for each in group.responses)
    fetched = await asyncio.gather(*alone, return_exceptions=True)

    def read(response: Group | BaseException, index: int) -> Response:
        try:
            if isinstance(response, BaseException):
                raise response
            return response.responses[0]
        except RewardHubError as error:
            error.field = error.field.replace("responses[0]", f"responses[{kept[index]}]", 1)
            error.message = error.message.replace("responses[0]", f"responses[{kept[index]}]", 1)
            raise

    rest = split(prompt, fetched, read)
    lost = {kept[index]: error for index, error in rest.errors.items()}
    return Partial(rest.group, tuple(kept[index] for index in rest.kept), {**errors, **lost})
