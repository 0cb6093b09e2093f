"""Rewards while other groups still generate: complete groups go out, scores come back on a thread."""

import queue
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

from rewardhub.errors import DeadlineExceeded, InternalError
from rewardhub.types import Call, Group, GroupScores, Rewards

GRACE_S = 10.0
"""How much longer than the call's deadline the trainer waits before it gives the rewards up."""


class Wait(NamedTuple):
    """The wait for rewards in milliseconds.

    ``hidden_ms`` passed with scores outstanding while other groups still generated; for ``exposed_ms``
    the trainer stood still.
    """

    hidden_ms: float
    exposed_ms: float


class RewardStream:
    """One step's stream of groups; a context manager, used from the generating thread.

    ``send`` never blocks. ``finish`` says that generation has ended, waits for the outstanding scores
    and raises what the rewards raised, ``InternalError`` where the stream ended before every group was
    answered or answered one that was not asked, and ``DeadlineExceeded`` where it does not end.
    """

    def __init__(self, rewards: Rewards, call: Call) -> None:
        self._queue: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
        self._sent: dict[str, float] = {}
        self._arrived: dict[str, float] = {}
        self._scores: dict[str, GroupScores] = {}
        self._error: BaseException | None = None
        self._call = call
        self._thread = threading.Thread(target=self._receive, args=(rewards,), name="rewards", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._queue.put(None)

    def send(self, group: Group) -> None:
        self._sent[group.id] = time.perf_counter()
        self._queue.put(group)

    def finish(self) -> tuple[dict[str, GroupScores], Wait]:
        """The scores by group id, and how long they were waited for."""
        ended = time.perf_counter()
        self._queue.put(None)
        self._thread.join(self._call.deadline_ms / 1000 + GRACE_S if self._call.deadline_ms else None)
        if self._thread.is_alive():
            raise DeadlineExceeded(f"no end of the reward stream {GRACE_S:g} s after its deadline")
        if self._error is not None:
            raise self._error
        if missing := self._sent.keys() - self._scores.keys():
            raise InternalError(f"the reward stream ended with {len(missing)} of {len(self._sent)} groups unanswered")
        intervals = [(sent, self._arrived[name]) for name, sent in self._sent.items()]
        exposed_ms = 1000 * (time.perf_counter() - ended)
        return self._scores, Wait(hidden_ms(intervals, ended), exposed_ms)

    def _receive(self, rewards: Rewards) -> None:
        try:
            for scores in rewards.stream(self._groups(), self._call):
                if scores.complete:
                    self._keep(scores)
        except BaseException as error:
            self._error = error

    def _keep(self, scores: GroupScores) -> None:
        if scores.id not in self._sent or scores.id in self._scores:
            raise InternalError(f"the reward stream answered group {scores.id!r}, which is not outstanding")
        self._arrived[scores.id] = time.perf_counter()
        self._scores[scores.id] = scores

    def _groups(self) -> Iterator[Group]:
        while (group := self._queue.get()) is not None:
            yield group


def hidden_ms(intervals: list[tuple[float, float]], ended: float) -> float:
    """Milliseconds before ``ended`` that the union of the (sent, arrived) intervals covers, in seconds both."""
    total, reached = 0.0, 0.0
    for start, stop in sorted(intervals):
        total += max(0.0, min(stop, ended) - max(start, reached))
        reached = max(reached, stop)
    return 1000 * total
