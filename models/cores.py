"""How many threads a batch is computed with: as many as there are cores to be had.

Between two operations threads wait busily for one another for a moment, which spares their being woken. Where
others use the cores, a thread waits so for one that is not running, and a batch takes longer than with a
single thread. So what a batch got is watched.
"""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SHARE = 0.7
"""Processor time of batches, per thread and second, below which cores were missing: with less, one thread is faster."""

PREEMPTED_HZ = 80.0
"""Threads of a process that is left alone are taken off their cores less often than this."""

WATCHED_S = 0.5
"""Seconds of work behind a conclusion: a burst of others' work, as when many calls arrive at once, is soon over."""

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 30.0


class Cores:
    """Sets torch's threads of this process, from as many as it had at first down to one."""

    def __init__(self) -> None:
        self.most = torch.get_num_threads()
        self._again = 0.0
        self._pause = FIRST_RETRY_S
        self._seconds = self._processor_s = 0.0
        self._preemptions = 0

    @contextmanager
    def batch(self, *, steady: bool = False) -> Iterator[None]:
        """Watches one batch; the next ones get the threads that it got cores for, until all are tried again.

        A ``steady`` one has all threads in any case: how many there are changes the order of sums, and so last bits.
        """
        before = torch.get_num_threads()
        if before < self.most and (steady or time.monotonic() >= self._again):
            torch.set_num_threads(self.most)
        if steady:
            yield
            torch.set_num_threads(before)
            return
        start, used, taken = time.monotonic(), time.process_time(), _preemptions()
        yield
        self.watched(time.monotonic() - start, time.process_time() - used, _preemptions() - taken)

    def watched(self, seconds: float, processor_s: float, preemptions: int) -> None:
        """Adds a batch of so many seconds, processor seconds and preemptions; concludes when they are enough."""
        threads = torch.get_num_threads()
        if threads == 1:
            return
        self._seconds += seconds
        self._processor_s += processor_s
        self._preemptions += preemptions
        if self._seconds < WATCHED_S:
            return
        cores = self._processor_s / self._seconds
        if cores >= SHARE * threads or self._preemptions < PREEMPTED_HZ * self._seconds:
            self._pause = FIRST_RETRY_S
        else:
            torch.set_num_threads(max(1, int(cores)))
            self._again = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LAST_RETRY_S)
        self._seconds = self._processor_s = 0.0
        self._preemptions = 0


def _preemptions() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
