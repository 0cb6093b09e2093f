"""The gRPC door: a call that fits one message is unary, everything else is a stream."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc

from rewardhub.client.calls import Bidi, awaited
from rewardhub.client.dropped import UNSENDABLE, unsendable
from rewardhub.client.entry import Entry
from rewardhub.client.media import MediaBook, media_of
from rewardhub.client.refusal import from_proto, from_rpc
from rewardhub.client.session import Session
from rewardhub.client.settings import Settings
from rewardhub.errors import RewardHubError, TooLarge
from rewardhub.types import Call, Group, GroupScores, Json, Media, Response
from rewardhub.v1 import reward_service_pb2 as service
from rewardhub.v1 import types_pb2 as pb
from rewardhub.v1.reward_service_pb2_grpc import RewardServiceStub
from rewardhub.wire.packed import packed, score_request
from rewardhub.wire.proto import call_to_proto, group_to_proto, response_to_proto, scores_from_proto

MESSAGE_BYTES = 4 << 20
FILL_BYTES = 3 << 20
_CHUNK_BYTES = 1 << 20
_ROWS_OF_A_REPLY = 4_000
BEAT_S = 10.0
"""How often a stream says something: proxies end what idles for a minute, some after less."""
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment is for the outside, never for one's own hub
    # Our own pauses decide when to try again; gRPC's would keep a restarted hub waiting for minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # by its name; what it bounds is how long connecting may take
]


class RpcDoor:
    """Lives on one event loop; ``secure`` speaks TLS and trusts ``SSL_CERT_FILE``, else gRPC's roots."""

    def __init__(self, target: str, settings: Settings, *, secure: bool) -> None:
        self.url, self.met = settings.shown, False
        self._metadata = (("authorization", f"Bearer {settings.api_key}"),) if settings.api_key else ()
        self._channel = (
            grpc.secure_channel(target, _credentials(), options=_OPTIONS)
            if secure
            else grpc.insecure_channel(target, options=_OPTIONS)
        )
        self._stub: Any = RewardServiceStub(self._channel)
        # Takes bytes: whether a request fits one message is known only once it is serialised.
        self._score: Any = self._channel.unary_unary(
            "/rewardhub.v1.RewardService/Score", None, service.ScoreResponse.FromString
        )

    async def exchange(self, session: Session) -> None:
        encoded = session.encoded(await session.take(), packed)
        entries = [entry for entry, _ in encoded]
        groups = [group for _, group in encoded]
        if not entries:
            return
        try:
            if session.is_whole(entries) and sum(len(entry.group.responses) for entry in entries) <= _ROWS_OF_A_REPLY:
                left_ms = max(map(session.remaining_ms, entries))
                options = _options(session.call, left_ms)
                if options.ByteSize() + sum(group.size for group in groups) <= FILL_BYTES:
                    with contextlib.suppress(TooLarge):  # its answer fits no message: a stream gives it in parts
                        await self._unary(session, score_request(options, groups), left_ms)
                        return
            await self._streamed(session, entries)
        except grpc.RpcError as error:
            raise from_rpc(error, self.url) from None

    async def _unary(self, session: Session, request: bytes, left_ms: int) -> None:
        try:
            reply = await awaited(self._score, request, timeout=left_ms / 1000 + 1, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc(error, self.url) from None
        for message in reply.groups:
            session.settle(scores_from_proto(message, reply.fingerprints), final=True)

    async def _streamed(self, session: Session, entries: list[Entry]) -> None:
        events = self.events(session.call, session.media, session.groups)
        sender = asyncio.create_task(_send_all(events, session, entries))
        try:
            async for scores, retry_after_s in events.answers():
                session.settle(scores, retry_after_s=retry_after_s)
        finally:
            sender.cancel()
            events.cancel()

    def events(self, call: Call, media: MediaBook, under_way: Callable[[], Iterable[Group]]) -> "EventStream":
        """A stream for groups; media that the hub lacks are looked for in those ``under_way``."""
        return EventStream(Bidi(self._stub.ScoreStream, self._metadata), call, media, under_way)

    async def put_media(self, data: bytes, timeout_s: float) -> None:
        chunks = (service.PutMediaRequest(chunk=chunk) for chunk in _chunks(data))
        try:
            await awaited(self._stub.PutMedia, chunks, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc(error, self.url) from None

    async def scorers(self, timeout_s: float) -> list[Json]:
        try:
            request = service.ListScorersRequest()
            reply = await awaited(self._stub.ListScorers, request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc(error, self.url) from None
        fields = service.Scorer.DESCRIPTOR.fields
        return [{field.name: getattr(scorer, field.name) for field in fields} for scorer in reply.scorers]

    async def close(self) -> None:
        self._channel.close()


def _credentials() -> grpc.ChannelCredentials:
    file = os.environ.get("SSL_CERT_FILE")
    return grpc.ssl_channel_credentials(Path(file).read_bytes() if file else None)


async def _send_all(events: "EventStream", session: Session, entries: list[Entry]) -> None:
    while entries:
        for entry in entries:
            try:
                events.send(entry.group, session.remaining_ms(entry))
            except (TooLarge, *UNSENDABLE) as error:
                session.drop(entry, unsendable(entry.group, _check_size), f"the group cannot be sent: {error}")
        entries = await session.take()
    events.half_close()


class EventStream:
    """One ScoreStream call: events out, scores in. Events after the end of the call are dropped."""

    def __init__(self, rpc: Bidi, call: Call, media: MediaBook, under_way: Callable[[], Iterable[Group]]) -> None:
        self._rpc, self._call, self._media, self._under_way = rpc, call, media, under_way
        self._deadline_ms = -1
        self._uploads: set[asyncio.Task[None]] = set()
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def send(self, group: Group, deadline_ms: int) -> None:
        """A whole group, in several messages where one would be too large, or members of one; raises ``TooLarge``."""
        message = group_to_proto(group)
        members = group.is_member  # which the hub joins to others by messages of groups
        if message.ByteSize() <= (MESSAGE_BYTES - 4096 if members else FILL_BYTES):
            self._deadline(deadline_ms)
            self._rpc.write(service.ScoreStreamRequest(group=message))
            return
        responses = list(message.responses)
        _check_sizes(group, responses)
        if members:
            raise TooLarge(f"members of group {group.id!r} are over the {MESSAGE_BYTES} bytes of a message")
        self.open(group, deadline_ms)
        self.add(group.id, responses)
        self.close_group(group.id)

    def open(self, group: Group, deadline_ms: int) -> None:
        """Opens the group without its responses."""
        self._deadline(deadline_ms)
        message = group_to_proto(group, with_responses=False)
        self._rpc.write(service.ScoreStreamRequest(open=service.Open(group=message)))

    def add(self, group_id: str, responses: Iterable[pb.Response]) -> None:
        for part in _filled(responses):
            self._rpc.write(service.ScoreStreamRequest(add=service.Add(id=group_id, responses=part)))

    def close_group(self, group_id: str) -> None:
        self._rpc.write(service.ScoreStreamRequest(close=service.Close(id=group_id)))

    def half_close(self) -> None:
        self._timer.cancel()
        self._rpc.done_writing()

    def cancel(self) -> None:
        self._timer.cancel()
        for task in self._uploads:
            task.cancel()
        self._rpc.cancel()

    async def answers(self) -> AsyncIterator[tuple[GroupScores, float]]:
        """Scores as they come, each with the seconds to wait before sending the group again; raises
        ``RewardHubError`` for what the hub did not accept.
        """
        async for reply in self._rpc.replies():
            for message in reply.groups:
                yield scores_from_proto(message, reply.fingerprints), message.error.retry_after_ms / 1000
            if reply.missing_media:
                self._send_again(reply.missing_media)
            if reply.HasField("error"):
                raise from_proto(reply.error)

    def _send_again(self, missing: Sequence[str]) -> None:
        """What the hub lacks: on this stream, or beside it where no message holds it."""
        wanted = set(filter(self._media.given, missing))
        media = (each for group in self._under_way() for each in media_of(group) if each.sha256 in wanted)
        found = {each.sha256: each for each in media if each.data is not None}
        for sha256 in missing:
            each = found.get(sha256, Media(sha256))
            if len(each.data or b"") <= FILL_BYTES:
                self._tell(sha256, each.data or b"")
                continue
            task = asyncio.create_task(self._upload(each))
            self._uploads.add(task)
            task.add_done_callback(self._uploads.discard)

    async def _upload(self, media: Media) -> None:
        try:
            await self._media.again(media)  # the hub sees that it is there
        except RewardHubError:
            self._tell(media.sha256, b"")

    def _tell(self, sha256: str, data: bytes) -> None:
        """The bytes of a media that the hub lacks; none where it need not wait for them."""
        self._rpc.write(service.ScoreStreamRequest(media=pb.Media(sha256=sha256, data=data)))

    def _beat(self) -> None:
        if self._deadline_ms > 0:  # the same options once more change nothing
            self._rpc.write(service.ScoreStreamRequest(options=_options(self._call, self._deadline_ms)))
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def _deadline(self, deadline_ms: int) -> None:
        """Says the deadline for the groups that follow, where it differs by more than 1 %."""
        if abs(deadline_ms - self._deadline_ms) > self._deadline_ms / 100:
            self._deadline_ms = deadline_ms
            self._rpc.write(service.ScoreStreamRequest(options=_options(self._call, deadline_ms)))


def _options(call: Call, deadline_ms: int) -> pb.CallOptions:
    message = call_to_proto(call)
    message.deadline_ms = deadline_ms
    return message


def _check_size(response: Response) -> None:
    if response_to_proto(response).ByteSize() > MESSAGE_BYTES - 4096:
        raise TooLarge(f"it is over the {MESSAGE_BYTES} bytes of a message")


def _check_sizes(group: Group, responses: Sequence[pb.Response]) -> None:
    limit = MESSAGE_BYTES - 4096
    for index, response in enumerate(responses):
        if response.ByteSize() > limit:
            raise TooLarge(f"response {index} of group {group.id!r} is over the {MESSAGE_BYTES} bytes of a message")
    if group_to_proto(group, with_responses=False).ByteSize() > limit:
        raise TooLarge(f"group {group.id!r} without responses is over the {MESSAGE_BYTES} bytes of a message")


def _filled(responses: Iterable[pb.Response]) -> Iterator[list[pb.Response]]:
    part: list[pb.Response] = []
    size = 0
    for response in responses:
        if part and size + response.ByteSize() > FILL_BYTES:
            yield part
            part, size = [], 0
        part.append(response)
        size += response.ByteSize()
    if part:
        yield part


def _chunks(data: bytes) -> Iterator[bytes]:
    for start in range(0, max(len(data), 1), _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES]
