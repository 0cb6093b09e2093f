"""What both twins do, on the client's own event loop: one door, its media, its statistics."""

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

from rewardhub.client.failure import Stats, apply_policy
from rewardhub.client.loop import LoopThread
from rewardhub.client.media import MediaBook
from rewardhub.client.members import Members
from rewardhub.client.opened import Opened
from rewardhub.client.parts import sendable, sendable_call
from rewardhub.client.rest import RestDoor
from rewardhub.client.rpc import RpcDoor
from rewardhub.client.session import Session
from rewardhub.client.settings import Settings, pause_s
from rewardhub.errors import HubUnreachable, InvalidInput, RewardHubError
from rewardhub.types import Call, Group, GroupScores, Json, Media

T = TypeVar("T")
_CALL = Call()


class Core:
    """Scores, streams and uploads over one door. Every method runs on the client's own loop."""

    def __init__(self, settings: Settings, stats: Stats) -> None:
        self.settings, self.stats = settings, stats
        self.door = _door(settings)
        self.media = MediaBook(self._put)

    async def score(self, groups: Sequence[Group], call: Call) -> list[GroupScores]:
        """The answers in request order, the policy applied."""
        asked = Members([sendable(group, f"#{place}") for place, group in enumerate(groups)])
        session = self._session(call)
        answers: dict[str, GroupScores] = {}
        try:
            for group in asked.groups:
                session.put(group)
            session.end()
            while (scores := await session.next()) is not None:
                answers[scores.id] = scores
        finally:
            await session.close()
        return asked.answers({name: self._judged(scores) for name, scores in answers.items()})

    async def session(self, call: Call) -> Session:
        """A session for a stream."""
        return self._session(call)

    async def open(self, group: Group, call: Call) -> Opened:
        """An open group; raises ``InvalidInput`` over REST."""
        if not isinstance(self.door, RpcDoor):
            raise InvalidInput("open groups need gRPC: a url that begins with grpc:// or grpcs://", field="url")
        group, call = sendable(group, ""), sendable_call(call)
        opened = Opened(self.door, self.media, group, call, self.settings.allowed_s(call))
        try:
            await opened.start()
        except BaseException:
            await opened.close()
            raise
        return opened

    async def put_media(self, data: bytes) -> Media:
        """Uploads in any case: the caller may know that the hub has lost it."""
        media = Media.from_bytes(data)
        await self.media.again(media)
        return media

    async def next(self, session: Session) -> GroupScores | None:
        """The next answer of a stream, the policy applied."""
        scores = await session.next()
        return None if scores is None else self._judged(scores)

    async def result(self, opened: Opened) -> GroupScores:
        return self._judged(await opened.result())

    async def scorers(self) -> list[Json]:
        return await self._repeated(self.door.scorers)

    async def close(self) -> None:
        await self.door.close()

    def _judged(self, scores: GroupScores) -> GroupScores:
        return apply_policy(scores, self.settings.on_failure, self.stats)

    def _session(self, call: Call) -> Session:
        return Session(self.door, self.media, self.settings, sendable_call(call), self.stats)

    async def _put(self, data: bytes) -> None:
        self.stats.uploads += 1
        await self._repeated(lambda timeout_s: self.door.put_media(data, timeout_s))

    async def _repeated(self, ask: Callable[[float], Awaitable[T]]) -> T:
        """The answer of ``ask(seconds left)``, asked again after retryable errors within the deadline."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.allowed_s(_CALL)
        attempt = 0
        while True:
            try:
                return await ask(deadline - loop.time())
            except RewardHubError as error:
                attempt += 1
                pause = pause_s(attempt, error.retry_after_s)
                late = loop.time() + pause >= deadline
                waited_for = self.door.met and isinstance(error, HubUnreachable)
                if not error.retryable or late or (attempt > self.settings.retries and not waited_for):
                    raise
            self.stats.retries += 1
            await asyncio.sleep(pause)


def _door(settings: Settings) -> RestDoor | RpcDoor:
    parts = urlsplit(settings.url)
    if parts.scheme in {"http", "https"}:
        return RestDoor(settings)
    return RpcDoor(parts.netloc, settings, secure=parts.scheme == "grpcs")


class Home:
    """Where a client's connection lives: made at first use in each process, and again after a fork."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stats = Stats()
        self._closed = False
        self._lock = threading.Lock()
        self._made: tuple[LoopThread, Core] | None = None
        self._finalizer: weakref.finalize[[int, LoopThread, Core], Home] | None = None
        _HOMES.add(self)

    def get(self) -> tuple[LoopThread, Core]:
        with self._lock:
            if self._closed:
                raise InvalidInput("this client is closed", field="client")
            if self._made is None:
                self._made = self._make()
            return self._made

    def _make(self) -> tuple[LoopThread, Core]:
        thread = LoopThread()
        try:
            core = thread.run(_made(self.settings, self.stats))
            self._finalizer = weakref.finalize(self, _shut, os.getpid(), thread, core)
        except BaseException:  # a signal's, too, which would leave the thread behind
            thread.stop()
            raise
        return thread, core

    def close(self) -> None:
        """Ends the connection; what is under way is cancelled."""
        self._closed = True
        if self._finalizer:
            self._finalizer()

    def forget(self) -> None:
        """In a forked child, which has neither the parent's loop thread nor a right to its sockets."""
        self._lock, self._made, self._finalizer = threading.Lock(), None, None


_HOMES: "weakref.WeakSet[Home]" = weakref.WeakSet()


def _forget_all() -> None:
    for home in list(_HOMES):
        home.forget()


os.register_at_fork(after_in_child=_forget_all)


async def _made(settings: Settings, stats: Stats) -> Core:
    return Core(settings, stats)


def _shut(pid: int, thread: LoopThread, core: Core) -> None:
    if pid == os.getpid():
        thread.stop(core.close)
