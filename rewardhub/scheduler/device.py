"""The worker process of one device, in which the models of several lanes sit side by side.

One process per device, and not one per model with a share of its memory: a CUDA context is paid once, and since the
models score their batches in turn, each batch may fill all the memory that is free, where shares would have to be
set by hand and leave the most part of it unused at any time. What it costs is that a process that dies takes its
neighbours' models along: they are loaded anew, their batches tried again, and only the work that the process
had in hand is blamed for its end. A model that loads holds its neighbours up, since torch's settings belong to the
whole process; its files are read beforehand, while they still score. A card served by vLLM has a process of its own,
which only waits for answers.
"""

import asyncio
import itertools
import logging
import math
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from rewardhub.models.card import Card
from rewardhub.process_state import process_state
from rewardhub.scheduler.messages import (
    Channel,
    Failed,
    InHand,
    Load,
    Loaded,
    Message,
    Picture,
    Ping,
    Probe,
    ScoreBatch,
    Scored,
    Unload,
)

_log = logging.getLogger("rewardhub.scheduler")
LOOK_S = 0.5
SETTINGS = {"GOMP_SPINCOUNT": "20000", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Threads of a worker wait busily for as long as small operations take, not for as long as they would by default; see
``rewardhub.models.cores``. Weights and states lie in huge pages where the kernel has them: finding small ones takes
a part of every product on a CPU."""

GPU_DRIVER = Path("/dev/nvidiactl")


class Seat:
    """The place of one lane's model in the worker process: what it sends and is sent.

    ``began`` is when the worker took its load or batch in hand, infinite while it has none. ``spared`` says of a
    seat that is gone that nothing of its own brought the process down.
    """

    def __init__(self, device: "Device", number: int) -> None:
        self.number = number
        self.began = math.inf
        self.took_s = 0.0
        self.spared = False
        self._device = device
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()

    @property
    def since(self) -> float:
        """When the worker began with this seat's work, or last ended a neighbour's; infinite while that is in hand."""
        return self.began if self.began < math.inf else self._device.free_since

    async def send(self, message: Load | Picture | ScoreBatch | Probe | Ping) -> None:
        """Raises ``ConnectionError`` where the process is gone."""
        message.seat = self.number
        await self._device.send(self, message)

    async def receive(self) -> Any:
        """The next message; raises ``ConnectionError`` where the process is gone."""
        message = await self._inbox.get()
        if message is None:
            self._inbox.put_nowait(None)
            raise ConnectionError("the worker is gone")
        return message

    async def receive_unless_stopped(self, most_s: float) -> Any:
        """The next message of a process that may be too busy to answer pings, as when it loads.

        Raises ``ConnectionError`` where it is gone, ``TimeoutError`` where a signal has stopped it for ``most_s``.
        """
        receiving = asyncio.ensure_future(self.receive())
        ran = time.monotonic()
        try:
            while not (await asyncio.wait({receiving}, timeout=LOOK_S))[0]:
                ran = ran if self._device.stopped else time.monotonic()
                if time.monotonic() - ran >= most_s:
                    raise TimeoutError("the process is stopped")
            return receiving.result()
        finally:
            receiving.cancel()

    def deliver(self, message: Message | None) -> None:
        """A message of the worker, or None for its end."""
        if isinstance(message, InHand):
            self.began = time.monotonic()
        elif isinstance(message, Loaded | Scored | Failed):
            self._device.ended = time.monotonic()
            self.took_s, self.began = self._device.ended - self.began, math.inf
        self._inbox.put_nowait(message)

    async def leave(self) -> None:
        """Gives the model's memory back; the last one ends the process."""
        await self._device.leave(self)

    async def lose(self) -> None:
        """Kills the process for all of its seats, if it has not ended yet."""
        await self._device.leave(self, lost=True)


class Device:
    """Starts the process for the first seat and ends it behind the last one."""

    def __init__(self) -> None:
        self.pid = 0
        self.ended = 0.0
        self._turn = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._seats: dict[int, Seat] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def free_since(self) -> float:
        """When the process ended what it had last in hand; infinite while it has anything."""
        return math.inf if any(seat.began < math.inf for seat in self._seats.values()) else self.ended

    @property
    def stopped(self) -> bool:
        """Whether a signal has stopped the process."""
        return self._process is not None and process_state(self._process.pid).code == "T"

    async def join(self) -> Seat:
        """A seat in the process; raises ``OSError`` where the machine has none to give."""
        async with self._turn:
            if self._process is None:
                await self._start()
            seat = Seat(self, next(self._numbers))
            self._seats[seat.number] = seat
            return seat

    async def send(self, seat: Seat, message: Message) -> None:
        if self._channel is None or seat.number not in self._seats:
            raise ConnectionError("the worker is gone")
        await self._channel.send(message)

    async def leave(self, seat: Seat, *, lost: bool = False) -> None:
        async with self._turn:
            if seat.number not in self._seats or self._channel is None:
                return
            if lost or len(self._seats) == 1:
                await self._end()
                return
            del self._seats[seat.number]
            try:
                await self._channel.send(Unload(seat.number))
            except OSError:
                await self._end()

    async def _start(self) -> None:
        process, ours = await _spawned()
        try:
            channel = await Channel.open(ours)
        except BaseException:
            ours.close()
            process.kill()
            await process.wait()
            raise
        self._process, self._channel, self.pid = process, channel, process.pid
        self._reader = asyncio.create_task(self._read(channel))

    async def _read(self, channel: Channel) -> None:
        """Hands messages to their seats until the process is gone."""
        try:
            while True:
                message = await channel.receive()
                if seat := self._seats.get(message.seat):
                    seat.deliver(message)
        except OSError:
            pass
        except Exception:
            _log.exception("a message of a model's worker could not be read")
        async with self._turn:
            if self._channel is channel:
                await self._end()

    async def _end(self) -> None:
        """Kills the process; blamed are the seats whose work it had in hand, or all where it had none."""
        assert self._process is not None
        assert self._channel is not None
        stopped = self.stopped
        at_work = any(seat.began < math.inf for seat in self._seats.values())
        for seat in self._seats.values():
            seat.spared = stopped or (at_work and seat.began == math.inf)
            seat.deliver(None)
        self._seats.clear()
        process, channel, reader = self._process, self._channel, self._reader
        self._process = self._channel = self._reader = None
        self.pid = 0
        channel.close()
        if process.returncode is None:
            process.kill()
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
        await process.wait()


async def _spawned() -> tuple[asyncio.subprocess.Process, socket.socket]:
    """A worker process and our end of its socket; raises ``OSError`` where the machine has none to give."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-P", "-m", "rewardhub.scheduler.model_worker", str(theirs.fileno())]
        keep, environ = [theirs.fileno()], SETTINGS | os.environ
        try:
            return await asyncio.create_subprocess_exec(*command, pass_fds=keep, env=environ), ours
        except BaseException:
            ours.close()
            raise


class Devices:
    """The devices of one hub."""

    def __init__(self) -> None:
        self._known: dict[str, Device] = {}

    def of(self, card: Card) -> Device:
        """Where the card's model runs."""
        return self._known.setdefault(_key(card), Device())


def _key(card: Card) -> str:
    if card.backend == "vllm":
        return f"vllm {card.name}"
    if card.device == "auto":
        return "cuda:0" if GPU_DRIVER.exists() else "cpu"
    return "cuda:0" if card.device == "cuda" else card.device
