"""An open group: its responses come one by one, its scores come back as they are ready."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import grpc

from rewardhub.client.answers import failed, merged, whole
from rewardhub.client.media import MediaBook
from rewardhub.client.parts import readable
from rewardhub.client.refusal import ConnectionLost, from_rpc
from rewardhub.client.rpc import EventStream, RpcDoor
from rewardhub.errors import DeadlineExceeded, RewardHubError
from rewardhub.types import Call, Group, GroupScores, Response, Status
from rewardhub.wire.proto import response_to_proto


class Opened:
    """One open group on a stream of its own. Never sent twice: a lost connection raises
    ``HubUnreachable``. Lives on the client's own event loop.
    """

    def __init__(self, door: RpcDoor, media: MediaBook, group: Group, call: Call, timeout_s: float) -> None:
        self._door, self._media, self._call, self._timeout_s = door, media, call, timeout_s
        self._group = group
        self._answers: asyncio.Queue[GroupScores | RewardHubError | None] = asyncio.Queue()
        self._so_far: list[GroupScores] = []
        self._closed = False
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._events: EventStream = door.events(call, media, lambda: [self._group])
        self._reader = asyncio.create_task(self._read())

    async def start(self) -> None:
        """Opens the group, with the responses that it has already. Raises ``DeadlineExceeded``, as :meth:`add` does,
        where media are not uploaded by the deadline.
        """
        await self._bring(replace(self._group, responses=()))
        responses, self._group = self._group.responses, replace(self._group, responses=())
        left_s = self._deadline - asyncio.get_running_loop().time()
        self._events.open(self._group, max(int(left_s * 1000), 1))
        if responses:
            await self.add(responses)

    async def add(self, responses: Sequence[Response]) -> None:
        """Adds responses under the next free indices."""
        responses = readable(tuple(responses))
        added = replace(self._group, media=(), responses=responses)
        await self._bring(added)
        self._group = replace(self._group, responses=(*self._group.responses, *responses))
        self._events.add(self._group.id, map(response_to_proto, responses))

    async def end(self) -> None:
        """No response follows."""
        if not self._closed:
            self._closed = True
            self._events.close_group(self._group.id)

    async def next(self) -> GroupScores | None:
        """The next rows that are ready, None after the answer that completes the group."""
        answer = await self._answers.get()
        if answer is None or isinstance(answer, RewardHubError):
            self._answers.put_nowait(answer)  # the end stays the end, for whoever asks again
        if isinstance(answer, RewardHubError):
            raise answer
        return answer

    async def result(self) -> GroupScores:
        """All rows, after the group was ended and completed."""
        await self.end()
        while await self.next() is not None:
            pass
        if not self._so_far:
            return failed(self._group, Status.INTERNAL_ERROR, "the hub gave no scores")
        return whole(self._group, merged(self._so_far))

    async def close(self) -> None:
        self._reader.cancel()
        self._events.cancel()
        await asyncio.wait([self._reader])

    async def _bring(self, group: Group) -> None:
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._media.ensure(self._media.missing(group))
        except TimeoutError:
            reason = f"media of group {group.id!r} were not uploaded within {self._timeout_s:g} s"
            raise DeadlineExceeded(reason) from None

    async def _read(self) -> None:
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._receive()
        except TimeoutError:
            late = failed(self._group, Status.TIMEOUT, f"not complete within {self._timeout_s:g} s")
            self._take(replace(merged([late, *self._so_far]), complete=True))
        except grpc.RpcError as error:
            self._answers.put_nowait(from_rpc(error, self._door.url))
        except RewardHubError as error:
            self._answers.put_nowait(error)
        self._answers.put_nowait(None)

    async def _receive(self) -> None:
        async for scores, _ in self._events.answers():
            self._take(scores)
            if scores.complete:
                self._events.half_close()
                return
        raise ConnectionLost("the hub ended the stream before the group was complete")

    def _take(self, scores: GroupScores) -> None:
        self._so_far.append(scores)
        self._answers.put_nowait(scores)
