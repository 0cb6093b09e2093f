"""What waits for a model's worker: cut into batches, and divided where it cannot be scored as it is."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rewardhub.scheduler.exchange import WorkerLost
from rewardhub.scheduler.fair_queue import FairQueue
from rewardhub.scheduler.messages import Failed
from rewardhub.scheduler.model_job import ModelJob, joined
from rewardhub.scheduler.quarantine import TRIES, Quarantine
from rewardhub.types import Column, Score, Status

_log = logging.getLogger("rewardhub.scheduler")


@contextmanager
def answering(jobs: Sequence[ModelJob]) -> Iterator[None]:
    """Answers the jobs where a fault of ours keeps them from being scored within: nobody waits in vain."""
    try:
        yield
    except WorkerLost:
        raise
    except Exception as error:
        _log.exception("what waits for a model could not be scored")
        for job in jobs:
            job.fail(Status.INTERNAL_ERROR, f"{type(error).__name__} in the hub")


class ModelQueue:
    """The jobs for the model ``name``, in fair order."""

    def __init__(self, name: str, quarantine: Quarantine) -> None:
        self._name = name
        self._quarantine = quarantine
        self._jobs: FairQueue[ModelJob] = FairQueue(lambda job: job.done.done(), lambda job: job.over)
        self._joining: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[ModelJob]:
        return iter(self._jobs)

    async def wait(self) -> None:
        """Waits until something is queued."""
        await self._jobs.wait()

    def put(self, job: ModelJob) -> None:
        self._put(self._jobs.put, job)

    def put_back(self, job: ModelJob) -> None:
        """It comes again before what its caller's tenant sent after it."""
        self._put(self._jobs.put_back, job)

    def refuse_all(self, reason: str) -> None:
        while (job := self._jobs.pop()) is not None:
            job.fail(Status.UNAVAILABLE, reason, retry_after_s=1.0)

    def take(self, token_budget: int) -> list[ModelJob]:
        """The next batch in fair order, up to the budget; what lost a worker goes alone."""
        jobs: list[ModelJob] = []
        begun: set[bytes] = set()
        tokens = 0
        while (job := self._jobs.first) is not None:
            if job.over:
                self._jobs.pop()
                job.fail(Status.TIMEOUT, "the deadline passed in the queue")
                continue
            with answering([job]):
                if self._quarantine and self._sifted(job):
                    continue
            if job.done.done():
                continue
            more = job.tokens - (job.shared if job.beginning and job.beginning in begun else 0)
            if jobs and (job.alone or tokens + more > token_budget):
                break
            self._jobs.pop()
            jobs.append(job)
            begun.add(job.beginning)
            tokens += more
            if job.alone:
                break
        return jobs

    def lost(self, jobs: Sequence[ModelJob], *, spared: bool = False) -> None:
        """A worker was lost on a batch, which is tried once more; ``spared`` is one that was not the cause."""
        score = Score(None, Status.INTERNAL_ERROR, details={"reason": f"lost {TRIES} workers of {self._name}"})
        for job in jobs:
            for key in () if spared else job.inputs:
                self._quarantine.strike(key, score, on_trial=job.alone)
            self.put_back(job)

    def split(self, jobs: Sequence[ModelJob], failed: Failed, token_budget: int) -> None:
        """Halves a batch that failed, so that only what cannot be scored alone is lost."""
        if len(jobs) > 1:
            for job in jobs:
                job.apart(token_budget // 2 + 1)
                self.put_back(job)
        elif jobs[0].divisible:
            rows = range(len(jobs[0].group.responses))
            self._divide(jobs[0], [rows[: len(rows) // 2], rows[len(rows) // 2 :]])
        elif not failed.memory:
            jobs[0].fail(Status.INTERNAL_ERROR, failed.reason)

    def _put(self, put: Callable[..., None], job: ModelJob) -> None:
        put(job, priority=job.context.priority, tenant=job.context.tenant, cost=job.size)

    def _sifted(self, job: ModelJob) -> bool:
        """Whether the job, which waits in front, is taken and answered, or divided, because of what lost a worker."""
        if not job.divisible:
            (key, *_) = job.inputs
            job.alone = self._quarantine.suspects(key)
            verdict = self._quarantine.verdict(key)
            if verdict is not None:
                self._jobs.pop()
                job.answer(Column.of([verdict] * len(job.group.responses)))
            return verdict is not None
        suspects = [row for row, key in enumerate(job.inputs) if self._quarantine.marks(key)]
        if suspects:
            clean = [row for row in range(len(job.inputs)) if row not in set(suspects)]
            self._jobs.pop()
            self._divide(job, [*([clean] if clean else []), *([row] for row in suspects)])
        return bool(suspects)

    def _divide(self, job: ModelJob, rows: Sequence[Sequence[int]]) -> None:
        """Scores some rows apart from others; all together once more where another version came in between."""
        with answering([job]):
            parts = [job.part(each) for each in rows]
            for part in parts:
                self.put_back(part)
            task = asyncio.create_task(self._put_together(job, parts, rows))
            self._joining.add(task)
            task.add_done_callback(self._joining.discard)

    async def _put_together(self, job: ModelJob, parts: Sequence[ModelJob], rows: Sequence[Sequence[int]]) -> None:
        with answering([job]):
            column = await joined(parts, rows)
            if column is None:
                self.put_back(job)
            else:
                job.answer(column)
