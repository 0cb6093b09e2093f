"""What waits for a model's worker: one group, or some of its responses."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from rewardhub.scheduler.quarantine import inputs_of
from rewardhub.scorer import Bound, Context
from rewardhub.types import Column, Group, Media, Status
from rewardhub.wire.proto import group_to_proto


@dataclass(eq=False)
class ModelJob:
    """``size`` is an estimate of its tokens, ``shared`` of those before the responses; ``tokens`` is what it counts for
    in a batch, and ``alone`` it shares none.

    ``beginning`` is the group without its responses, as a message: jobs that have it in common are sent as one
    group. It is empty where responses are scored together.
    """

    bound: Bound
    group: Group
    context: Context
    done: asyncio.Future[Column]
    alone: bool = False
    since: float = field(default_factory=time.monotonic)
    size: int = field(init=False)
    tokens: int = field(init=False)
    shared: int = field(init=False)
    beginning: bytes = b""

    def __post_init__(self) -> None:
        self.tokens = self.size = estimate_tokens(self.group)
        self.shared = estimate_tokens(self.group, with_responses=False)
        if self.bound.info.scope == "response":
            start = replace(self.group, id="", recipe="", expected=0)
            self.beginning = group_to_proto(start, with_responses=False).SerializeToString()

    def apart(self, tokens: int) -> None:
        """From now on it counts for at least so many tokens, and is sent as a group of its own."""
        self.tokens, self.beginning = max(self.tokens, tokens), b""

    @cached_property
    def inputs(self) -> list[bytes]:
        """What each response is known by in quarantine; one entry where they are scored as a whole."""
        keys = inputs_of(self.bound, self.group, range(len(self.group.responses)))
        return keys if self.divisible else keys[:1]

    @property
    def largest(self) -> int:
        """About how many tokens its largest response takes with the prompt; all, where they are read together."""
        if not self.divisible:
            return self.size
        longest = max(self.group.responses, key=lambda each: len(str(each.messages) if each.messages else each.text))
        return estimate_tokens(replace(self.group, responses=(longest,)))

    @property
    def divisible(self) -> bool:
        """Whether its responses may be scored apart."""
        return self.bound.info.scope == "response" and len(self.group.responses) > 1

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.done.done() or self.context.deadline <= time.monotonic()

    def answer(self, column: Column) -> None:
        if not self.done.done():
            self.done.set_result(column)

    def fail(self, status: Status, reason: str, **details: Any) -> None:
        self.answer(Column.failed(len(self.group.responses), status, reason, **details))

    def part(self, rows: Sequence[int]) -> "ModelJob":
        """A job of some of the responses, which is dropped when nobody waits for the whole."""
        group = replace(self.group, responses=tuple(self.group.responses[row] for row in rows))
        part = ModelJob(self.bound, group, self.context, self.done.get_loop().create_future())
        self.done.add_done_callback(lambda _: part.done.cancel())
        return part


def families(jobs: Sequence[ModelJob]) -> list[list[ModelJob]]:
    """The jobs, those together that are sent as one group."""
    found: dict[bytes | int, list[ModelJob]] = {}
    for job in jobs:
        found.setdefault(job.beginning or id(job), []).append(job)
    return list(found.values())


def message_of(family: Sequence[ModelJob]) -> bytes:
    """The group with the responses of all jobs of a family; its media are named by their hashes."""
    responses = tuple(response for job in family for response in job.group.responses)
    return group_to_proto(replace(family[0].group, responses=responses)).SerializeToString()


def rows_of(family: Sequence[ModelJob]) -> int:
    """How many responses a family has."""
    return sum(len(job.group.responses) for job in family)


def size_of(families: Sequence[Sequence[ModelJob]]) -> int:
    """About how many tokens families have in all, what is shared counted once."""
    return sum(job.size - (job.shared if job is not family[0] else 0) for family in families for job in family)


async def joined(parts: Sequence[ModelJob], rows: Sequence[Sequence[int]]) -> Column | None:
    """The column of a job that was divided into ``parts``; None where they were not scored by one version."""
    columns = [await part.done for part in parts]
    if len({column.fingerprint for column in columns if column.fingerprint}) > 1:
        return None
    whole = Column.failed(sum(map(len, rows)), Status.INTERNAL_ERROR, "not scored")
    for places, column in zip(rows, columns, strict=True):
        whole.put(places, column)
    return whole


def estimate_tokens(group: Group, *, with_responses: bool = True) -> int:
    """About how many tokens a group costs: four characters each, 256 per image or frame, the prompt once.

    Trajectories count as they are written out, with the names of their fields.
    """
    chars, images = len(str(group.prompt)) if group.prompt else 0, _images(group.media)
    if not with_responses:
        return chars // 4 + 256 * images
    chars += sum(len(str(response.messages) if response.messages else response.text) for response in group.responses)
    images += sum(_images(response.media) for response in group.responses if response.media)
    return chars // 4 + 256 * images + len(group.responses)


def _images(media: Sequence[Media]) -> int:
    return sum(len(each.frames) or 1 for each in media)
