"""The process of a device's reward models: loads them from their cards, then scores their batches in turn.

A thread answers pings as long as the main thread has nothing to do or the process computes, so that one that is
stopped, or waits for what never comes, is found and a busy one is left alone. When the hub is gone it ends the
process, whatever is being computed. Another reads a model's files before it is loaded, so that its neighbours wait
less.
"""

import os
import queue
import socket
import sys
import threading
import time
from contextlib import suppress

from rewardhub.models import load
from rewardhub.models.budget import blank
from rewardhub.models.card import Card
from rewardhub.models.cores import Cores
from rewardhub.models.digest import tree_digest
from rewardhub.models.memory import give_back_memory, keep_freed_memory, memory_errors
from rewardhub.models.model import RewardModel
from rewardhub.models.runner import Runner
from rewardhub.scheduler.messages import (
    Failed,
    InHand,
    Load,
    Loaded,
    Message,
    Ping,
    Pong,
    Probe,
    ScoreBatch,
    Scored,
    Unload,
    receive,
    send,
)
from rewardhub.v1 import types_pb2 as pb
from rewardhub.wire.proto import group_from_proto

STILL_S, WORK_S = 0.25, 0.001
"""A process that computes has a millisecond of processor time in a quarter of a second, even on a crowded machine."""


class Worker:
    """Answers ``Load`` and ``ScoreBatch``, in the order in which they are ready, until the hub hangs up."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._coming: queue.SimpleQueue[Load] = queue.SimpleQueue()
        self._models: dict[int, RewardModel] = {}
        self._left: set[int] = set()
        self._cores = Cores()
        self._computes = False
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
            elif isinstance(message, ScoreBatch | Probe) and message.seat in self._models:
                self._reply(InHand(message.seat))
                answer = self._work(message)
                if isinstance(answer, Failed) and answer.memory:
                    give_back_memory()
                self._reply(answer)

    def _work(self, message: ScoreBatch | Probe) -> Message:
        model = self._models[message.seat]
        cards = [model.card, *(member.card for member in getattr(model, "members", ()))]
        self._moved, self._computes = time.monotonic(), _runner(model) is not None
        try:
            if isinstance(message, Probe):
                return _probe(message, model)
            with self._cores.batch(steady=any(card.reproducible for card in cards)):
                return _score(message, model)
        finally:
            self._computes = False

    def _hangs(self) -> bool:
        """Whether a model that runs in this process has had no processor time for ``STILL_S``."""
        used, now = time.process_time() - time.thread_time(), time.monotonic()
        if used - self._used >= WORK_S:
            self._used, self._moved = used, now
        return self._computes and now - self._moved >= STILL_S

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
            if not getattr(model, "alive", True):
                _close(model)
                raise SystemExit

    def _prepare(self) -> None:
        """Reads the files once, for the digest: the load that follows finds them in memory."""
        while True:
            message = self._coming.get()
            try:
                path = Card.model_validate_json(message.card).path
                if path is not None:
                    tree_digest(path)
            except (OSError, ValueError, MemoryError):
                pass  # the load says what is wrong
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
            with memory_errors():
                self._measure()
        except Exception as error:
            failed = Failed(0, f"{type(error).__name__}: {error}", isinstance(error, MemoryError), message.seat)
            _close(model)
            del error, model
            give_back_memory()
            with suppress(MemoryError), memory_errors():
                self._measure()
            self._reply(failed)
            return
        self._models[message.seat] = model
        loaded = Loaded(fingerprint, time.monotonic() - started, seat=message.seat)
        if runner := _runner(model):
            loaded.token_budget, loaded.attention = runner.token_budget, runner.attention
            loaded.drift = runner.drift
        self._reply(loaded)

    def _unload(self, seat: int) -> None:
        self._left.add(seat)
        model = self._models.pop(seat, None)
        _close(model)
        del model
        give_back_memory()
        self._measure()

    def _measure(self) -> None:
        """What the batches of the models that are there may hold, now that more or less of the memory is free."""
        for model in self._models.values():
            if (runner := _runner(model)) is not None:
                runner.measure()


def _probe(message: Probe, model: RewardModel) -> Message:
    """Tries one row of so many tokens, or as many as the model takes, where it runs in this process."""
    if (runner := _runner(model)) is None:
        return Scored(0, [], seat=message.seat)
    tokens = min(message.tokens, runner.backbone.max_length)
    try:
        with memory_errors():
            runner.states([blank(tokens)], [[0]], [(tokens - 1,)])
    except Exception as error:
        return Failed(0, f"{type(error).__name__}: {error}", isinstance(error, MemoryError), message.seat)
    return Scored(0, [], tokens, seat=message.seat)


def _score(message: ScoreBatch, model: RewardModel) -> Message:
    tokens, padding = _counted(model)
    try:
        groups = [group_from_proto(pb.Group.FromString(each)) for each in message.groups]
        columns = model.score(groups)
        more, padded = _counted(model)
        return Scored.of(message.id, columns, more - tokens, padded - padding, message.seat)
    except MemoryError as error:
        return Failed(message.id, str(error), memory=True, seat=message.seat)
    except Exception as error:
        return Failed(message.id, f"{type(error).__name__}: {error}", seat=message.seat)


def _close(model: RewardModel | None) -> None:
    """Ends the processes that a model started, if it has any."""
    if close := getattr(model, "close", None):
        close()


def _counted(model: RewardModel) -> tuple[int, int]:
    """Tokens that went through the layers so far, and how many of them were padding."""
    runner = _runner(model)
    return (runner.tokens, runner.padding) if runner else (0, 0)


def _runner(model: RewardModel) -> Runner | None:
    """What runs the model's rows in this process, if anything does."""
    return getattr(model, "runner", None)


if __name__ == "__main__":
    keep_freed_memory()
    try:
        Worker(socket.socket(fileno=int(sys.argv[1]))).serve()
    except SystemExit as error:
        # Threads that wait for a server's answers do not hold the end up.
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
