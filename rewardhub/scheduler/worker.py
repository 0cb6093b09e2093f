"""The loop of a verifier worker: one task at a time, one answer per response as soon as it is known."""

import math
import os
import resource
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rewardhub.raised import failure
from rewardhub.registry import Registry
from rewardhub.scheduler.ambient import Ambient
from rewardhub.scheduler.messages import Beginning, Begun, HandedBack, PoolTask, Row, encode, receive, send
from rewardhub.scorer import BoundVerifier, LocalBound
from rewardhub.types import Column, Group, Score, Status
from rewardhub.v1 import types_pb2 as pb
from rewardhub.wire.lines import loads
from rewardhub.wire.proto import group_from_proto

KEPT = 1_024
"""Scorers that a worker keeps bound, for callers choose their parameters."""
SLICE_S = 0.05
"""A task that holds the worker for so long hands its rest back."""


def serve(sock: socket.socket, registry: Registry) -> None:
    """Answers tasks until the hub hangs up, or one left threads behind, or they filled half of its memory: others would
    lack the time or the room.

    A process that a verifier forks has no word with the hub, though it comes back from the verifier.
    """
    os.register_at_fork(after_in_child=sock.close)
    ambient, threads, most = Ambient(), threading.active_count(), _half_way()
    bound: dict[tuple[str, bytes], LocalBound | None] = {}
    long = Beginning(0, b"")
    read: Group | None = None
    while threading.active_count() <= threads and _held() < most:
        task = receive(sock)
        if not isinstance(task, PoolTask | Beginning):
            return
        if isinstance(task, Beginning):
            long, read = task, None
            continue
        send(sock, Begun(task.id))
        key = (task.scorer, task.params)
        try:
            if key not in bound:
                if len(bound) >= KEPT:
                    bound.clear()
                bound[key] = _bind(task, registry)
            group = group_from_proto(pb.Group.FromString(task.group))
            if task.beginning:
                if read is None:
                    read = group_from_proto(pb.Group.FromString(long.group))
                    send(sock, Begun(task.id))
                group = replace(read, responses=group.responses)
        except Exception as error:
            refuse(sock, task, failure(error))
            continue
        scorer = bound[key]
        if scorer is None or scorer.fingerprint != task.fingerprint:
            # It was exchanged since the call began, and no other version of it scores.
            reason = f"{task.scorer} was exchanged"
            refuse(sock, task, Score(None, Status.UNAVAILABLE, details={"reason": reason}))
        else:
            answer(sock, task, scorer, group, ambient)


def _held() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()


def _half_way() -> float:
    """How much it may hold before it is half way from now to its limit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else (_held() + limit) / 2


def _bind(task: PoolTask, registry: Registry) -> LocalBound | None:
    """The scorer of the task; None where this worker does not have it."""
    if task.scorer not in registry:
        return None
    scorer = registry.get(task.scorer).bind(loads(task.params))
    if not isinstance(scorer, LocalBound):
        raise TypeError(f"{task.scorer} does not run on the pool")
    return scorer


def refuse(sock: socket.socket, task: PoolTask, score: Score) -> None:
    """The same answer for every row."""
    for row in range(len(pb.Group.FromString(task.group).responses)):
        send(sock, Row.of(task.id, row, score))


def answer(sock: socket.socket, task: PoolTask, scorer: LocalBound, group: Group, ambient: Ambient) -> None:
    """Scores the task's responses and sends a row for each, until its time is over."""
    end = min(task.deadline, time.monotonic() + SLICE_S)
    rows = range(len(group.responses))
    if scorer.info.scope != "response":
        column = scored(scorer, group, rows, ambient)
        for row in rows:
            tell(sock, task, row, column.row(row))
        return
    for row in rows:
        if time.monotonic() >= (end if row else task.deadline):
            send(sock, HandedBack(task.id))
            return
        try:
            score = scored(scorer, group, [row], ambient).row(0)
        except (MemoryError, RecursionError) as error:
            score = failure(error)
        tell(sock, task, row, score)


def scored(scorer: LocalBound, group: Group, rows: Sequence[int], ambient: Ambient) -> Column:
    """The column of some rows; what an operator's own verifier changed of the process is put back."""
    column = scorer.score(group, rows)
    if not (isinstance(scorer, BoundVerifier) and scorer.verifier.builtin):
        ambient.restore()
    return column


def tell(sock: socket.socket, task: PoolTask, row: int, score: Score) -> None:
    """Sends a row; what a scorer put into it that no message holds is its fault."""
    try:
        message = encode(Row.of(task.id, row, score))
    except Exception as error:
        message = encode(Row.of(task.id, row, failure(error)))
    sock.sendall(message)
