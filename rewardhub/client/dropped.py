"""A group of which some responses cannot be sent: the others are scored, each row keeps its place."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rewardhub.client.media import media_of
from rewardhub.types import Column, Group, GroupScores, Response, Status

UNSENDABLE = (TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""What encoding raises for values that no message holds: no JSON, half a surrogate pair, a number that is too large,
too deep a nesting.
"""


@dataclass(frozen=True, slots=True)
class Dropped:
    """``reasons`` by the index of a response that is not sent; ``kept`` are the indices of the others."""

    reasons: Mapping[int, str] = field(default_factory=dict)
    kept: Sequence[int] = ()

    def more(self, group: Group, reasons: Mapping[int, str]) -> tuple[Group, "Dropped"]:
        """The group without the responses of these reasons, by their places in it, and what is dropped by then."""
        places = self.kept or range(len(group.responses))
        kept = [index for index in range(len(group.responses)) if index not in reasons]
        named = {places[index]: reason for index, reason in reasons.items()}
        responses = tuple(group.responses[index] for index in kept)
        rest = replace(group, responses=responses, lost=group.lost + len(reasons))
        return rest, Dropped({**self.reasons, **named}, [places[index] for index in kept])

    def spread(self, scores: GroupScores) -> GroupScores:
        """The scores of what was sent, in their places among ``invalid_input`` for the others."""
        if not self.reasons:
            return scores
        rows = [self.kept[index] for index in scores.indices]
        parts = {path: self._spread(rows, column) for path, column in scores.parts.items()}
        indices = sorted([*rows, *self.reasons])
        return replace(scores, total=self._spread(rows, scores.total), parts=parts, indices=indices)

    def _spread(self, rows: Sequence[int], scored: Column) -> Column:
        count = len(self.kept) + len(self.reasons)
        column = Column([None] * count, [Status.INVALID_INPUT] * count)
        for row, reason in self.reasons.items():
            column.put([row], Column.failed(1, Status.INVALID_INPUT, reason))
        column.put(list(rows), scored)
        return column


def unsendable(group: Group, check: Callable[[Response], object]) -> dict[int, str]:
    """The responses that ``check`` raises an error about, and what it says; none where the group itself is at fault."""
    found: dict[int, str] = {}
    for index, response in enumerate(group.responses):
        try:
            check(response)
        except Exception as error:
            found[index] = f"the response cannot be sent: {error}"
    return found


def without_media(group: Group, refused: Mapping[str, str]) -> dict[int, str]:
    """The responses with media that were refused, by hash, and why; none where the prompt has such media."""
    if any(media.sha256 in refused for media in group.media):
        return {}
    return {
        index: refused[bad[0]]
        for index, response in enumerate(group.responses)
        if (bad := [m.sha256 for m in media_of(replace(group, media=(), responses=(response,))) if m.sha256 in refused])
    }
