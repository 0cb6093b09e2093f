"""Threads that each wait for one sandboxed program; who is next is decided as on the other lanes.

A thread cannot be called off: a program whose caller went away keeps its slot, and its tenant's, until it ends, or
the process does, which takes its programs along. What waits is dropped with its caller.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rewardhub.errors import Unavailable
from rewardhub.scheduler.fair_queue import FairQueue
from rewardhub.scheduler.figures import Figures
from rewardhub.scheduler.mean_times import MeanTimes
from rewardhub.scheduler.tenant_slots import TenantSlots
from rewardhub.threads import Threads

EXPECTED_S = 0.05
"""What a program is expected to take that never ran."""


@dataclass(eq=False)
class _Program:
    """``work`` runs it and waits for it; ``kind`` is what its time is known by; it ``came`` and runs ``since`` then."""

    work: Callable[[], Any]
    kind: str
    tenant: str
    done: asyncio.Future[Any]
    came: float = field(default_factory=time.monotonic)
    since: float | None = None
    counted: bool = True


class ProgramLane:
    """Runs at most ``slots`` programs at once (0: one per core), and takes ``queue_per_slot`` times as many."""

    def __init__(self, slots: int = 0, queue_per_slot: int = 1_024, figures: Figures | None = None) -> None:
        self._figures = figures or Figures()
        self._slots = slots or len(os.sched_getaffinity(0))
        self._most = queue_per_slot * self._slots
        self._threads = Threads(self._slots, "programs")
        self._queue: FairQueue[_Program] = FairQueue(lambda program: not program.counted)
        self._times = MeanTimes(EXPECTED_S)
        self._running = 0
        self.count = 0
        """Programs that wait or run."""
        self.tenants = TenantSlots()
        self._empty = asyncio.Event()

    async def run(
        self, works: Sequence[Callable[[], Any]], kind: str, tenant: str = "", priority: str = "online"
    ) -> list[Any]:
        """What each of ``works`` returns, in their order; the first error of one is raised.

        Raises ``Unavailable`` where the queue does not take them, ``QuotaExceeded`` where the tenant has no slot left.
        """
        if not self._slots:
            raise Unavailable("the sandbox has ended", retry_after_s=5.0)
        if self.count + len(works) > self._most:
            raise Unavailable("the sandbox queue is full", retry_after_s=5.0)
        self.tenants.enter(tenant, len(works))
        self.count += len(works)
        loop = asyncio.get_running_loop()
        programs = [_Program(work, kind, tenant, loop.create_future()) for work in works]
        for program in programs:
            self._queue.put(program, priority=priority, tenant=tenant, cost=self._times[kind])
        self._fill()
        try:
            return await asyncio.gather(*(program.done for program in programs))
        finally:
            for program in programs:
                program.done.cancel()
                if program.since is None:
                    self._leave(program)

    async def finish(self) -> None:
        """Waits until no program waits or runs."""
        while self.count:
            self._empty.clear()
            await self._empty.wait()

    def close(self) -> None:
        """Begins no more programs; who waits for one to begin is told."""
        self._slots = 0
        while (program := self._queue.pop()) is not None:
            if not program.done.done():
                program.done.set_exception(Unavailable("the sandbox has ended", retry_after_s=5.0))
        self._threads.close()

    def _fill(self) -> None:
        """Begins programs while slots are free."""
        while self._running < self._slots and (program := self._queue.pop()) is not None:
            if program.counted:
                self._running += 1
                program.since = time.monotonic()
                self._figures.waited("sandbox", program.since - program.came)
                self._threads.run(program.work).add_done_callback(partial(self._ended, program))

    def _ended(self, program: _Program, outcome: asyncio.Future[Any]) -> None:
        self._running -= 1
        self._leave(program)
        error = None if outcome.cancelled() else outcome.exception()
        if not program.done.done() and not outcome.cancelled():
            program.done.set_exception(error) if error else program.done.set_result(outcome.result())
        self._fill()
        if program.since is not None:
            took_s = time.monotonic() - program.since
            self._times.learn(program.kind, took_s)
            self._figures.ran("sandbox", took_s)

    def _leave(self, program: _Program) -> None:
        if program.counted:
            program.counted = False
            self.count -= 1
            if not self.count:
                self._empty.set()
            self.tenants.leave(program.tenant)
