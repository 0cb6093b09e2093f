"""The CPU pool: killable verifier processes fed from one bounded queue.

A response that outlasts its verifier's time limit costs its worker, which is killed and replaced in
milliseconds; the response is tried once more on a fresh worker and is then ``over_limit``. A response
whose worker dies twice of something else is ``internal_error``. Its neighbours are never lost.
"""

import asyncio
import itertools
import math
import os
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rewardhub.errors import Unavailable
from rewardhub.scheduler.fair_queue import FairQueue
from rewardhub.scheduler.figures import Figures
from rewardhub.scheduler.messages import Channel, PoolTask, Row
from rewardhub.scheduler.process_state import process_state
from rewardhub.scheduler.zygote import Zygote
from rewardhub.scorer import BoundVerifier, Context, failure
from rewardhub.types import Column, Group, Score, Status
from rewardhub.wire.lines import dumps
from rewardhub.wire.proto import group_to_proto

CHUNK_S = 0.002
"""How long one task should hold a worker: nobody else is served before it ends."""
MAX_CHUNK = 64
TRIES = 2
GRACE_S = 0.05


@dataclass(eq=False)
class _Job:
    """Rows of one group for one verifier; ``scores`` fills up, ``strikes`` counts lost workers."""

    bound: BoundVerifier
    group: Group
    rows: list[int]
    deadline: float
    done: asyncio.Future[None]
    scores: dict[int, Score] = field(default_factory=dict)
    strikes: Counter[int] = field(default_factory=Counter)
    since: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> list[int]:
        return [row for row in self.rows if row not in self.scores]

    @property
    def over(self) -> bool:
        return self.done.done() or time.monotonic() >= self.deadline


class Pool:
    """Verifier worker processes. ``queue_limit`` is in responses, ``memory_mb`` per worker."""

    def __init__(
        self,
        workers: int,
        queue_limit: int,
        memory_mb: int,
        plugins: Sequence[Path] = (),
        figures: Figures | None = None,
    ) -> None:
        self._size = workers
        self._limit = queue_limit
        self._settings = (list(plugins), memory_mb)
        self._zygote: Zygote | None = None
        self._queue: FairQueue[_Job] = FairQueue()
        self._ids = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []
        self._row_s: dict[str, float] = {}
        self._figures = figures or Figures()
        self.queued = 0
        self.pids: set[int] = set()

    async def start(self) -> None:
        self._zygote = await asyncio.to_thread(Zygote, *self._settings)
        self._tasks = [asyncio.create_task(self._serve()) for _ in range(self._size)]

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._zygote:
            await asyncio.to_thread(self._zygote.close)

    async def run(self, bound: BoundVerifier, group: Group, rows: Sequence[int], context: Context) -> Column:
        """Scores ``rows``; raises ``Unavailable`` when the queue is full."""
        if self.queued + len(rows) > self._limit:
            raise Unavailable("the verifier pool is full", retry_after_s=1.0)
        size = len(rows) if bound.info.scope != "response" else self._chunk(bound)
        loop = asyncio.get_running_loop()
        jobs = [
            _Job(bound, group, list(rows[start : start + size]), context.deadline, loop.create_future())
            for start in range(0, len(rows), size)
        ]
        self.queued += len(rows)
        try:
            for job in jobs:
                self._queue.put(job, priority=context.priority, tenant=context.tenant, cost=len(job.rows))
            for job in jobs:
                await job.done
        finally:
            self.queued -= len(rows)
            for job in jobs:
                job.done.cancel()
        return Column.of([job.scores[row] for job in jobs for row in job.rows], bound.fingerprint)

    def _chunk(self, bound: BoundVerifier) -> int:
        """As many rows as take about ``CHUNK_S``, by the mean of what this scorer took lately."""
        return max(1, min(MAX_CHUNK, int(CHUNK_S / self._row_s.get(bound.fingerprint, CHUNK_S))))

    def _learn(self, bound: BoundVerifier, seconds: float) -> None:
        known = self._row_s.get(bound.fingerprint, seconds)
        self._row_s[bound.fingerprint] = 0.8 * known + 0.2 * seconds

    async def _serve(self) -> None:
        """One worker's life after life: takes jobs, replaces the process whenever it is lost."""
        while True:
            worker = await self._spawn()
            try:
                while await self._next(worker):
                    pass
            finally:
                self.pids.discard(worker.pid)
                worker.close()
                if self._zygote:
                    self._zygote.kill(worker.pid)

    async def _spawn(self) -> "_Worker":
        while True:
            ours, theirs = socket.socketpair()
            try:
                if self._zygote is None or not self._zygote.alive:
                    self._zygote = await asyncio.to_thread(Zygote, *self._settings)
                pid = await asyncio.to_thread(self._zygote.fork, theirs)
                channel = await Channel.open(ours)
            except OSError:
                ours.close()
                await asyncio.sleep(0.2)
            except BaseException:
                ours.close()
                raise
            else:
                self.pids.add(pid)
                return _Worker(pid, channel)
            finally:
                theirs.close()

    async def _next(self, worker: "_Worker") -> bool:
        """Runs one job; False when the worker was lost."""
        job = await self._queue.get()
        if job.over:
            self._expire(job)
            return True
        alive = False
        started = time.monotonic()
        self._figures.waited("pool", started - job.since)
        try:
            alive = await self._run(worker, job)
            self._figures.ran("pool", time.monotonic() - started)
        except Exception as error:
            job.scores |= {row: failure(error) for row in job.left}
        finally:
            if not job.left and not job.done.done():
                job.done.set_result(None)
            elif not job.done.done():
                job.since = time.monotonic()
                self._queue.put_back(job)
        return alive

    def _expire(self, job: _Job) -> None:
        for row in job.left:
            job.scores[row] = Score(None, Status.TIMEOUT, details={"reason": "the deadline passed in the queue"})
        if not job.done.done():
            job.done.set_result(None)

    async def _run(self, worker: "_Worker", job: _Job) -> bool:
        """Sends the rows that are left and takes their answers; False when the worker was lost."""
        left = job.left
        responses = tuple(job.group.responses[row] for row in left)
        message = group_to_proto(replace(job.group, responses=responses)).SerializeToString()
        params = dumps(dict(job.bound.given)).encode()
        task = PoolTask(next(self._ids), job.bound.info.name, params, message, job.bound.fingerprint)
        limit = job.bound.info.time_limit_s + GRACE_S
        wait = limit if job.bound.info.scope == "response" else limit * len(left)
        started = time.monotonic()
        for count, row in enumerate(left):
            try:
                if count == 0:
                    await worker.start(task)
                job.scores[row] = (await worker.answer(wait)).score()
            except TimeoutError:
                self._strike(job, row, _over_time(job.bound), stopped=process_state(worker.pid).code == "T")
                return False
            except (ConnectionError, OSError):
                lost = Score(None, Status.INTERNAL_ERROR, details={"reason": f"lost {TRIES} workers"})
                self._strike(job, row, lost, stopped=False)
                return False
        self._learn(job.bound, (time.monotonic() - started) / len(left))
        return True

    def _strike(self, job: _Job, row: int, score: Score, *, stopped: bool) -> None:
        """A worker was lost on this row, which is tried once more; a stopped worker proves nothing."""
        job.strikes[row] += 0 if stopped else 1
        if job.strikes[row] >= TRIES:
            job.scores[row] = score


@dataclass
class _Worker:
    """One process and the channel to it."""

    pid: int
    channel: Channel
    cpu_s: float = 0.0
    _receiving: asyncio.Future[Row] | None = None

    async def start(self, task: PoolTask) -> None:
        self.cpu_s = process_state(self.pid).cpu_s
        await self.channel.send(task)

    async def answer(self, limit_s: float) -> Row:
        """The next row; raises ``TimeoutError`` once the worker had its time, ``ConnectionError`` if it died.

        On a crowded machine a worker may wait for a core: it gets up to four times the wall clock
        while the task has not had ``limit_s`` of processor time.
        """
        for _ in range(4):
            receiving = self._receiving or asyncio.ensure_future(self.channel.receive())
            self._receiving = receiving
            if not receiving.done():
                await asyncio.wait((receiving,), timeout=limit_s)
            if receiving.done():
                self._receiving = None
                return receiving.result()
            state = process_state(self.pid)
            if state.code != "R" or state.cpu_s - self.cpu_s >= 0.8 * limit_s:
                break
        raise TimeoutError

    def close(self) -> None:
        if self._receiving:
            self._receiving.cancel()
        self.channel.close()


def _over_time(bound: BoundVerifier) -> Score:
    limit = bound.info.time_limit_s
    reason = f"over the time limit of {limit:g} s on {TRIES} workers"
    return Score(None, Status.OVER_LIMIT, details={"reason": reason, "limit_s": limit})


def default_workers() -> int:
    """One worker per core that this process may use."""
    return max(1, math.ceil(len(os.sched_getaffinity(0))))
