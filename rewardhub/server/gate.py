"""What every gRPC call passes: key and scope, its part of what is in flight, time for its message, errors as codes."""

import asyncio
import contextlib
import inspect
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from rewardhub.errors import DeadlineExceeded, InvalidInput, RewardHubError
from rewardhub.server.auth import ANYONE, OPEN_METHODS, SCOPES, Auth
from rewardhub.server.inflight import Inflight, Share
from rewardhub.server.metrics import DoorMetrics
from rewardhub.server.settings import BACKSTOP, Limits

ERROR_KEY = "rewardhub-error"
_PUSHBACK_KEY = "grpc-retry-pushback-ms"
_MESSAGE_BYTES, _FIELD_BYTES = 700, 200
"""In UTF-8. Twice the message and once the field, escaped, stay under the 8 kB of metadata that callers take."""
_ONE, _MANY = grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
Context = grpc.aio.ServicerContext[Any, Any]


class Incoming(NamedTuple):
    """Who calls, its part of what is in flight, and its metadata."""

    tenant: str
    share: Share
    headers: list[tuple[str, str]]


_caller: ContextVar[tuple[str, list[tuple[str, str]]]] = ContextVar("caller")
_incoming: ContextVar[Incoming] = ContextVar("incoming")


def incoming() -> Incoming:
    """Of the call that is being answered."""
    return _incoming.get()


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Lets a call pass whose key has the scope of its method; without keys every call passes. Counts those that do
    not.

    A method of one message is called once that came, for which it has as long as a body of REST; it counts as a call
    meanwhile. Calls that need no key have a room of their own, so that they take none of the others'.
    """

    def __init__(self, auth: Auth, inflight: Inflight, limits: Limits, metrics: DoorMetrics) -> None:
        self._auth = auth
        self._inflight = inflight
        self._open = Inflight(BACKSTOP // 2 * limits.concurrency, 0)
        self._patience = _Patience(limits.body_s)
        self._metrics = metrics
        self._known: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any]]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        method, started = handler_call_details.method, time.perf_counter()
        caller, headers = ANYONE, headers_of(handler_call_details.invocation_metadata)
        try:
            if method not in OPEN_METHODS:
                caller = self._auth.caller(headers)
                caller.require(SCOPES.get(method))
        except RewardHubError as error:
            self._refused(method, error, started)
            return _refusal(error)
        _caller.set((caller.tenant, headers))
        handler = await continuation(handler_call_details)
        if handler is not None and method not in self._known:
            self._known[method] = self._passing(handler, method)
        return handler and self._known[method]  # None for a method that is not there

    def _passing(self, handler: "grpc.RpcMethodHandler[Any, Any]", method: str) -> "grpc.RpcMethodHandler[Any, Any]":
        """The handler behind the gate; the task that asked :meth:`intercept_service` runs it."""
        serve: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        room = self._open if method in OPEN_METHODS else self._inflight

        def let_in(context: Context) -> contextlib.AbstractContextManager[None]:
            tenant, headers = _caller.get()
            share = room.of(tenant or context.peer().rpartition(":")[0])
            _incoming.set(Incoming(tenant, share, headers))
            return share.call()

        async def asked(messages: AsyncIterator[Any], context: Context) -> Any:
            return messages if handler.request_streaming else await self._patience.message(context)

        async def call(messages: AsyncIterator[Any], context: Context) -> Any:
            started = time.perf_counter()
            try:
                with let_in(context):
                    return await serve(await asked(messages, context), context)
            except (RewardHubError, DecodeError) as error:
                await self._end(method, error, started, context)

        async def stream(messages: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            started = time.perf_counter()
            try:
                with let_in(context):
                    async for reply in serve(await asked(messages, context), context):
                        yield reply
            except (RewardHubError, DecodeError) as error:
                await self._end(method, error, started, context)

        made = _MANY if handler.response_streaming else _ONE
        behaviour: Any = stream if inspect.isasyncgenfunction(serve) else call
        return made(behaviour, handler.request_deserializer, handler.response_serializer)

    async def _end(self, method: str, error: RewardHubError | DecodeError, started: float, context: Context) -> None:
        """Of a call that did not get to its method, or to one of gRPC's own that could not read its message."""
        if isinstance(error, DecodeError):
            error = InvalidInput("the message is not what the method takes")
        self._refused(method, error, started)
        await abort(context, error)

    def _refused(self, method: str, error: RewardHubError, started: float) -> None:
        name = method.rpartition("/")[2] if method in SCOPES else "other"
        self._metrics.request("grpc", name, error.grpc, time.perf_counter() - started)


class _Patience:
    """Waits for the one message of each call; gRPC itself does so without end. One timer ends what has waited for
    ``within_s`` seconds, a quarter more at most: one for each call would cost more.
    """

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._since: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def message(self, context: Context) -> Any:
        """Raises ``DeadlineExceeded`` where it does not come in time, ``InvalidInput`` where there is none."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._since[task] = loop.time()
        self._timer = self._timer or loop.call_later(self._within_s, self._look, loop)
        try:
            message: Any = await context.read()
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise DeadlineExceeded(f"the message did not come within {self._within_s:g} s") from None
        finally:
            self._late.discard(task)
            self._since.pop(task, None)
        if message is grpc.aio.EOF:  # type: ignore[attr-defined]
            raise InvalidInput("the call ended without a message")
        return message

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        late = [task for task, since in self._since.items() if loop.time() - since >= self._within_s]
        for task in late:
            del self._since[task]
            self._late.add(task)
            task.cancel()
        self._timer = loop.call_later(self._within_s / 4, self._look, loop) if self._since else None


def _refusal(error: RewardHubError) -> "grpc.RpcMethodHandler[Any, Any]":
    async def refuse(_: Any, context: Context) -> None:
        await abort(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)


async def abort(context: Context, error: RewardHubError) -> None:
    """Ends the call with the code of the error, its fields as JSON in the trailing metadata."""
    message = _cut(error.message, _MESSAGE_BYTES)
    body: dict[str, Any] = {"code": error.code, "message": message, "field": _cut(error.field, _FIELD_BYTES)}
    body |= {"retryable": error.retryable, "retry_after_ms": int(error.retry_after_s * 1000)}
    metadata = [(ERROR_KEY, json.dumps(body))]
    if error.retry_after_s > 0:
        metadata.append((_PUSHBACK_KEY, str(math.ceil(error.retry_after_s * 1000))))
    await context.abort(grpc.StatusCode[error.grpc], message, tuple(metadata))


def _cut(text: str, size: int) -> str:
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


def headers_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> list[tuple[str, str]]:
    return [(key, value) for key, value in metadata or () if isinstance(value, str)]
