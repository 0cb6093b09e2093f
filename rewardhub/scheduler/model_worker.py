"""The process of one reward model: loads it from a card, then scores batches until the hub hangs up.

A thread answers pings while the main thread computes, so that a stopped process is found and a busy one
is left alone. When the hub is gone it ends the process, whatever is being computed.
"""

import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable

from rewardhub.models import load
from rewardhub.models.card import Card
from rewardhub.models.memory import give_back_memory, keep_freed_memory
from rewardhub.models.model import RewardModel
from rewardhub.scheduler.messages import Failed, Load, Loaded, Message, Ping, Pong, ScoreBatch, Scored, receive, send
from rewardhub.v1 import types_pb2 as pb
from rewardhub.wire.proto import group_from_proto


def serve(sock: socket.socket) -> None:
    """Answers one ``Load``, then ``ScoreBatch`` after ``ScoreBatch``."""
    lock = threading.Lock()

    def reply(message: Message) -> None:
        with lock:
            send(sock, message)

    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sock, inbox, reply), daemon=True).start()
    model: RewardModel | None = None
    while True:
        message = inbox.get()
        if isinstance(message, Load):
            model = _load(message, reply)
        elif isinstance(message, ScoreBatch) and model is not None:
            answer = _score(message, model)
            if isinstance(answer, Failed) and answer.memory:
                give_back_memory()
            reply(answer)


def _listen(sock: socket.socket, inbox: "queue.SimpleQueue[Message]", reply: Callable[[Message], None]) -> None:
    try:
        while (message := receive(sock)) is not None:
            if isinstance(message, Ping):
                reply(Pong())
            else:
                inbox.put(message)
    finally:
        os._exit(0)


def _load(message: Load, reply: Callable[[Message], None]) -> RewardModel | None:
    started = time.monotonic()
    try:
        model = load(Card.model_validate_json(message.card))
    except Exception as error:
        reply(Failed(0, f"{type(error).__name__}: {error}", memory=isinstance(error, MemoryError)))
        return None
    runner = getattr(model, "runner", None)
    told = (runner.token_budget, runner.attention, runner.drift) if runner else (0, "", 0.0)
    reply(Loaded(model.fingerprint, time.monotonic() - started, *told))
    return model


def _score(message: ScoreBatch, model: RewardModel) -> Message:
    tokens, padding = _counted(model)
    try:
        groups = [group_from_proto(pb.Group.FromString(each)) for each in message.groups]
        columns = model.score(groups)
        more, padded = _counted(model)
        return Scored.of(message.id, columns, more - tokens, padded - padding)
    except MemoryError as error:
        return Failed(message.id, str(error), memory=True)
    except Exception as error:
        return Failed(message.id, f"{type(error).__name__}: {error}")


def _counted(model: RewardModel) -> tuple[int, int]:
    """Tokens that went through the layers so far, and how many of them were padding."""
    runner = getattr(model, "runner", None)
    return (runner.tokens, runner.padding) if runner else (0, 0)


if __name__ == "__main__":
    keep_freed_memory()
    serve(socket.socket(fileno=int(sys.argv[1])))
