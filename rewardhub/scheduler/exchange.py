"""One question to a worker and its answer, for as long as there are signs of life.

What is found, and when: a process that is gone, at once; one that is stopped, or whose thread that scores waits for
something that does not come or computes something that does not end, within 5 s, at work or idle, since then no ping is
answered. How long a batch may be computed nobody knows beforehand: it may take minutes as long as the worker gets on
with it (:mod:`~rewardhub.scheduler.model_worker` says how it knows). Where one layer of a large model takes more than
0.4 s on a slow CPU, or one pass on a GPU, a hang is found after ten times as long. A worker that shows signs of getting
on and comes to no end is found after ``run_s``. Of a vLLM :mod:`~rewardhub.models.vllm_pulse` says whether it lives.
"""

import asyncio
import math
import time
from collections.abc import Iterable
from itertools import chain

from rewardhub.scheduler.device import Seat
from rewardhub.scheduler.messages import SILENT_S, Failed, Picture, Ping, Pong, Probe, ScoreBatch, Scored

PING_S = 0.5


class WorkerLost(Exception):
    """The process died, hung or broke the protocol."""


async def exchange(
    seat: Seat, message: Ping | Probe | ScoreBatch, kind: object, run_s: float, pictures: Iterable[Picture] = ()
) -> object:
    """Sends, and waits for an answer of ``kind``; raises ``WorkerLost`` where none will come."""
    try:
        for each in chain(pictures, (message,)):
            await seat.send(each)
        sent = heard = time.monotonic()
        receiving = asyncio.ensure_future(seat.receive())
        try:
            while True:
                done, _ = await asyncio.wait({receiving}, timeout=PING_S)
                if done:
                    answer = receiving.result()
                    if isinstance(answer, kind) and _answers(message, answer):  # type: ignore[arg-type]
                        return answer
                    heard = time.monotonic()
                    receiving = asyncio.ensure_future(seat.receive())
                elif time.monotonic() - heard > SILENT_S:
                    raise WorkerLost("the worker hangs")
                elif time.monotonic() - max(sent, seat.since) > run_s:
                    raise WorkerLost("the worker does not come to an end")
                else:
                    await asyncio.wait_for(seat.send(Ping()), SILENT_S)
        finally:
            receiving.cancel()
    except (OSError, TimeoutError) as error:
        raise WorkerLost(f"the worker is gone: {type(error).__name__}") from None


def _answers(message: Ping | Probe | ScoreBatch, answer: object) -> bool:
    """Whether an answer is this message's, and not that of one which was given up."""
    return not isinstance(message, ScoreBatch) or getattr(answer, "id", None) == message.id


async def fits(seat: Seat, tokens: int, run_s: float) -> bool:
    """Whether the model has memory for one row of so many tokens at this moment; False where it cannot be tried."""
    answer = await exchange(seat, Probe(tokens), Scored | Failed, run_s)
    return isinstance(answer, Scored) and answer.tokens >= tokens


class Heart:
    """The heartbeat of an idle worker: a real score of one token, by the thread that scores, once in ``BEAT_S``.

    A model that is slow at it does it for a twentieth of the time at most. Between, and while a neighbour's work
    shows that the thread lives, there are pings.
    """

    BEAT_S = 1.0
    MOST = 0.05

    def __init__(self) -> None:
        self._next = 0.0

    async def beat(self, seat: Seat, run_s: float) -> None:
        """Raises ``WorkerLost`` where the worker hangs, or scores no more."""
        if time.monotonic() < self._next or seat.since == math.inf:
            await exchange(seat, Ping(), Pong, run_s)
            return
        answer = await exchange(seat, Probe(1), Scored | Failed, run_s)
        self._next = time.monotonic() + max(self.BEAT_S, seat.took_s / self.MOST)
        if isinstance(answer, Failed) and not answer.memory:
            raise WorkerLost(f"the heartbeat fails: {answer.reason}")
