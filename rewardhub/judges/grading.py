"""Grading responses one by one: gate, question, verdict, value."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, TypeVar

from rewardhub.errors import DeadlineExceeded, InvalidInput, OverLimit
from rewardhub.judges.gate import content_free
from rewardhub.judges.lane import Answer, JudgeLane
from rewardhub.judges.prompt import Block, Question, final_text, image_part, shared_part
from rewardhub.judges.rubric import Case, Rubric
from rewardhub.raised import failure
from rewardhub.scorer import Context
from rewardhub.types import Group, Json, Media, Score, Status

LONGEST_REASONING = 2_000
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Asker:
    """A rubric, the lane that answers it, and the call it is asked for; lives as long as the call.

    ``rounds`` above 0 makes pairs meet in a tournament of so many. ``shown`` keeps each image's content
    part by its hash, so that an image is encoded once, whoever shows it.
    """

    lane: JudgeLane
    rubric: Rubric
    samples: int
    context: Context
    rounds: int = 0
    shown: dict[str, Json] = field(default_factory=dict)

    async def ask(self, question: Question) -> list[Answer]:
        """``samples`` answers, asked at once; raises the first failure and drops the other calls."""
        if self.samples == 1:
            return [await self.lane.ask(question, self.context)]
        return await together(self.lane.ask(question, self.context) for _ in range(self.samples))

    def shared(self, group: Group) -> str:
        """The part of the prompt all responses share; raises what concerns the caller."""
        blocks = self.rubric.shared(group)
        if sum(len(block.text) for block in blocks) > self.lane.settings.max_chars:
            raise InvalidInput(
                f"prompt and reference are over {self.lane.settings.max_chars} characters", field="prompt"
            )
        return shared_part(blocks)

    async def question(self, case: Case, shared: str, graded: tuple[Block, ...]) -> Question:
        """Raises ``OverLimit`` where a graded text, or what it shows, is too long for the judge, and ``InvalidInput``
        for an image that cannot be shown or is damaged, which an endpoint would only refuse.
        """
        if any(len(block.text) > self.lane.settings.max_chars for block in graded):
            raise OverLimit(f"over {self.lane.settings.max_chars} characters")
        images = self.rubric.images(case) if self.lane.settings.vision else ()
        self._check_images(case.group, images)
        parts = tuple([await self._image_part(each) for each in images])
        return Question(self.rubric.instruction, shared, graded, self.rubric.form(case), parts)

    def _check_images(self, group: Group, images: Sequence[Media]) -> None:
        """Raises ``InvalidInput`` where the prompt's images are too much already, ``OverLimit`` where others are."""
        limit, size = self.lane.settings.max_image_bytes, _bytes_of(images)
        if size > limit:
            reason = f"{size} bytes of images, over the judge's limit of {limit}"
            raise InvalidInput(reason, field="media") if _bytes_of(group.media) > limit else OverLimit(reason)

    async def _image_part(self, media: Media) -> Json:
        key = media.sha256 or str(id(media))
        if key not in self.shown:
            part = image_part(media)
            await self._looked_at(media)
            self.shown[key] = part
        return self.shown[key]

    async def _looked_at(self, media: Media) -> None:
        remaining = self.context.deadline - time.monotonic()
        try:
            async with asyncio.timeout(None if math.isinf(remaining) else remaining):
                await self.lane.balancer.pool.looker.check(media)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while an image was looked at") from None

    def refusal(self, case: Case) -> str:
        """Why this response gets the lowest value unasked, or ""."""
        reason = self.rubric.refuse(case)
        if reason or not self.rubric.gated or case.response.media:
            return reason
        return content_free(final_text(case.response), str(case.group.reference.get("answer", "")))

    @property
    def lowest(self) -> float:
        return self.rubric.range[0]


def _bytes_of(images: Sequence[Media]) -> int:
    return sum(len(each.data or b"") for each in images)


async def together(asked: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """The results of all; the first failure cancels the others and is raised."""
    failures: list[BaseException] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in asked]
    except* Exception as errors:
        failures.extend(errors.exceptions)
    if failures:
        raise failures[0]
    return [task.result() for task in tasks]


async def grade(asker: Asker, group: Group, indices: Sequence[int]) -> list[Score]:
    """One score per index, all asked at once; never raises for a response."""
    try:
        shared = asker.shared(group)
    except Exception as error:
        return [failure(error)] * len(indices)
    cases = [Case(group, group.responses[index]) for index in indices]
    return await asyncio.gather(*(_grade_one(asker, case, shared) for case in cases))


async def _grade_one(asker: Asker, case: Case, shared: str) -> Score:
    try:
        reason = asker.refusal(case)
        if reason:
            return Score(asker.lowest, details={"reason": reason, "gate": True})
        question = await asker.question(case, shared, asker.rubric.graded(case))
        return _score(asker.rubric, case, await asker.ask(question))
    except Exception as error:
        return failure(error)


def _score(rubric: Rubric, case: Case, answers: Sequence[Answer]) -> Score:
    first = answers[0]
    details = {**described(first), **rubric.explain(first.verdict, case)}
    value = fmean(rubric.value(answer.verdict, case) for answer in answers)
    steps = _mean_steps([rubric.steps(answer.verdict, case) for answer in answers])
    if len(answers) == 1:
        return Score(value, steps=steps, details=details)
    verdicts = [answer.verdict for answer in answers]
    commonest = Counter(map(str, verdicts)).most_common(1)[0][1]
    return Score(value, confidence=commonest / len(answers), steps=steps, details=details | {"verdicts": verdicts})


def _mean_steps(answers: Sequence[tuple[float | None, ...]]) -> tuple[float | None, ...]:
    """Each step's mean over the answers that have a value for it."""
    known = ([value for value in values if value is not None] for values in zip(*answers, strict=True))
    return tuple(fmean(values) if values else None for values in known)


def described(answer: Answer) -> dict[str, Any]:
    """The details of an answer: its verdict, the end of its reasoning, the model and the calls it took."""
    return {
        "verdict": answer.verdict,
        "reason": answer.reasoning[-LONGEST_REASONING:],
        "model": answer.model,
        "calls": answer.calls,
    }


def alone(count: int) -> list[Score]:
    """The scores of responses with nobody to compare them to."""
    return [Score(None, Status.INCOMPLETE_GROUP, details={"reason": "nothing to compare with"})] * count
