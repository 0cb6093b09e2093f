"""Groups under way to a hub: what is unanswered, what is sent again, and when to give up.

A :class:`Session` is the same for both doors and both twins. A door takes entries out with
:meth:`Session.take` and hands answers back with :meth:`Session.settle` and :meth:`Session.refuse`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from rewardhub.client.answers import better, failed, merged, told_wait_s, whole
from rewardhub.client.dropped import UNSENDABLE, unsendable, without_media
from rewardhub.client.entry import Entry
from rewardhub.client.failure import Stats
from rewardhub.client.loop import SourceFailed
from rewardhub.client.media import MediaBook, lost_media
from rewardhub.client.parts import sendable
from rewardhub.client.refusal import ConnectionLost
from rewardhub.client.settings import Settings, pause_s
from rewardhub.errors import (
    Cancelled,
    HubUnreachable,
    InvalidInput,
    QuotaExceeded,
    RewardHubError,
    TooLarge,
    Unavailable,
)
from rewardhub.types import Call, Group, GroupScores, Status
from rewardhub.wire.proto import response_to_proto

_LINGER_S = 5.0
_NAMED = 65_536
"""Groups whose members a session has numbered, the oldest of which are forgotten."""
T = TypeVar("T")


class Door(Protocol):
    """One way to a hub; ``met`` once the hub has answered anything."""

    met: bool

    async def exchange(self, session: "Session") -> None:
        """Carries entries and answers until the session takes no more; raises ``RewardHubError``."""
        ...


class Session:
    """One ``score`` or ``stream`` call. Lives on the client's own event loop.

    An answer is known by its group's id. So a member of a group of which another is under way has a session of its own.
    """

    def __init__(self, door: Door, media: MediaBook, settings: Settings, call: Call, stats: Stats) -> None:
        self.call, self.media = call, media
        self._door, self._settings, self._stats = door, settings, stats
        self._loop = asyncio.get_running_loop()
        self._timeout_s = settings.allowed_s(call)
        self._entries: dict[str, Entry] = {}
        self._ready: list[Entry] = []
        self._wake = asyncio.Event()
        self._answers: asyncio.Queue[GroupScores | BaseException | None] = asyncio.Queue()
        self._ended = False
        self._told_end = False
        self._abandoned = False
        self._places = 0
        self._slots = asyncio.Semaphore(settings.in_flight)
        self._trouble: RewardHubError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._uploads: set[asyncio.Task[None]] = set()
        self._beside: set[asyncio.Task[None]] = set()
        self._named: OrderedDict[str, int] = OrderedDict()
        self._task = asyncio.create_task(self._run())

    # for the caller

    def put(self, group: Group, first: int | None = None) -> None:
        """Sends ``group``, whose answer's indices count from ``first``, or are the hub's; raises ``InvalidInput`` where
        its id is under way already, but for members of one group.
        """
        if under_way := self._entries.get(group.id):
            if not (group.is_member and under_way.is_fragment):
                raise InvalidInput(f"group id {group.id!r} is doubled", field="groups.id")
            self._apart(group, first)
            return
        entry = Entry(group, self._loop.time() + self._timeout_s, first)
        self._entries[group.id] = entry
        if self._timer is None:
            self._timer = self._loop.call_at(entry.deadline, self._expire)
        self._prepare(entry)

    def end(self) -> None:
        """No group follows."""
        self._ended = True
        self._wake_up()

    async def admit(self, group: Group | None) -> None:
        """Puts the next group of a stream, None for the end; waits while too many are under way or
        answered and not fetched. Raises ``Cancelled`` once the session is over.
        """
        if group is None:
            self.end()
            return
        await self._slots.acquire()
        if self._ended:
            raise Cancelled("this stream is over")
        self._places += 1
        sent = sendable(group, f"#{self._places}")
        self.put(sent, self._count(sent) if sent.is_member else None)

    async def abort(self, error: BaseException) -> None:
        """The caller's groups broke off with ``error``, which is in what :meth:`next` raises."""
        if not self._told_end:
            self._fail(SourceFailed(error))

    async def next(self) -> GroupScores | None:
        """The next answer, without a policy applied; None after the last."""
        answer = await self._answers.get()
        self._slots.release()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def close(self) -> None:
        """Stops; a session with nothing under way lets its door say goodbye."""
        if self._timer:
            self._timer.cancel()
        self._slots.release()  # for a feeder that waits
        for task in (*self._uploads, *self._beside):
            task.cancel()
        try:
            if self.finished and not self._abandoned and not self._task.done():
                await asyncio.wait([self._task], timeout=_LINGER_S)
        finally:
            self._ended = self._told_end = True
            self._task.cancel()
            await asyncio.wait([self._task, *self._beside])

    # for a door

    def groups(self) -> list[Group]:
        """What is not answered yet."""
        return [entry.group for entry in self._entries.values()]

    @property
    def finished(self) -> bool:
        return self._ended and not self._entries and not self._beside

    async def take(self) -> list[Entry]:
        """Every entry that waits to be sent, at least one; empty when none will follow."""
        taken: list[Entry] = []
        while not taken and not self.finished:
            if not self._ready:
                self._wake.clear()
                await self._wake.wait()
            taken = [entry for entry in self._ready if self._entries.get(entry.group.id) is entry]
            self._ready = []
        for entry in taken:
            entry.sent = True
        return taken

    def encoded(self, entries: Sequence[Entry], encode: Callable[[Group], T]) -> list[tuple[Entry, T]]:
        """Entries with their encodings. What cannot be encoded, because of half a surrogate pair or an
        object that is no JSON, is answered as ``invalid_input``: a response, or the group.
        """
        found: list[tuple[Entry, T]] = []
        for entry in entries:
            try:
                found.append((entry, encode(entry.group)))
            except UNSENDABLE as error:
                self.drop(entry, unsendable(entry.group, response_to_proto), f"the group cannot be sent: {error}")
        return found

    def is_whole(self, taken: Sequence[Entry]) -> bool:
        """Whether ``taken`` is all that is left to do, and may be asked for in a call without a stream: proxies end a
        call of which nothing is heard for a while, as often as it is made.
        """
        return self._ended and len(taken) == len(self._entries) and not any(entry.lost for entry in taken)

    def remaining_ms(self, entry: Entry) -> int:
        """Milliseconds that the hub may take, less a margin for the way back."""
        left = max(entry.deadline - self._loop.time(), 0.001)
        return max(int(1000 * (left - min(0.5, left / 10))), 1)

    def settle(self, scores: GroupScores, *, final: bool = False, retry_after_s: float = 0.0) -> None:
        """An answer of the hub; ``final`` where no other answer follows even if it is not complete."""
        self._trouble, self._door.met = None, True
        entry = self._entries.get(scores.id)
        if entry is None:
            return  # its deadline passed, or a twin of an answer given before
        entry.parts.append(scores)
        if not scores.complete and not final:
            return
        answer, entry.parts = whole(entry.group, merged(entry.parts)), []
        if not self._sent_again(entry, answer, retry_after_s):
            self._finish(entry, better(answer, entry.earlier))

    def refuse(self, entries: Sequence[Entry], error: RewardHubError) -> None:
        """The hub did not score these because of ``error``; they are sent again later, if that may help."""
        for entry in entries:
            if self._entries.get(entry.group.id) is not entry:
                continue
            if entry.is_fragment and isinstance(error, ConnectionLost):
                self._finish(entry, failed(entry.group, Status.UNAVAILABLE, error.message))
                continue
            if self._door.met and isinstance(error, HubUnreachable):
                entry.waits += 1
            else:
                entry.tries += 1
            entry.lost = entry.lost or isinstance(error, ConnectionLost)
            pause = pause_s(entry.tries + entry.waits, error.retry_after_s)
            self._trouble = error
            if not (error.retryable and self._may_repeat(entry, pause)):
                self._fail(error)
                return
            self._repeat(entry, pause)

    def drop(self, entry: Entry, reasons: Mapping[int, str], otherwise: str) -> None:
        """Answers for responses that cannot be sent, by index, and sends the others; without any ``reasons``, and for
        members of a group that is put together from several calls, answers for the whole group.
        """
        if not reasons or entry.group.expected:
            self._finish(entry, failed(entry.group, Status.INVALID_INPUT, otherwise))
            return
        entry.group, entry.dropped = entry.dropped.more(entry.group, reasons)
        if entry.group.responses:
            self._prepare(entry)
        else:
            self._finish(entry, failed(entry.group, Status.INVALID_INPUT, otherwise))

    # inside

    async def _run(self) -> None:
        try:
            while not self.finished:
                lost: RewardHubError = ConnectionLost("the hub ended the exchange early")
                try:
                    await self._door.exchange(self)
                except RewardHubError as error:
                    lost = error
                self.refuse([entry for entry in self._entries.values() if entry.sent], lost)
        except Exception as error:  # a fault of ours must not leave the caller waiting
            self._fail(error)

    def _count(self, member: Group) -> int:
        """How many responses of its id came before."""
        first = self._named.pop(member.id, 0)
        self._named[member.id] = first + len(member.responses)
        if len(self._named) > _NAMED:
            self._named.popitem(last=False)
        return first

    def _apart(self, member: Group, first: int | None) -> None:
        session = Session(self._door, self.media, self._settings, self.call, self._stats)
        session.put(member, first)
        session.end()
        task = asyncio.create_task(self._follow(session))
        self._beside.add(task)
        task.add_done_callback(self._followed)

    async def _follow(self, session: "Session") -> None:
        try:
            while (answer := await session.next()) is not None:
                self._answers.put_nowait(answer)
        except Exception as error:
            self._fail(error)
        finally:
            await session.close()

    def _followed(self, task: asyncio.Task[None]) -> None:
        self._beside.discard(task)
        self._wake_up()

    def _prepare(self, entry: Entry) -> None:
        missing = self.media.missing(entry.group)
        if not missing:
            self._push(entry)
            return
        task = asyncio.create_task(self._upload(entry))
        self._uploads.add(task)
        task.add_done_callback(self._uploads.discard)

    async def _upload(self, entry: Entry) -> None:
        missing = self.media.missing(entry.group)
        uploads = (self.media.ensure([media]) for media in missing)
        refused: dict[str, str] = {}
        for media, error in zip(missing, await asyncio.gather(*uploads, return_exceptions=True), strict=True):
            if isinstance(error, (InvalidInput, TooLarge)):
                refused[media.sha256] = error.message
            elif isinstance(error, (Unavailable, QuotaExceeded)):  # for this media; groups without it go on
                self._finish(entry, failed(entry.group, error.status, error.message))
                return
            elif error is not None:
                self._fail(error)
                return
        if refused:
            self.drop(entry, without_media(entry.group, refused), next(iter(refused.values())))
        else:
            self._push(entry)

    def _push(self, entry: Entry) -> None:
        entry.sent = False
        self._ready.append(entry)
        self._wake_up()

    def _wake_up(self) -> None:
        self._wake.set()
        if self.finished and not self._told_end:
            self._told_end = True
            self._answers.put_nowait(None)

    def _repeat(self, entry: Entry, pause: float) -> None:
        entry.sent, entry.parts = False, []
        self._stats.retries += 1
        self._loop.call_later(pause, self._again, entry)

    def _again(self, entry: Entry) -> None:
        if not self._told_end:
            self._prepare(entry)

    def _may_repeat(self, entry: Entry, pause: float) -> bool:
        """Whether there is time; a hub that answered before is waited for until the deadline."""
        return self._loop.time() + pause < entry.deadline and entry.tries <= self._settings.retries

    def _sent_again(self, entry: Entry, answer: GroupScores, retry_after_s: float) -> bool:
        lost = lost_media(entry.group, answer, guess=not entry.reuploaded)
        self.media.forget(lost)
        refused = self.call.details and {*answer.total.statuses} == {Status.INVALID_INPUT}
        if entry.is_fragment and not (lost and refused):
            return False  # it may have joined its group
        pause = 0.0
        if lost and not entry.reuploaded:  # of a hub that was started anew
            entry.reuploaded = True
        elif lost or any(status.retryable for status in set(answer.total.statuses)):
            # Whose store is smaller than the media under way has room once others are answered.
            entry.tries += 1
            pause = pause_s(entry.tries, max(retry_after_s, told_wait_s(answer)))
            if not self._may_repeat(entry, pause):
                return False
        else:
            return False
        if not lost:
            entry.earlier = better(answer, entry.earlier)
        self._repeat(entry, pause)
        return True

    def _finish(self, entry: Entry, answer: GroupScores) -> None:
        if self._entries.get(entry.group.id) is not entry:
            return  # its deadline passed meanwhile
        del self._entries[entry.group.id]
        answer = entry.dropped.spread(answer)
        if entry.first is not None:
            answer = replace(answer, indices=[*range(entry.first, entry.first + len(answer))])
        self._answers.put_nowait(answer)
        self._wake_up()

    def _fail(self, error: BaseException) -> None:
        self._ended = self._told_end = True
        self._entries.clear()
        self._ready.clear()
        self._answers.put_nowait(error)
        self._wake.set()

    def _expire(self) -> None:
        """Answers what is past its deadline; entries stand in the order of their deadlines."""
        self._timer = None
        now = self._loop.time()
        late = [entry for entry in self._entries.values() if entry.deadline <= now]
        if late and self._trouble:
            self._fail(self._trouble)
        self._abandoned = self._abandoned or bool(late)
        for entry in late if not self._trouble else ():
            late_answer = failed(entry.group, Status.TIMEOUT, f"no answer within {self._timeout_s:g} s")
            self._finish(entry, entry.earlier or late_answer)
        for entry in self._entries.values():
            self._timer = self._loop.call_at(entry.deadline, self._expire)
            break
