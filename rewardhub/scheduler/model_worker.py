"""The process of a device's reward models: loads them from their cards, then scores their batches in turn.

A thread answers pings as long as the main thread has nothing to do or gets on, so that a process that is stopped, waits
for what never comes or computes what never ends is found, and one that computes for long is left alone. The main thread
gets on where the process has processor time and the signs of :mod:`~rewardhub.models.progress` come as often as they
did: each within ten times the longest that was measured, and within ``SILENT_S`` anyway. What a model's passes take is
measured when it is loaded, then with every batch. When the hub is gone the thread ends the process, whatever is being
computed. Another reads a model's files before it is loaded, so that its neighbours wait less.
"""

import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from rewardhub import logs
from rewardhub.models import load
from rewardhub.models.card import Card
from rewardhub.models.cores import Cores
from rewardhub.models.digest import tree_digest
from rewardhub.models.memory import NeverFits, give_back_memory, keep_freed_memory, memory_errors
from rewardhub.models.model import RewardModel
from rewardhub.models.progress import Pace, progress
from rewardhub.scheduler.messages import (
    SILENT_S,
    Failed,
    InHand,
    Load,
    Loaded,
    Message,
    Picture,
    Ping,
    Pong,
    Probe,
    ScoreBatch,
    Scored,
    Unload,
    receive,
    send,
)
from rewardhub.scheduler.pictures import with_pictures
from rewardhub.types import Group
from rewardhub.v1 import types_pb2 as pb
from rewardhub.wire.proto import group_from_proto

STILL_S, WORK_S = 0.25, 0.001
"""A process that computes has a millisecond of processor time in a quarter of a second, even on a crowded machine."""
PASSES, LONG_S = (1, 64, 512, 2048, 8192), 0.1
"""Tokens of the rows whose passes are measured at load, until one takes longer than ``LONG_S``."""


class Worker:
    """Answers ``Load`` and ``ScoreBatch``, in the order in which they are ready, until the hub hangs up."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._coming: queue.SimpleQueue[Load] = queue.SimpleQueue()
        self._models: dict[int, RewardModel] = {}
        self._pictures: dict[int, dict[str, bytes]] = {}
        self._left: set[int] = set()
        self._cores = Cores()
        self._paces: dict[int, Pace] = {}
        self._used = self._moved = 0.0

    def serve(self) -> None:
        for task in (self._listen, self._prepare):
            threading.Thread(target=task, daemon=True).start()
        while True:
            message = self._inbox.get()
            if isinstance(message, Unload):
                self._unload(message.seat)
            elif isinstance(message, Load):
                self._load(message)
            elif isinstance(message, Picture) and message.seat in self._models:
                self._pictures.setdefault(message.seat, {})[message.sha256] = message.data
            elif isinstance(message, ScoreBatch | Probe) and message.seat in self._models:
                self._reply(InHand(message.seat))
                answer = self._work(message)
                if isinstance(answer, Failed) and answer.memory:
                    give_back_memory()
                self._reply(answer)

    def _work(self, message: ScoreBatch | Probe) -> Message:
        model = self._models[message.seat]
        pace = self._paces[message.seat]
        if isinstance(message, Probe):
            return _probe(message, model, pace)
        pictures = self._pictures.pop(message.seat, {})
        alone = any(runner.attention == "alone" for runner in model.runners)
        with self._cores.batch(steady=alone or any(card.reproducible for card in model.cards)):
            return _score(message, pictures, model, pace)

    def _hangs(self) -> bool:
        """Whether work in this process has had no processor time for ``STILL_S``, or gives no sign any more."""
        used, now = time.process_time() - time.thread_time(), time.monotonic()
        if used - self._used >= WORK_S or not progress.expected:
            self._used, self._moved = used, now
        still = now - self._moved >= STILL_S
        # The lane waits for another ``SILENT_S`` in either case.
        return still or progress.silent_s >= max(STILL_S, progress.patience_s - SILENT_S)

    def _reply(self, message: Message) -> None:
        with self._lock:
            send(self._sock, message)

    def _listen(self) -> None:
        try:
            while (message := receive(self._sock)) is not None:
                if isinstance(message, Ping):
                    self._end_with_servers()
                    if not self._hangs():
                        self._reply(Pong(message.seat))
                elif isinstance(message, Load):
                    self._coming.put(message)
                else:
                    self._inbox.put(message)
        finally:
            os._exit(0)

    def _end_with_servers(self) -> None:
        """Ends this process where a vLLM that it started has ended or is stopped: the lane starts both anew."""
        for model in [*self._models.values()]:
            if not model.alive:
                model.close()
                raise SystemExit

    def _prepare(self) -> None:
        """Reads the files once, for the digest: the load that follows finds them in memory."""
        while True:
            message = self._coming.get()
            with suppress(Exception):  # the load says what is wrong
                path = Card.model_validate_json(message.card).path
                if path is not None:
                    tree_digest(path)
            self._inbox.put(message)

    def _load(self, message: Load) -> None:
        if message.seat in self._left:
            return
        started = time.monotonic()
        self._reply(InHand(message.seat))
        model: RewardModel | None = None
        try:
            model = load(Card.model_validate_json(message.card))
            fingerprint = model.fingerprint
            pace = _paced(model)
            with memory_errors():
                self._measure()
        except Exception as error:
            failed = Failed(0, f"{type(error).__name__}: {error}", isinstance(error, MemoryError), message.seat)
            if model is not None:
                model.close()
            del error, model
            give_back_memory()
            with suppress(MemoryError), memory_errors():
                self._measure()
            self._reply(failed)
            return
        self._models[message.seat], self._paces[message.seat] = model, pace
        loaded = Loaded(fingerprint, time.monotonic() - started, seat=message.seat)
        if runners := model.runners:
            loaded.token_budget = min(runner.token_budget for runner in runners)
            loaded.attention = ", ".join(sorted({runner.attention for runner in runners}))
            loaded.drift = max(runner.drift for runner in runners)
        self._reply(loaded)

    def _unload(self, seat: int) -> None:
        self._left.add(seat)
        model = self._models.pop(seat, None)
        for each in (self._paces, self._pictures):
            each.pop(seat, None)
        if model is not None:
            model.close()
        del model
        give_back_memory()
        self._measure()

    def _measure(self) -> None:
        """What the batches of the models that are there may hold, now that more or less of the memory is free."""
        for model in self._models.values():
            for runner in model.runners:
                runner.measure()


def _paced(model: RewardModel) -> Pace:
    """What a model's passes take; raises whatever keeps it from scoring, but for a shortage of memory."""
    pace = Pace()
    most = min((runner.token_budget for runner in model.runners), default=max(PASSES))
    with suppress(MemoryError):
        for tokens in PASSES:
            started = time.monotonic()
            with progress.work(pace):
                read = model.probe(tokens)
            if read < tokens or time.monotonic() - started > LONG_S or tokens >= most:
                break
    return pace


def _probe(message: Probe, model: RewardModel, pace: Pace) -> Message:
    """Scores one row of so many tokens of nothing, or as many as the model takes."""
    try:
        with progress.work(pace):
            return Scored(0, [], model.probe(message.tokens), seat=message.seat)
    except Exception as error:
        return Failed(0, f"{type(error).__name__}: {error}", isinstance(error, MemoryError), message.seat)


def _score(message: ScoreBatch, pictures: Mapping[str, bytes], model: RewardModel, pace: Pace) -> Message:
    tokens, padding = _counted(model)
    try:
        with progress.work(pace):
            columns = model.score([_read(each, pictures) for each in message.groups])
        more, padded = _counted(model)
        return Scored.of(message.id, columns, more - tokens, padded - padding, message.seat)
    except MemoryError as error:
        never = isinstance(error, NeverFits)
        return Failed(message.id, str(error), memory=True, seat=message.seat, never=never)
    except Exception as error:
        return Failed(message.id, f"{type(error).__name__}: {error}", seat=message.seat)


def _read(group: bytes, pictures: Mapping[str, bytes]) -> Group:
    progress.step()
    return with_pictures(group_from_proto(pb.Group.FromString(group)), pictures)


def _counted(model: RewardModel) -> tuple[int, int]:
    """Tokens that went through the layers so far, and how many of them were padding."""
    return sum(runner.tokens for runner in model.runners), sum(runner.padding for runner in model.runners)


if __name__ == "__main__":
    keep_freed_memory()
    progress.watch_modules()
    logs.configure()
    logs.take_hooks(last=True)
    try:
        Worker(socket.socket(fileno=int(sys.argv[1]))).serve()
    except SystemExit as error:
        # Threads that wait for a server's answers do not hold the end up.
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
