"""What the bench works on: items read by a loader, and what a scorer said about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rewardhub.types import Json, Media, Message, Response, Status


class Comparison(NamedTuple):
    """Response ``better`` is labelled better than ``worse``; ``level`` names the kind of comparison."""

    better: int
    worse: int
    level: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt with its responses and the labelled comparisons between them.

    ``id`` is the file's own and may repeat; the runner keys items by row and content. ``cluster``
    names items that are not independent (the same prompt); ``category`` is the official grouping and
    ``labels`` hold further ones by name. ``correct`` says of each response whether it is right, where
    that is known; ``known`` are scores that come with the data, by name. With ``tie`` the label says
    that the responses are equal; with ``without_media`` the prompt speaks of media not at hand.
    """

    id: str
    prompt: str | tuple[Message, ...]
    responses: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    split: str = ""
    category: str = ""
    cluster: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    correct: tuple[bool, ...] = ()
    known: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    media: tuple[Path, ...] = ()
    reference: Json = field(default_factory=dict)
    problem_type: str = ""
    tie: bool = False
    without_media: bool = False

    def label(self, by: str) -> str:
        return self.category if by == "category" else self.labels[by]

    def content(self, indices: Sequence[int]) -> dict[str, Any]:
        """The fields of the group that asks about these responses; reads the media files."""
        return {
            "prompt": self.prompt,
            "responses": tuple(Response(self.responses[index]) for index in indices),
            "media": tuple(Media.from_bytes(path.read_bytes()) for path in self.media),
            "reference": self.reference,
            "problem_type": self.problem_type,
        }


@dataclass(frozen=True, slots=True)
class Game:
    """What a scorer said about one comparison in one order: a value and a status for each side."""

    better: float | None
    worse: float | None
    statuses: tuple[Status, Status]

    def valid(self, *, stated: bool = False) -> bool:
        """Whether both sides are ``ok``; with ``stated`` a verdict that carries a value is enough."""
        if self.better is None or self.worse is None:
            return False
        return all(status is Status.OK or (stated and status.is_verdict) for status in self.statuses)

    @property
    def margin(self) -> float:
        """Score of the better minus score of the worse; raises ``ValueError`` on an invalid game."""
        if self.better is None or self.worse is None:
            raise ValueError(f"this game has no margin: {self.statuses}")
        return self.better - self.worse


@dataclass(frozen=True, slots=True)
class Judged:
    """An item with the games of each of its comparisons: as stored and with the responses swapped.

    For a scorer that sees one response at a time both games are the same, and ``scores`` hold the
    value of every response (None unless it is ``ok``).
    """

    item: Item
    games: tuple[tuple[Game, Game], ...]
    scores: tuple[float | None, ...] = ()
