"""The vocabulary: group, response, media, score, and the ``Rewards`` protocol.

A trainer sends *groups* and names a *recipe*; it gets one *score* per response, with a *status*.
Hub and client both implement :class:`Rewards`, so a trainer, the bench and the demo cannot tell
them apart. Scores travel as columns (:class:`Column`, :class:`GroupScores`); a :class:`Score` is a
view of one row.
"""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from typing import Any, Literal, Protocol

Json = Mapping[str, Any]
Message = Mapping[str, Any]
"""A chat message: ``{"role", "content"}``; content is text or a list of ``{"type": "text", "text"}``
and ``{"type": "image", "media": i}`` parts, where ``i`` indexes the media of the owner."""


class Blame(StrEnum):
    """Who has to change something for this score to become ``ok``."""

    NOBODY = ""
    RESPONSE = "response"
    CALLER = "caller"
    SYSTEM = "system"


class Status(StrEnum):
    """What happened to one score. A verdict on the response (wrong, crashes, loops) is ``ok``."""

    OK = "ok"
    NO_ANSWER = "no_answer"
    OVER_LIMIT = "over_limit"
    REFERENCE_UNPARSEABLE = "reference_unparseable"
    INVALID_INPUT = "invalid_input"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    JUDGE_UNPARSEABLE = "judge_unparseable"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"
    SKIPPED = "skipped"
    INCOMPLETE_GROUP = "incomplete_group"

    @property
    def code(self) -> int:
        """The number of this status on the wire (1 is ``ok``)."""
        return _CODES[self]

    @property
    def blame(self) -> Blame:
        return _BLAMES.get(self, Blame.NOBODY)

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self in _RETRYABLE

    @property
    def is_verdict(self) -> bool:
        """Whether the score judges the response, so that it carries a value."""
        return self in _VERDICTS

    @classmethod
    def from_code(cls, code: int) -> "Status":
        return STATUSES[code - 1]


STATUSES = tuple(Status)
_CODES = {status: index + 1 for index, status in enumerate(STATUSES)}
_BLAMES = {
    Status.NO_ANSWER: Blame.RESPONSE,
    Status.OVER_LIMIT: Blame.RESPONSE,
    Status.REFERENCE_UNPARSEABLE: Blame.CALLER,
    Status.INVALID_INPUT: Blame.CALLER,
    Status.TIMEOUT: Blame.SYSTEM,
    Status.UNAVAILABLE: Blame.SYSTEM,
    Status.JUDGE_UNPARSEABLE: Blame.SYSTEM,
    Status.CANCELLED: Blame.SYSTEM,
    Status.INTERNAL_ERROR: Blame.SYSTEM,
}
_RETRYABLE = frozenset({Status.TIMEOUT, Status.UNAVAILABLE, Status.CANCELLED, Status.JUDGE_UNPARSEABLE})
_VERDICTS = frozenset({Status.OK, Status.NO_ANSWER, Status.OVER_LIMIT})


PASSING = "passing"
"""The detail of a verdict that may be another one tomorrow, as where memory decided: it is not remembered."""


class Space(StrEnum):
    """The coordinate space that boxes and points of a media are written in."""

    PIXEL = "pixel"
    NORM_0_1 = "norm_0_1"
    NORM_0_1000 = "norm_0_1000"
    MODEL_INPUT = "model_input"


@dataclass(frozen=True, slots=True)
class Media:
    """An image, or a video as a list of frames, known by the SHA-256 of its bytes.

    ``data`` is present only where the bytes are at hand, ``frame_data`` where those of a video's frames are;
    neither takes part in equality. ``url`` is an address that a hub may be allowed to fetch the bytes from, in
    place of the hash. ``width`` and ``height`` are declared pixels, ``fps`` frames per second; 0 is "not declared".
    """

    sha256: str = ""
    kind: Literal["image", "video"] = "image"
    width: int = 0
    height: int = 0
    space: Space = Space.PIXEL
    frames: tuple[str, ...] = ()
    fps: float = 0.0
    url: str = ""
    data: bytes | None = field(default=None, compare=False, repr=False)
    frame_data: tuple[bytes, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Media":
        """The image with these encoded bytes (PNG, JPEG or WebP)."""
        return cls(sha256=hashlib.sha256(data).hexdigest(), data=data)


@dataclass(frozen=True, slots=True)
class Response:
    """One candidate: text, or messages of a trajectory.

    ``tokens`` is the trainer's token count; ``signals`` are numbers the trainer knows (reference
    likelihood, entropy, tool calls, truncated); ``steps`` are half-open character spans of the text.
    """

    text: str = ""
    messages: tuple[Message, ...] = ()
    tokens: int | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[tuple[int, int], ...] = ()
    media: tuple[Media, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """One prompt with its media and reference, and the responses sampled for it.

    ``reference`` holds whatever the scorers need: ``answer``, ``options``, ``box``, ``cases``, …
    ``recipe`` wins over the call's recipe. ``expected`` above the number of responses makes the group
    open: so many responses will come under this id in all, in this call and others; 0 is a whole group.
    ``lost`` responses more belong to it that cannot be sent or read.
    """

    id: str
    prompt: str | tuple[Message, ...] = ""
    responses: tuple[Response, ...] = ()
    reference: Json = field(default_factory=dict)
    media: tuple[Media, ...] = ()
    problem_type: str = ""
    recipe: str = ""
    metadata: Json = field(default_factory=dict)
    expected: int = 0
    lost: int = 0

    @property
    def is_member(self) -> bool:
        """Whether it is a part of an open group, whose other members come in other calls or under its id in this."""
        return self.expected > len(self.responses)


MAX_CHARS, MAX_RUN, MAX_RESPONSES = 1_000_000, 256, 16_384
"""Characters of a response that any scorer reads: with more it is over the limit of every one of them. Characters of a
run's name. Responses of a group, whole or open.
"""

CacheMode = Literal["use", "bypass", "read_only", "refresh"]


@dataclass(frozen=True, slots=True)
class Call:
    """How a call wants its groups scored.

    ``run`` names a training run, which pins the recipe's fingerprint at first use; ``repin`` accepts
    the present one. ``inputs`` are named numbers that recipes read. ``deadline_ms`` counts from
    receipt, 0 is the hub's default. ``recipe_text`` is an inline recipe in YAML.
    """

    recipe: str = ""
    run: str = ""
    step: int | None = None
    policy_version: str = ""
    inputs: Mapping[str, float] = field(default_factory=dict)
    deadline_ms: int = 0
    cache: CacheMode = "use"
    priority: Literal["online", "bulk"] = "online"
    details: bool = True
    repin: bool = False
    recipe_text: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one response: a value, or None with the status that says why.

    ``parts`` maps paths of at most three names joined by "/" to scores; ``steps`` are the scores of
    the response's steps; ``confidence`` is in [0, 1]; ``details`` explains the verdict.
    """

    value: float | None
    status: Status = Status.OK
    confidence: float | None = None
    parts: Mapping[str, "Score"] = field(default_factory=dict)
    steps: tuple[float | None, ...] = ()
    details: Json = field(default_factory=dict)
    fingerprint: str = ""
    cached: bool = False

    @property
    def blame(self) -> Blame:
        return self.status.blame

    @property
    def retryable(self) -> bool:
        return self.status.retryable

    def __float__(self) -> float:
        if self.value is None:
            raise ValueError(f"this score has no value: {self.status}")
        return self.value


_ROW = attrgetter("value", "status", "details", "confidence", "steps", "cached")


@dataclass(slots=True)
class Column:
    """One score per response, as parallel lists; a ``None`` list is "none of them has any"."""

    values: list[float | None]
    statuses: list[Status]
    fingerprint: str = ""
    details: list[Json | None] | None = None
    confidence: list[float | None] | None = None
    steps: list[tuple[float | None, ...]] | None = None
    cached: list[bool] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, scores: Sequence[Score], fingerprint: str = "") -> "Column":
        """The column with these rows; parts of the rows are not kept."""
        if not scores:
            return cls([], [], fingerprint)
        values, statuses, details, confidence, steps, cached = zip(*map(_ROW, scores), strict=True)
        return cls(
            [*values],
            [*statuses],
            fingerprint,
            [each or None for each in details] if any(details) else None,
            [*confidence] if confidence.count(None) < len(scores) else None,
            [*steps] if any(steps) else None,
            [*cached] if any(cached) else None,
        )

    @classmethod
    def failed(cls, count: int, status: Status, reason: str, **details: Any) -> "Column":
        """``count`` rows without a value, for the same reason."""
        return cls([None] * count, [status] * count, details=[{"reason": reason, **details} for _ in range(count)])

    def row(self, index: int) -> Score:
        return Score(
            value=self.values[index],
            status=self.statuses[index],
            confidence=self.confidence[index] if self.confidence else None,
            steps=self.steps[index] if self.steps else (),
            details=(self.details[index] or {}) if self.details else {},
            fingerprint=self.fingerprint,
            cached=self.cached[index] if self.cached else False,
        )

    def take(self, rows: Sequence[int]) -> "Column":
        """A new column of the given rows."""
        return Column(
            [self.values[row] for row in rows],
            [self.statuses[row] for row in rows],
            self.fingerprint,
            **{name: [column[row] for row in rows] for name, column in self._optional() if column is not None},
        )

    def put(self, rows: Sequence[int], other: "Column") -> None:
        """Replaces ``rows`` by the rows of ``other``."""
        for target, row in enumerate(rows):
            self.values[row] = other.values[target]
            self.statuses[row] = other.statuses[target]
        self.fingerprint = self.fingerprint or other.fingerprint
        for name, column in other._optional():
            mine = getattr(self, name)
            if column is None and mine is None:
                continue
            if mine is None:
                mine = [_EMPTY[name]] * len(self.values)
                setattr(self, name, mine)
            for target, row in enumerate(rows):
                mine[row] = _EMPTY[name] if column is None else column[target]

    def extend(self, other: "Column") -> None:
        """Appends the rows of ``other``."""
        size = len(self.values)
        self.values += [None] * len(other)
        self.statuses += [Status.SKIPPED] * len(other)
        for name, column in self._optional():
            if column is not None:
                column.extend([_EMPTY[name]] * len(other))
        self.put(range(size, size + len(other)), other)

    def _optional(self) -> list[tuple[str, list[Any] | None]]:
        return [(name, getattr(self, name)) for name in _EMPTY]


_EMPTY: dict[str, Any] = {"details": None, "confidence": None, "steps": (), "cached": False}


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds: waiting in queues, running, and from receipt to answer."""

    queue_ms: float = 0.0
    run_ms: float = 0.0
    total_ms: float = 0.0


@dataclass(slots=True)
class GroupScores:
    """The scores of a group as columns: the total and one column per part.

    ``indices`` are the response indices of the rows. ``complete`` is False while an open group has
    members or group-wide parts to come.
    """

    id: str
    total: Column
    parts: dict[str, Column] = field(default_factory=dict)
    indices: list[int] = field(default_factory=list)
    complete: bool = True
    timings: Timings = Timings()

    def __len__(self) -> int:
        return len(self.total)

    def __getitem__(self, row: int) -> Score:
        score = self.total.row(row)
        if not self.parts:
            return score
        parts = {path: column.row(row) for path, column in self.parts.items()}
        return Score(
            score.value, score.status, score.confidence, parts, score.steps, score.details,
            score.fingerprint, score.cached,
        )  # fmt: skip

    def __iter__(self) -> Iterator[Score]:
        return (self[row] for row in range(len(self)))

    def take(self, rows: Sequence[int]) -> "GroupScores":
        """The scores of some rows, which keep their response indices."""
        parts = {path: column.take(rows) for path, column in self.parts.items()}
        indices = [self.indices[row] for row in rows]
        return GroupScores(self.id, self.total.take(rows), parts, indices, self.complete, self.timings)

    @property
    def values(self) -> list[float | None]:
        """One value per response; None where there is none."""
        return self.total.values

    @property
    def scores(self) -> list[Score]:
        return list(self)


class Rewards(Protocol):
    """What hub and client offer to blocking callers: trainers, the bench, the command line."""

    def score(self, groups: Sequence[Group], call: Call) -> list[GroupScores]:
        """Scores whole groups; the answers are in request order.

        Raises ``RewardHubError`` only for what concerns the whole call; a failure of one group or
        response is a status.
        """
        ...

    def stream(self, groups: Iterable[Group], call: Call) -> Iterator[GroupScores]:
        """Scores groups as they come and yields each as it is ready, in any order."""
        ...


class AsyncRewards(Protocol):
    """The same two calls for asyncio."""

    async def score(self, groups: Sequence[Group], call: Call) -> list[GroupScores]: ...

    def stream(self, groups: Iterable[Group] | AsyncIterable[Group], call: Call) -> AsyncIterator[GroupScores]: ...
