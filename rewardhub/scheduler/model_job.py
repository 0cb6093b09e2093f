"""What waits for a model's worker: one group, or some of its responses."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from rewardhub.scheduler.quarantine import inputs_of
from rewardhub.scorer import Bound
from rewardhub.types import Column, Group, Status


@dataclass(eq=False)
class ModelJob:
    """``size`` is an estimate of its tokens, ``tokens`` what it counts for in a batch; ``alone`` it shares none."""

    bound: Bound
    group: Group
    deadline: float
    done: asyncio.Future[Column]
    alone: bool = False
    since: float = field(default_factory=time.monotonic)
    size: int = field(init=False)
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = self.size = estimate_tokens(self.group)

    @cached_property
    def inputs(self) -> list[bytes]:
        """What each response is known by in quarantine; one entry where they are scored as a whole."""
        keys = inputs_of(self.bound, self.group, range(len(self.group.responses)))
        return keys if self.divisible else keys[:1]

    @property
    def divisible(self) -> bool:
        """Whether its responses may be scored apart."""
        return self.bound.info.scope == "response" and len(self.group.responses) > 1

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.done.done() or self.deadline <= time.monotonic()

    def answer(self, column: Column) -> None:
        if not self.done.done():
            self.done.set_result(column)

    def fail(self, status: Status, reason: str) -> None:
        self.answer(Column.failed(len(self.group.responses), status, reason))

    def part(self, rows: Sequence[int]) -> "ModelJob":
        """A job of some of the responses, which is dropped when nobody waits for the whole."""
        group = replace(self.group, responses=tuple(self.group.responses[row] for row in rows))
        part = ModelJob(self.bound, group, self.deadline, self.done.get_loop().create_future())
        self.done.add_done_callback(lambda _: part.done.cancel())
        return part


async def joined(parts: Sequence[ModelJob], rows: Sequence[Sequence[int]]) -> Column | None:
    """The column of a job that was divided into ``parts``; None where they were not scored by one version."""
    columns = [await part.done for part in parts]
    if len({column.fingerprint for column in columns if column.fingerprint}) > 1:
        return None
    whole = Column.failed(sum(map(len, rows)), Status.INTERNAL_ERROR, "not scored")
    for places, column in zip(rows, columns, strict=True):
        whole.put(places, column)
    return whole


def estimate_tokens(group: Group) -> int:
    """About how many tokens a group costs: four characters each, 256 per image, the prompt once."""
    prompt = len(str(group.prompt)) if group.prompt else 0
    texts = sum(len(response.text) for response in group.responses)
    images = len(group.media) + sum(len(response.media) for response in group.responses)
    return (prompt + texts) // 4 + 256 * images + len(group.responses)
