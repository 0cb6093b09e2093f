"""The events of ``ScoreStream``: what each means, and what happens while media are missing."""

import asyncio
import math
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from functools import partial
from typing import Any

from rewardhub.errors import Cancelled, InvalidInput, RewardHubError, Unavailable
from rewardhub.pace import apart
from rewardhub.server import intake
from rewardhub.server.large import is_large
from rewardhub.server.parking import Parked, Parking
from rewardhub.server.partial import BRIEF_BYTES, Partial, at_hand
from rewardhub.server.session import Answer, Notice, Session, failure, known
from rewardhub.server.settings import Limits
from rewardhub.server.surface import ScoringHub
from rewardhub.types import Call, Group, GroupScores
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import types_pb2
from rewardhub.wire import proto

MEDIA_WAIT_S = 30.0
RECHECK_S = 0.1
"""How soon a waiting group notices media that came by PutMedia instead of this stream."""


class Events:
    """Turns the events of one stream into work of its session."""

    def __init__(self, hub: ScoringHub, session: Session, tenant: str, limits: Limits) -> None:
        self._hub = hub
        self._media = hub.media
        self._session = session
        self._tenant = tenant
        self._limits = limits
        self._call = Call(details=False)
        self._unread: InvalidInput | None = None
        self._parking = Parking(session.inflight)
        self._recheck: asyncio.Task[None] | None = None
        self._handlers: dict[str | None, Callable[[Any], Awaitable[None]]] = {
            "options": self._options,
            "group": self._group,
            "open": self._open,
            "add": self._add,
            "close": self._close,
            "cancel": self._cancel,
            "media": self._store,
        }

    async def read(self, events: AsyncIterable[pb.ScoreStreamRequest | RewardHubError]) -> None:
        """Takes every event; in the end, what still waits for media is refused and the session finished."""
        try:
            async for event in events:
                await self.take(event)
                await self._session.room()
            self._parking.give_up(math.inf)
            await self._parking.release()
        finally:
            if self._recheck is not None:
                self._recheck.cancel()
            self._parking.clear()
            self._session.finish()

    async def take(self, event: pb.ScoreStreamRequest | RewardHubError) -> None:
        """One event; one that is not accepted is answered with an error, and the stream goes on."""
        try:
            if isinstance(event, RewardHubError):
                raise event
            kind = event.WhichOneof("event")
            if kind is None:
                raise InvalidInput("the event is empty", field="event")
            await self._handlers[kind](getattr(event, kind))
        except Exception as error:
            self._session.answer(Notice(error=known(error)))

    async def _options(self, message: types_pb2.CallOptions) -> None:
        try:
            self._call, self._unread = proto.call_from_proto(message), None
        except InvalidInput as error:
            self._unread = error  # the groups that follow were not meant for the options before
            raise

    async def _group(self, message: types_pb2.Group) -> None:
        if message.expected > len(message.responses):
            self._session.check_free(message.id, member=True)  # others under its id may wait for media
        else:
            self._check_unused(message.id)
        intake.check_rows(len(message.responses), self._limits)
        if (refusal := self._refusal(message)) is not None:
            self._session.answer(failure(message.id, len(message.responses), refusal))
            return
        call, size = self._call, message.ByteSize()
        item = await apart(is_large(size, len(message.responses)), partial(intake.group_item, message, "group"))
        if isinstance(item, GroupScores):
            self._session.answer(Answer(item))
            return
        usable: Group | Partial = item

        async def run() -> None:
            try:
                await self._session.score(usable, call, size)
            except Exception as error:
                self._fail(usable, error)

        await self._when_there(usable, run, lambda error: self._fail(usable, error), size, call.deadline_ms)

    async def _open(self, message: pb.Open) -> None:
        self._check_unused(message.group.id)
        intake.check_rows(len(message.group.responses), self._limits)
        group_id, rows = message.group.id, len(message.group.responses)
        self._session.forget(group_id)

        def refuse(error: Exception) -> None:
            self._session.answer(failure(group_id, rows, error))
            self._session.end(group_id)

        call, size, refusal = self._call, message.group.ByteSize(), self._refusal(message.group)
        try:
            if refusal is not None:
                raise refusal
            item = await apart(
                is_large(size, len(message.group.responses)), partial(proto.group_from_proto, message.group)
            )
        except RewardHubError as error:
            refuse(error)
            return

        async def run() -> None:
            try:
                self._session.open(await self._at_hand(item, call), call, size)
            except Exception as error:
                refuse(error)

        await self._when_there(item, run, refuse, size, call.deadline_ms)

    def _refusal(self, message: types_pb2.Group) -> RewardHubError | None:
        """Why the group is not let in, by its bare message."""
        if self._unread is not None:
            return self._unread
        try:
            self._hub.admit(self._tenant)
            if message.expected <= len(message.responses):  # the others of its group would wait for a member in vain
                self._hub.check_room(message.recipe, len(message.responses), self._call, self._tenant)
        except RewardHubError as error:
            return error
        return None

    def _check_unused(self, group_id: str) -> None:
        self._session.check_free(group_id)
        if self._parking.holds(group_id):
            raise InvalidInput(f"the id {group_id!r} is in use on this stream", field="group.id")

    def _fail(self, item: intake.Item, error: Exception) -> None:
        self._session.answer(failure(item.id, intake.rows_of(item), error))

    async def _add(self, message: pb.Add) -> None:
        if self._session.is_over(message.id):
            return
        intake.check_rows(len(message.responses), self._limits)
        size = message.ByteSize()
        read = partial(proto.responses_from_proto, message.responses, "add")
        group = Group(message.id, responses=await apart(is_large(size, len(message.responses)), read))

        def refuse(error: RewardHubError) -> None:
            if not self._session.is_over(message.id):
                self._session.answer(Notice(error=_about(message.id, error)))

        async def run() -> None:
            try:
                self._session.add(message.id, (await self._at_hand(group, self._call)).responses, size)
            except Exception as error:
                refuse(known(error))

        await self._when_there(group, run, refuse, size)

    async def _close(self, message: pb.Close) -> None:
        def refuse(error: RewardHubError) -> None:
            if not isinstance(error, Cancelled):
                self._session.answer(Notice(error=_about(message.id, error)))

        async def run() -> None:
            try:
                self._session.close(message.id)
            except Exception as error:
                refuse(known(error))

        await self._when_there(Group(message.id), run, refuse)

    async def _cancel(self, message: pb.Cancel) -> None:
        self._parking.drop(message.id, Cancelled("the group was cancelled"))
        self._session.cancel(message.id)

    async def _store(self, message: types_pb2.Media) -> None:
        try:
            if message.data:
                await self._put(message.sha256, message.data)
            else:  # the caller has none either
                self._parking.wait_no_more(message.sha256)
        except Unavailable as error:
            self._parking.refuse(message.sha256, error)
            raise
        except RewardHubError:
            self._parking.wait_no_more(message.sha256)
            raise
        finally:
            await self._parking.release()

    async def _put(self, sha256: str, data: bytes) -> None:
        stored = await apart(len(data) > BRIEF_BYTES, partial(self._media.put, data, self._tenant))
        self._parking.wait_no_more(stored.sha256)
        if sha256 not in {"", stored.sha256}:
            raise InvalidInput(f"media.sha256 {sha256} is not the hash of its bytes", field="media.sha256")

    async def _when_there(
        self,
        item: Group | Partial,
        run: Callable[[], Awaitable[None]],
        drop: Callable[[RewardHubError], None],
        size: int = 0,
        deadline_ms: int = 0,
    ) -> None:
        missing = self._missing(item if isinstance(item, Group) else item.group)
        if not missing and not self._parking.holds(item.id):
            await run()
            return
        wait_s = min(MEDIA_WAIT_S, deadline_ms / 1000 or MEDIA_WAIT_S)
        try:
            self._parking.park(Parked(item.id, set(missing), time.monotonic() + wait_s, run, drop, size))
        except RewardHubError as error:
            drop(error)
            return
        if missing:
            self._session.answer(Notice(missing=missing))
        if self._recheck is None or self._recheck.done():
            self._recheck = asyncio.create_task(self._watch())

    async def _at_hand(self, group: Group, call: Call) -> Group:
        within_s = call.deadline_ms / 1000 or math.inf
        return await at_hand(self._media, group, self._tenant, within_s)

    def _missing(self, group: Group) -> list[str]:
        return self._media.lacking(group, self._tenant)

    async def _watch(self) -> None:
        took_s = 0.0
        while len(self._parking):
            await asyncio.sleep(max(RECHECK_S, 20 * took_s))
            started = time.monotonic()
            self._parking.give_up()
            self._parking.lacks_only(self._media.missing(self._parking.wanted(), self._tenant))
            took_s = time.monotonic() - started
            await self._parking.release()


def _about(group_id: str, error: RewardHubError) -> RewardHubError:
    if repr(group_id) not in error.message:
        error.message = f"group {group_id!r}: {error.message}"
    return error
