"""The lane of one reward model: a bounded queue in front of its seat in a worker process.

A batch leaves the moment the worker is free, cut by an estimate of its tokens; what begins alike in it, as single
calls for one prompt do, is sent as one group. A worker that dies or hangs, or spends ``RUN_S`` on one batch, is killed
and loaded anew with back-off; see :mod:`~rewardhub.scheduler.exchange`. The responses of its batch are tried once more,
each alone; one that loses two workers is ``internal_error`` and in quarantine. Pair and group scope are tried as a
whole. A batch that does not fit in memory is split, down to single responses, of which one that has no memory is
``unavailable``: the device is short of it. It is ``over_limit``, the response's fault, only where it is longer than the
card's ``token_budget``, so many tokens do fit at that moment, and it takes more than the device has in all: what others
hold at the moment, and may give back, decides nothing.
"""

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import islice

from rewardhub.errors import ConfigError, Unavailable
from rewardhub.lasting import lasting
from rewardhub.models.card import TRUNCATED, Card
from rewardhub.models.digest import card_stamp
from rewardhub.scheduler.beginnings import beside
from rewardhub.scheduler.device import Devices, Seat
from rewardhub.scheduler.exchange import PING_S, Heart, WorkerLost, exchange, fits
from rewardhub.scheduler.figures import Figures
from rewardhub.scheduler.messages import SILENT_S, Failed, InHand, Load, Loaded, ScoreBatch, Scored
from rewardhub.scheduler.model_info import info_of
from rewardhub.scheduler.model_job import ModelJob, families, message_of, rows_of, size_of
from rewardhub.scheduler.model_queue import ModelQueue, answering
from rewardhub.scheduler.model_scorer import ModelScorer
from rewardhub.scheduler.pictures import pictures_of
from rewardhub.scheduler.pool_job import unwritable
from rewardhub.scheduler.quarantine import Quarantine
from rewardhub.scorer import Context
from rewardhub.types import PASSING, Column, Group, Status

RUN_S = 600.0
SHORT_S = 5.0
"""When a response that there was no memory for may be sent again."""
BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 60.0
"""A worker that lived so long behind its load is no part of a row of failures, though it may have had no work."""


class LoadFailed(WorkerLost):
    """The worker could not load its model."""


class ModelLane:
    """Serves one card. ``queue_limit`` is in responses; ``load_s`` bounds one load, the start of a vLLM not counted,
    ``run_s`` one batch.
    """

    def __init__(
        self,
        card: Card,
        *,
        queue_limit: int = 4096,
        load_s: float = 600.0,
        run_s: float = RUN_S,
        figures: Figures | None = None,
        quarantine: Quarantine | None = None,
        devices: Devices | None = None,
    ) -> None:
        self.card = card
        self.info = info_of(card)
        self.fingerprint = ""
        self.stamp: tuple[str, ...] = ()
        self.failure = ""
        self.pid = 0
        self.queued = 0
        self.loaded = asyncio.Event()
        self.token_budget = card.token_budget
        self.attention = ""
        self.drift = 0.0
        self._awake = asyncio.Event()
        self._awake.set()
        self._leaving = False
        self._failures = 0
        self._loaded_at = math.inf
        self._heart = Heart()
        self._fitted = 0  # tokens of the largest response that this worker scored
        self._figures = figures or Figures()
        self._limit = queue_limit
        self._load_s, self._run_s = load_s, run_s
        self._quarantine = quarantine if quarantine is not None else Quarantine()
        self._devices = devices if devices is not None else Devices()
        self._waiting = ModelQueue(card.name, self._quarantine)
        self._ids = itertools.count(1)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(lasting(f"the lane of {self.card.name}", self._serve))

    async def aclose(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._waiting.refuse_all("the hub is shutting down")

    @property
    def asleep(self) -> bool:
        """Whether there is no worker until work comes or :meth:`wake` is called."""
        return not self._awake.is_set()

    def sleep(self) -> None:
        """Gives the model's memory back once the batch in hand is done; work that waits or comes later wakes it."""
        self._awake.clear()
        self._leaving = True

    def wake(self) -> None:
        """Loads the model anew if it sleeps."""
        self._awake.set()

    def reload(self, card: Card) -> None:
        """Serves another card in place of this one once the batch in hand is done; waiting work goes to it.

        Every score carries the fingerprint of the version that gave it. Raises ``ConfigError`` for a card
        of another name or scope.
        """
        if (card.name, card.scope) != (self.card.name, self.card.scope):
            raise ConfigError(f"{card.name} ({card.scope}) cannot take the place of {self.card.name}", field="card")
        self.card, self.info, self.token_budget = card, info_of(card), card.token_budget
        self._leaving = True

    def describe(self, card: Card) -> None:
        """Takes what ``card`` says otherwise than the lane's own, which changes nothing that is loaded."""
        self.card, self.info = card, info_of(card)

    async def score(self, group: Group, context: Context) -> Column:
        """Scores the group's responses; raises ``Unavailable`` when the queue is full, loading fails or it ended."""
        self._check_served()
        if self.queued and self.queued + len(group.responses) > self._limit:
            raise Unavailable(f"the queue of {self.card.name} is full", retry_after_s=2.0)
        if self.failure:
            raise Unavailable(f"{self.card.name} cannot be loaded: {self.failure}", retry_after_s=30.0)
        done: asyncio.Future[Column] = asyncio.get_running_loop().create_future()
        self.queued += len(group.responses)
        try:
            try:
                job = await beside(group, lambda: ModelJob(ModelScorer(self, self.info), group, context, done))
            except (ValueError, TypeError, RecursionError) as error:  # of what the responses share
                return Column.of([unwritable(error)] * len(group.responses), self.fingerprint)
            self._check_served()
            self.wake()
            self._waiting.put(job)
            column = await done
        finally:
            self.queued -= len(group.responses)
            done.cancel()
        return column if column.fingerprint else replace(column, fingerprint=self.fingerprint)

    def _check_served(self) -> None:
        if self._task is not None and self._task.done():
            raise Unavailable(f"this {self.card.name} is served no longer", retry_after_s=1.0)

    async def settled(self) -> None:
        """Waits until the model is loaded or its first load has failed."""
        while not self.loaded.is_set() and not self.failure:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.loaded.wait(), 0.05)

    async def _serve(self) -> None:
        """One life of the worker, once there is work for it."""
        if all(job.over for job in self._waiting):
            await self._awake.wait()
        self.wake()
        await asyncio.sleep(BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)])
        self._leaving = False
        try:
            await self._life()
        except LoadFailed as error:
            self.failure = str(error)
            self._failures += 1
            self.loaded.clear()
        except Exception as error:
            steady = time.monotonic() - self._loaded_at >= STEADY_S
            self._failures = 1 if steady else self._failures + 1
            self.loaded.clear()
            if not isinstance(error, WorkerLost):
                self.failure = f"{type(error).__name__} in the hub"
                raise

    async def _life(self) -> None:
        """One load of the model, from start to loss."""
        self._loaded_at = math.inf
        device = self._devices.of(self.card)
        try:
            seat = await device.join()
        except OSError as error:
            raise LoadFailed(f"no process for it: {error.strerror}") from None
        self.pid = device.pid
        try:
            await self._load(seat)
            while not self._leaving:
                await self._batch(seat)
        finally:
            self.pid = 0
            await seat.leave()

    async def _load(self, seat: Seat) -> None:
        try:
            self.stamp = await asyncio.to_thread(card_stamp, self.card)
            await seat.send(Load(self.card.model_dump_json().encode()))
            startup_s = self.card.vllm.startup_s if self.card.vllm else 0.0
            async with asyncio.timeout(self._load_s + startup_s):
                while isinstance(answer := await seat.receive_unless_stopped(SILENT_S), InHand):
                    pass
        except (OSError, TimeoutError) as error:
            await seat.lose()
            if seat.spared:
                raise WorkerLost("another model's work ended the process") from None
            raise LoadFailed(f"no answer while loading: {type(error).__name__}") from None
        if not isinstance(answer, Loaded):
            self._waiting.refuse_all(f"loading failed: {answer.reason}")
            raise LoadFailed(answer.reason)
        self.fingerprint, self.failure = answer.fingerprint, ""
        self.attention, self.drift = answer.attention, answer.drift
        self.token_budget = answer.token_budget or self.card.token_budget
        self._fitted = 0
        self._loaded_at = time.monotonic()
        self.loaded.set()

    async def _batch(self, seat: Seat) -> None:
        """Waits for work, sends one batch, hands out its answer; pings the idle worker meanwhile."""
        try:
            await asyncio.wait_for(self._waiting.wait(), PING_S)
        except TimeoutError:
            async with self._kept(seat):
                await self._heart.beat(seat, self._run_s)
            return
        if jobs := self._waiting.take(self.token_budget):
            with answering(jobs):
                await self._scored(seat, jobs)

    async def _scored(self, seat: Seat, jobs: Sequence[ModelJob]) -> None:
        together = families(jobs)
        jobs = [job for family in together for job in family]
        try:
            async with self._kept(seat, jobs):
                groups = [await beside(family[0].group, partial(message_of, family)) for family in together]
        except Exception as error:  # a value that no message holds costs its own response alone
            if len(jobs) == 1 and not jobs[0].divisible:
                jobs[0].answer(Column.of([unwritable(error)] * len(jobs[0].group.responses)))
            self._waiting.split(jobs, Failed(0, f"{type(error).__name__}: {error}"), self.token_budget)
            return
        started = time.monotonic()
        for job in jobs:
            self._figures.waited(self.card.name, started - job.since)
        async with self._kept(seat, jobs):
            batch, pictures = ScoreBatch(next(self._ids), groups), pictures_of(job.group for job in jobs)
            answer = await exchange(seat, batch, Scored | Failed, self._run_s, pictures)
        self._figures.ran(self.card.name, seat.took_s)
        self._failures = 0
        self._hand_out(together, answer)
        if isinstance(answer, Failed) and answer.memory and len(jobs) == 1 and not jobs[0].divisible:
            await self._short(seat, jobs[0], answer)

    @asynccontextmanager
    async def _kept(self, seat: Seat, jobs: Sequence[ModelJob] = ()) -> AsyncIterator[None]:
        """Puts back the jobs that the worker is lost on within, and kills it, or whose lane is closed within."""
        try:
            yield
        except WorkerLost:
            await seat.lose()
            self._waiting.lost(jobs, spared=seat.spared)
            raise
        except asyncio.CancelledError:
            self._waiting.lost(jobs, spared=True)
            raise

    def _hand_out(self, together: list[list[ModelJob]], answer: object) -> None:
        """Tells the jobs of families, each of which was sent as one group, what came of them."""
        jobs = [job for family in together for job in family]
        for job in jobs:
            if job.alone:
                self._quarantine.absolve(job.inputs[0])
        if isinstance(answer, Scored) and list(map(len, answer.columns)) != list(map(rows_of, together)):
            answer = Failed(answer.id, "the worker gave other rows than it was asked for")
        if isinstance(answer, Scored):
            size = size_of(together)
            self._figures.batch(self.card.name, answer.tokens or size, answer.padding)
            self._fitted = max(self._fitted, *(job.largest for job in jobs))
            scores = [row.score() for column in answer.columns for row in column]
            self._figures.truncated(self.card.name, sum(TRUNCATED in score.details for score in scores))
            rows = iter(scores)
            for job in jobs:
                job.answer(Column.of(list(islice(rows, len(job.group.responses))), self.fingerprint))
        elif isinstance(answer, Failed):
            self._waiting.split(jobs, answer, self.token_budget)

    async def _short(self, seat: Seat, job: ModelJob, failed: Failed) -> None:
        """Says whose fault it is that there is no memory for a job alone; a shortage of ours is never a number."""
        if job.size <= self._fitted:
            self._waiting.lost([job])
            raise WorkerLost("the worker has no memory for what it had memory for before")
        stated, proven = self.card.token_budget, False
        if job.size > stated and failed.never:
            async with self._kept(seat, [job]):
                proven = await fits(seat, stated, self._run_s)
        if proven:
            reason = f"{failed.reason}, while a batch of the card's {stated} tokens fits"
            job.fail(Status.OVER_LIMIT, reason, **{PASSING: True})
        else:
            reason = f"the device has no memory for about {job.size} tokens"
            job.fail(Status.UNAVAILABLE, reason, retry_after_s=SHORT_S)
