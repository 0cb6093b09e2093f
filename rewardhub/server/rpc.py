"""The methods of the gRPC door, behind its gate."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message

import rewardhub
from rewardhub import logs, tracing
from rewardhub.errors import DeadlineExceeded, InternalError, InvalidInput, RewardHubError, Unavailable
from rewardhub.pace import apart
from rewardhub.server import intake, replay
from rewardhub.server.gate import Context, Incoming, abort, incoming
from rewardhub.server.inflight import Inflight, Upload
from rewardhub.server.large import LARGE_ROWS, is_large
from rewardhub.server.metrics import DoorMetrics
from rewardhub.server.packing import score_response, stream_responses
from rewardhub.server.session import Session
from rewardhub.server.settings import ServerSettings
from rewardhub.server.stream import Events
from rewardhub.server.surface import ScoringHub
from rewardhub.types import Call
from rewardhub.v1 import reward_service_pb2 as pb

SERVICE = "rewardhub.v1.RewardService"
_MARGIN_S = 0.005
_POLL_S = 0.02
T = TypeVar("T")
M = TypeVar("M", bound=Message)


class RewardService:
    """The four methods; requests that did not parse arrive as ``InvalidInput`` instead of a message, those of Score
    unparsed.
    """

    def __init__(self, hub: ScoringHub, settings: ServerSettings, metrics: DoorMetrics) -> None:
        self._hub = hub
        self._limits = settings.limits
        self.inflight = Inflight(self._limits.concurrency, self._limits.inflight_bytes)
        self._metrics = metrics
        self._replays = replay.Replays()
        self._sessions: set[Session] = set()

    async def score(self, body: bytes, context: Context) -> pb.ScoreResponse:
        caller = incoming()
        self._hub.admit(caller.tenant)  # before anything is parsed
        with caller.share.upload(self._limits.message_bytes, "message") as upload:
            upload.add(body)
            return await self._scored(body, context, caller)

    async def _scored(self, body: bytes, context: Context, caller: Incoming) -> pb.ScoreResponse:
        request = _parsed(_parse(pb.ScoreRequest, body))
        large = is_large(len(body), sum(len(group.responses) for group in request.groups), len(request.groups))
        call, items = await apart(large, functools.partial(intake.from_proto, request, self._limits))
        work = functools.partial(intake.score, self._hub, items, _within(call, context), caller.tenant)
        key = dict(caller.headers).get(replay.HEADER)
        if key is None:
            answers = await work()
        else:
            body = request.SerializeToString(deterministic=True)
            answers = await self._replays.once(caller.tenant, key, body, work, caller.share)
        write = functools.partial(score_response, answers, details=call.details, limit=self._limits.message_bytes)
        return await apart(sum(map(len, answers)) > LARGE_ROWS, write)

    async def score_stream(
        self, events: AsyncIterator[pb.ScoreStreamRequest | RewardHubError], context: Context
    ) -> None:
        tenant, share, _ = incoming()
        session = Session(self._hub, tenant, share)
        self._sessions.add(session)
        self._metrics.streams.inc()
        reader = asyncio.create_task(Events(self._hub, session, tenant, self._limits).read(events))
        try:
            async for batch in session.batches():
                if not batch:
                    await context.write(pb.ScoreStreamResponse())
                for reply in stream_responses(batch, self._limits.message_bytes):
                    await context.write(reply)
            if not reader.done():
                raise Unavailable("the hub is going away; send the rest to another", retry_after_s=1.0)
            await reader
        finally:
            self._metrics.streams.dec()
            self._sessions.discard(session)
            reader.cancel()
            await asyncio.gather(session.aclose(), reader, return_exceptions=True)

    async def put_media(
        self, chunks: AsyncIterator[pb.PutMediaRequest | RewardHubError], _: Context
    ) -> pb.PutMediaResponse:
        tenant, share, _headers = incoming()
        with share.upload(self._hub.media.limits.item_bytes, "media") as upload:
            sha256 = await self._received(chunks, upload)
            data = upload.joined()
            media = await asyncio.to_thread(self._hub.media.put, data, tenant)
        if sha256 not in {"", media.sha256}:
            raise InvalidInput(f"sha256 is not the hash of the bytes ({media.sha256})", field="sha256")
        return pb.PutMediaResponse(sha256=media.sha256, bytes=len(data))

    async def _received(self, chunks: AsyncIterator[pb.PutMediaRequest | RewardHubError], upload: Upload) -> str:
        """The hash that the chunks state, if they do."""
        sha256, within_s = "", self._limits.body_s
        try:
            async with asyncio.timeout(within_s):
                async for message in chunks:
                    chunk = _parsed(message)
                    upload.add(chunk.chunk)
                    sha256 = chunk.sha256 or sha256
        except TimeoutError:
            raise DeadlineExceeded(f"the media did not come within {within_s:g} s") from None
        return sha256

    async def list_scorers(self, request: pb.ListScorersRequest, _: Context) -> pb.ListScorersResponse:
        _parsed(request)
        scorers = [pb.Scorer(**each) for each in await asyncio.to_thread(self._hub.scorers)]
        return pb.ListScorersResponse(scorers=scorers, version=rewardhub.__version__)

    async def finish_streams(self) -> None:
        """Ends each stream once what it has taken is answered, and waits for that."""
        while self._sessions:
            for session in self._sessions:
                session.leave()
            await asyncio.sleep(_POLL_S)

    def handlers(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """The methods, with their errors mapped to codes and their metrics."""
        kinds: dict[str, tuple[Callable[..., Any], Callable[..., Awaitable[Any]], type[Message] | None]] = {
            "Score": (grpc.unary_unary_rpc_method_handler, self.score, None),
            "ScoreStream": (grpc.stream_stream_rpc_method_handler, self.score_stream, pb.ScoreStreamRequest),
            "PutMedia": (grpc.stream_unary_rpc_method_handler, self.put_media, pb.PutMediaRequest),
            "ListScorers": (grpc.unary_unary_rpc_method_handler, self.list_scorers, pb.ListScorersRequest),
        }
        methods = {
            name: make(self._guarded(name, method), request and functools.partial(_parse, request), _serialize)
            for name, (make, method, request) in kinds.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _guarded(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def handler(request: Any, context: Context) -> Any:
            started, code = time.perf_counter(), "CANCELLED"
            try:
                with tracing.caller(incoming().headers):
                    reply = await method(request, context)
                code = "OK"
                return reply
            except RewardHubError as error:
                code = error.grpc
                await abort(context, error)
            except Exception as error:
                code = "INTERNAL"
                error_id = logs.fault("call failed", error, method=name)
                await abort(context, InternalError(f"an internal error; its id is {error_id}"))
            finally:
                self._metrics.request("grpc", name, code, time.perf_counter() - started)

        return handler


def _parse(kind: type[M], data: bytes) -> M | RewardHubError:
    try:
        return kind.FromString(data)
    except DecodeError:
        return InvalidInput(f"the message is no {kind.DESCRIPTOR.full_name}")


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _parsed(message: T | RewardHubError) -> T:
    if not isinstance(message, RewardHubError):
        return message
    raise message


def _within(call: Call, context: Context) -> Call:
    """The call with the deadline of the RPC, less a margin in which the statuses still reach the caller."""
    remaining = cast("float | None", context.time_remaining())
    if remaining is None:
        return call
    remaining_ms = max(1, int((remaining - _MARGIN_S) * 1000))
    return replace(call, deadline_ms=min(call.deadline_ms or remaining_ms, remaining_ms))
