"""The CPU pool: killable verifier processes fed from one bounded queue.

A response that outlasts its verifier's time limit costs its worker, which is killed and replaced in
milliseconds; the response is tried once more on a fresh worker and is then ``over_limit``. A response
whose worker dies twice of something else is ``internal_error``. Its neighbours are never lost. What cost two
workers is in quarantine. Pair and group scope are scored, and tried again, as a whole; they have the time of all their
responses. A worker that is stopped, or still at work for nobody, is replaced within a second.
"""

import asyncio
import itertools
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from rewardhub.errors import Unavailable
from rewardhub.lasting import lasting
from rewardhub.owned import own_score
from rewardhub.raised import failure
from rewardhub.registry import Registry
from rewardhub.scheduler.beginnings import Beginnings, Shared
from rewardhub.scheduler.fair_queue import FairQueue
from rewardhub.scheduler.figures import Figures
from rewardhub.scheduler.mean_times import MeanTimes
from rewardhub.scheduler.messages import Channel, PoolTask
from rewardhub.scheduler.pool_job import Known, PoolJob, unwritable
from rewardhub.scheduler.pool_worker import GivenUp, PoolWorker
from rewardhub.scheduler.quarantine import TRIES, Quarantine
from rewardhub.scheduler.zygote import Zygote
from rewardhub.scorer import BoundVerifier, Context
from rewardhub.types import Column, Group, Score, Status
from rewardhub.wire.lines import dumps

_log = logging.getLogger("rewardhub.scheduler")
CHUNK_S = 0.002
"""How long one task should hold a worker: nobody else is served before it ends."""
FIRST, MAX_CHUNK = 8, 64
GRACE_S = 0.05
STOPS = 2
"""Workers that may be stopped at the same response by whoever it was; then it is the response that stops them."""


class Pool:
    """Verifier worker processes. ``queue_limit`` is in responses, ``memory_mb`` per worker; ``registry`` has the
    verifiers as the workers load them, None where there is no other pool.
    """

    def __init__(
        self,
        workers: int,
        queue_limit: int,
        memory_mb: int,
        plugins: Sequence[Path] = (),
        figures: Figures | None = None,
        quarantine: Quarantine | None = None,
        registry: Registry | None = None,
    ) -> None:
        self._registry = registry
        self._size = workers
        self._limit = queue_limit
        self._settings = (list(plugins), memory_mb)
        self._zygote: Zygote | None = None
        self._renewing = asyncio.Lock()
        self._queue: FairQueue[PoolJob] = FairQueue(lambda job: job.done.done(), lambda job: job.over)
        self._beginnings = Beginnings()
        self._ids = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []
        self._times = MeanTimes(CHUNK_S)
        self._figures = figures or Figures()
        self._quarantine = quarantine if quarantine is not None else Quarantine()
        self._closed = False
        self.queued = 0
        self.pids: set[int] = set()

    async def start(self) -> None:
        self._zygote = await self._made()
        self._tasks = [asyncio.create_task(lasting("a verifier worker", self._serve)) for _ in range(self._size)]

    async def aclose(self) -> None:
        """Ends the workers; what they had in hand and what waits is ``unavailable``, as is what comes later."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while (job := self._queue.pop()) is not None:
            self._enqueue(job)
        if self._zygote:
            await asyncio.to_thread(self._zygote.close)

    def has(self, bound: BoundVerifier) -> bool:
        """Whether this very version of the verifier is here."""
        name = bound.info.name
        return self._registry is None or (name in self._registry and self._registry.get(name) is bound.verifier)

    def check_room(self, rows: int) -> None:
        """Raises ``Unavailable`` where the queue does not take ``rows`` more."""
        if self.queued + rows > self._limit:
            raise Unavailable("the verifier pool is full", retry_after_s=1.0)

    async def run(self, bound: BoundVerifier, group: Group, rows: Sequence[int], context: Context) -> Column:
        """Scores ``rows``; raises ``Unavailable`` when the queue is full."""
        self.check_room(len(rows))
        self.queued += len(rows)
        try:
            async with AsyncExitStack() as stack:
                try:
                    shared = await stack.enter_async_context(self._beginnings.of(group))
                except Exception as error:
                    return Column.of([unwritable(error) for _ in rows], bound.fingerprint)
                return await self._scored(self._maker(bound, group, rows, context, shared), bound, rows)
        finally:
            self.queued -= len(rows)

    @staticmethod
    def _maker(
        bound: BoundVerifier, group: Group, rows: Sequence[int], context: Context, shared: Shared
    ) -> Callable[..., PoolJob]:
        known = Known(bound, group, rows)
        return partial(PoolJob, bound, group, context=context, shared=shared, known=known)

    async def _scored(self, job: Callable[..., PoolJob], bound: BoundVerifier, rows: Sequence[int]) -> Column:
        if bound.info.scope != "response":
            return await self._tasks_of(len(rows), job, bound, rows)
        if len(rows) <= MAX_CHUNK or bound.fingerprint in self._times:
            return await self._tasks_of(self._chunk(bound), job, bound, rows)
        # Of a scorer that was never run a few rows tell first how many make a task.
        column = await self._tasks_of(FIRST, job, bound, rows[:FIRST])
        column.extend(await self._tasks_of(self._chunk(bound), job, bound, rows[FIRST:]))
        return column

    async def _tasks_of(
        self, size: int, job: Callable[..., PoolJob], bound: BoundVerifier, rows: Sequence[int]
    ) -> Column:
        loop = asyncio.get_running_loop()
        jobs = [
            job(rows=list(rows[start : start + size]), done=loop.create_future()) for start in range(0, len(rows), size)
        ]
        try:
            for each in jobs:
                self._enqueue(each)
            for each in jobs:
                await each.done
        finally:
            for each in jobs:
                each.done.cancel()
        return Column.of([each.scores[row] for each in jobs for row in each.rows], bound.fingerprint)

    def _enqueue(self, job: PoolJob, *, lost: bool = False) -> None:
        """Queues what is left of a job; one whose worker was ``lost`` is next of its flow."""
        if self._closed:
            _end(job, Score(None, Status.UNAVAILABLE, details={"reason": "the pool has ended", "retry_after_s": 1.0}))
            return
        job.since = time.monotonic()
        cost = self._times[job.bound.fingerprint] * len(job.left)
        put = self._queue.put_back if lost else self._queue.put
        put(job, priority=job.context.priority, tenant=job.context.tenant, cost=cost)

    def _chunk(self, bound: BoundVerifier) -> int:
        """As many rows as take about ``CHUNK_S``, by the mean of what this scorer took lately."""
        return max(1, min(MAX_CHUNK, int(CHUNK_S / self._times[bound.fingerprint])))

    async def _serve(self) -> None:
        """One worker's life: takes jobs until the process is lost."""
        worker = await self._spawn()
        try:
            while await self._next(worker):
                pass
        finally:
            self.pids.discard(worker.pid)
            worker.close()

    async def _spawn(self) -> PoolWorker:
        while True:
            try:
                ours, theirs = socket.socketpair()
            except OSError:  # no descriptor is free now
                await asyncio.sleep(0.2)
                continue
            try:
                zygote = await self._living()
                pid = await asyncio.to_thread(zygote.fork, theirs)
                channel = await Channel.open(ours)
            except OSError:
                ours.close()
                await asyncio.sleep(0.2)
            except BaseException:
                ours.close()
                raise
            else:
                self.pids.add(pid)
                return PoolWorker(pid, channel, zygote)
            finally:
                theirs.close()

    async def _living(self) -> Zygote:
        """The zygote; one that ended has taken all workers along, which share its successor."""
        async with self._renewing:
            if self._zygote is None or not self._zygote.alive:
                if self._zygote:
                    self._zygote.close()
                self._zygote = await self._made()
            return self._zygote

    async def _made(self) -> Zygote:
        """A new zygote; where its caller goes away meanwhile it is ended."""
        making = asyncio.ensure_future(asyncio.to_thread(Zygote, *self._settings))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            (await making).close()
            raise

    async def _next(self, worker: PoolWorker) -> bool:
        """Runs one job; False when the worker was lost."""
        job = await self._queue.get()
        if job.over:
            _end(job, Score(None, Status.TIMEOUT, details={"reason": "the deadline passed in the queue"}))
            return True
        alive = False
        started = time.monotonic()
        try:
            self._figures.waited("pool", started - job.since)
            alive = await self._attempt(worker, job)
            self._figures.ran("pool", time.monotonic() - started)
        except Exception as error:
            _log.exception("a task of the verifier pool met a fault of the hub")
            job.scores |= {row: failure(error) for row in job.left}
        finally:
            if not job.left and not job.done.done():
                job.done.set_result(None)
            elif not job.done.done():
                self._enqueue(job, lost=not alive)
        return alive

    async def _attempt(self, worker: PoolWorker, job: PoolJob) -> bool:
        """Runs the rows that are left, of suspected ones only the first; False when the worker was lost."""
        quarantine, suspect = self._quarantine, None
        if quarantine:
            inputs = await job.known.inputs()
            suspect = next((key for row in job.left if quarantine.suspects(key := inputs[row])), None)
        if suspect is None:
            return await self._run(worker, job, None)
        async with quarantine.trial(suspect):
            return await self._run(worker, job, suspect)

    async def _allowed(self, job: PoolJob, suspect: bytes | None) -> list[int]:
        """The rows that are left and may run, beside no suspected one but ``suspect``; answers the refused ones."""
        if not self._quarantine:
            return job.left
        inputs = await job.known.inputs()
        refused = {row: self._quarantine.verdict(inputs[row]) for row in job.left}
        job.scores |= {row: score for row, score in refused.items() if score is not None}
        return [row for row in job.left if (key := inputs[row]) == suspect or not self._quarantine.suspects(key)]

    async def _run(self, worker: PoolWorker, job: PoolJob, suspect: bytes | None) -> bool:
        """Sends the rows that may run and takes their answers; False when the worker was lost."""
        rows = await self._allowed(job, suspect)
        message = None if job.over or not rows else job.message(rows)
        if message is None:
            return True
        params = dumps(dict(job.bound.given)).encode()
        key = job.bound.fingerprint
        begins = job.shared.key
        task = PoolTask(next(self._ids), job.bound.info.name, params, message, key, job.context.deadline, begins)
        begun = started = time.monotonic()
        timed, scores = 0, {}
        try:
            if not await worker.start(task, job.shared):
                return False
            for place, row in enumerate(rows):
                answer = await worker.answer(_patience_s(job.bound, len(rows)), lambda: job.over)
                if answer is None:
                    break
                if (answer.id, answer.row) != (task.id, place):
                    raise ConnectionError("an answer that was not asked for")
                scores[row], timed = answer.score(), timed + 1
                if job.alone and len(scores) == 1 < len(rows):
                    started, timed = time.monotonic(), 0  # the first answer is late by what a worker prepares once
        except GivenUp:
            return False
        except TimeoutError:
            if worker.begun and worker.stopped:
                job.stops += 1
                if job.stops > STOPS:
                    await self._strike(job, rows[len(scores) :], suspect, _lost())
            elif worker.begun:
                await self._strike(job, rows[len(scores) :], suspect, _over_time(job.bound))
                self._times.learn(key, (time.monotonic() - started) / (timed + 1 if job.alone else len(rows)))
            return False
        except (ConnectionError, OSError):
            if worker.begun and worker.zygote.alive:  # else it ended with its zygote, of which the task is innocent
                await self._strike(job, rows[len(scores) :], suspect, _lost())
            return False
        finally:
            await self._keep(job, scores, len(rows))
        if scores:
            self._times.learn(key, (time.monotonic() - (started if timed else begun)) / max(1, timed))
        return True

    async def _keep(self, job: PoolJob, scores: dict[int, Score], asked: int) -> None:
        """Takes the answers that came, of which pair and group scope need all."""
        if len(scores) == asked or job.alone:
            job.scores |= scores
            job.stops = 0 if scores else job.stops
            if self._quarantine:
                inputs = await job.known.inputs()
                for row in scores:
                    self._quarantine.absolve(inputs[row])

    async def _strike(self, job: PoolJob, rows: list[int], suspect: bytes | None, score: Score) -> None:
        """A worker was lost on the first of ``rows``, or on all of them as a whole."""
        key = (await job.known.inputs())[rows[0]]
        verdict = self._quarantine.strike(key, score, on_trial=key == suspect)
        if verdict is not None:
            job.scores |= {row: own_score(verdict) for row in (rows[:1] if job.alone else job.left)}


def _end(job: PoolJob, score: Score) -> None:
    """Answers all that is left of a job."""
    job.scores |= {row: own_score(score) for row in job.left}
    if not job.done.done():
        job.done.set_result(None)


def _patience_s(bound: BoundVerifier, count: int) -> float:
    """How long a worker may be silent: the limit of a row, or of all where they are scored together."""
    limit = bound.info.time_limit_s + GRACE_S
    return limit if bound.info.scope == "response" else limit * count


def _lost() -> Score:
    return Score(None, Status.INTERNAL_ERROR, details={"reason": f"lost {TRIES} workers"})


def _over_time(bound: BoundVerifier) -> Score:
    limit = bound.info.time_limit_s
    reason = f"over the time limit of {limit:g} s on {TRIES} workers"
    return Score(None, Status.OVER_LIMIT, details={"reason": reason, "limit_s": limit})


def default_workers() -> int:
    """One worker per core that this process may use."""
    return max(1, math.ceil(len(os.sched_getaffinity(0))))
