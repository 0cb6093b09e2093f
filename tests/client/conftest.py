"""A small hub with real doors on loopback ports: scores are a hash of prompt and response, and a test
can script its faults.
"""

import asyncio
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import uvicorn
from grpc import aio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from rewardhub.errors import RewardHubError
from rewardhub.types import Column, Group, GroupScores, Response, Score, Status
from rewardhub.v1 import reward_service_pb2 as service
from rewardhub.v1.reward_service_pb2_grpc import RewardServiceServicer, add_RewardServiceServicer_to_server
from rewardhub.wire.lines import call_from_json, group_from_json, score_to_json, scores_to_json
from rewardhub.wire.proto import (
    Fingerprints,
    call_from_proto,
    group_from_proto,
    responses_from_proto,
    scores_to_proto,
)


class FakeHub:
    """``script`` maps a group id to the statuses that its first answers give to response 0; ``refusals``
    are raised for whole calls, one each; ``delays`` maps a group id to seconds; the connection breaks once
    before the answer of each group in ``cut``.
    """

    def __init__(self) -> None:
        self.script: dict[str, list[Status]] = {}
        self.refusals: list[RewardHubError] = []
        self.delays: dict[str, float] = {}
        self.cut: set[str] = set()
        self.media: dict[str, bytes] = {}
        self.seen: Counter[str] = Counter()
        self.groups: dict[str, Group] = {}
        self.calls: list[Any] = []
        self.keys: set[str] = set()
        self.uploads = 0
        self.peers: set[str] = set()
        self.ask_for_media = True

    @staticmethod
    def value(prompt: Any, response: Response) -> float:
        text = json.dumps([prompt if isinstance(prompt, str) else list(prompt), response.text])
        return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32

    def row(self, group: Group, index: int) -> Score:
        value = self.value(group.prompt, group.responses[index])
        parts = {"hash": Score(value, fingerprint="p1"), "len": Score(float(len(group.responses[index].text)))}
        return Score(value, parts=parts, details={"reason": "hashed"}, fingerprint="t1", confidence=0.5)

    def missing(self, group: Group) -> list[str]:
        hashes = [media.sha256 for media in (*group.media, *(m for r in group.responses for m in r.media))]
        return [each for each in hashes if each not in self.media]

    async def score(self, group: Group) -> GroupScores:
        self.seen[group.id] += 1
        self.groups[group.id] = group
        await asyncio.sleep(self.delays.get(group.id, 0.0))
        for sha256 in self.missing(group):
            reason = f"media {sha256} was never uploaded"
            return GroupScores(group.id, Column.failed(len(group.responses), Status.INVALID_INPUT, reason))
        rows = [self.row(group, index) for index in range(len(group.responses))]
        if self.script.get(group.id):
            rows[0] = Score(None, self.script[group.id].pop(0), details={"reason": "scripted"}, parts=rows[0].parts)
        parts = {name: Column.of([row.parts[name] for row in rows], "p1") for name in ("hash", "len")} if rows else {}
        return GroupScores(group.id, Column.of(rows, "t1"), parts, list(range(len(rows))))

    def admit(self, call: Any, key: str | None, peer: str) -> None:
        self.calls.append(call)
        self.keys.add(key or "")
        self.peers.add(peer)
        if self.refusals:
            raise self.refusals.pop(0)


class RestFake:
    def __init__(self, hub: FakeHub) -> None:
        self.hub = hub
        self.app = Starlette(
            routes=[
                Route("/v1/score", self.score, methods=["POST"]),
                Route("/v1/score/stream", self.stream, methods=["POST"]),
                Route("/v1/media", self.put, methods=["PUT"]),
                Route("/v1/scorers", self.scorers),
            ]
        )

    async def _read(self, request: Request) -> tuple[Any, list[Group]]:
        body = await request.json()
        call = call_from_json(body)
        peer = f"{request.client.host}:{request.client.port}"
        self.hub.admit(call, request.headers.get("authorization"), peer)
        return call, [group_from_json(each) for each in body["groups"]]

    async def score(self, request: Request) -> Any:
        try:
            call, groups = await self._read(request)
        except RewardHubError as error:
            return self._refused(error)
        answers = await asyncio.gather(*map(self.hub.score, groups))
        return JSONResponse({"groups": [scores_to_json(each, details=call.details) for each in answers]})

    async def stream(self, request: Request) -> Any:
        try:
            call, groups = await self._read(request)
        except RewardHubError as error:
            return self._refused(error)

        async def lines() -> Any:
            for task in asyncio.as_completed([self.hub.score(group) for group in groups]):
                scores = await task
                if scores.id in self.hub.cut:
                    self.hub.cut.discard(scores.id)
                    return
                yield f"{json.dumps(scores_to_json(scores, details=call.details), ensure_ascii=False)}\n".encode()

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @staticmethod
    def _refused(error: RewardHubError) -> Any:
        body = {"code": error.code, "message": error.message, "field": error.field, "retryable": error.retryable}
        headers = {"retry-after": f"{error.retry_after_s}"} if error.retry_after_s else {}
        return JSONResponse({"error": body}, error.http, headers=headers)

    async def put(self, request: Request) -> Any:
        data = await request.body()
        self.hub.uploads += 1
        sha256 = hashlib.sha256(data).hexdigest()
        self.hub.media[sha256] = data
        return JSONResponse({"sha256": sha256, "bytes": len(data)})

    async def scorers(self, request: Request) -> Any:
        return JSONResponse({"scorers": [{"name": "math", "family": "verifier"}], "version": "0"})


class RpcFake(RewardServiceServicer):
    def __init__(self, hub: FakeHub) -> None:
        self.hub = hub

    async def _admit(self, options: Any, context: Any) -> Any:
        call = call_from_proto(options)
        try:
            self.hub.admit(call, dict(context.invocation_metadata()).get("authorization"), context.peer())
        except RewardHubError as error:
            body = {"code": error.code, "message": error.message, "field": error.field, "retryable": error.retryable}
            told = json.dumps(body | {"retry_after_ms": int(error.retry_after_s * 1000)})
            await context.abort(grpc.StatusCode[error.grpc], error.message, (("rewardhub-error", told),))
        return call

    @staticmethod
    def _reply(answers: list[GroupScores], details: bool, kind: Any) -> Any:
        table = Fingerprints()
        groups = [scores_to_proto(each, table, details=details) for each in answers]
        return kind(groups=groups, fingerprints=table.table())

    async def Score(self, request: Any, context: Any) -> Any:
        call = await self._admit(request.options, context)
        answers = await asyncio.gather(*(self.hub.score(group_from_proto(each)) for each in request.groups))
        return self._reply(list(answers), call.details, service.ScoreResponse)

    async def ScoreStream(self, requests: Any, context: Any) -> Any:
        out: asyncio.Queue[Any] = asyncio.Queue()
        state: dict[str, Any] = {"call": None, "open": {}, "parked": [], "tasks": set()}

        async def answer(group: Group) -> None:
            answer = await self.hub.score(group)
            await out.put(self._reply([answer], state["call"].details, service.ScoreStreamResponse))

        def start(group: Group) -> None:
            task = asyncio.create_task(answer(group))
            state["tasks"].add(task)

        async def read() -> None:
            async for event in requests:
                kind = event.WhichOneof("event")
                if kind == "options":
                    state["call"] = await self._admit(event.options, context)
                elif kind == "group":
                    group = group_from_proto(event.group)
                    missing = self.hub.missing(group) if self.hub.ask_for_media else []
                    if missing:
                        state["parked"].append(group)
                        await out.put(service.ScoreStreamResponse(missing_media=missing))
                    else:
                        start(group)
                elif kind == "open":
                    state["open"][event.open.group.id] = group_from_proto(event.open.group)
                elif kind == "add":
                    await self._add(state, event.add, out)
                elif kind == "close":
                    await self._close(state, event.close.id, out)
                elif kind == "media":
                    self.hub.uploads += 1
                    self.hub.media[event.media.sha256] = event.media.data
                    for group in state["parked"]:
                        start(group)
                    state["parked"].clear()
            await asyncio.gather(*state["tasks"])
            await out.put(None)

        reader = asyncio.create_task(read())
        try:
            while (reply := await out.get()) is not None:
                for name in {group.id for group in reply.groups} & self.hub.cut:
                    self.hub.cut.discard(name)
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
                yield reply
        finally:
            reader.cancel()

    async def _add(self, state: Any, event: Any, out: Any) -> None:
        from dataclasses import replace

        group = state["open"][event.id]
        start = len(group.responses)
        group = replace(group, responses=(*group.responses, *responses_from_proto(event.responses, "add")))
        state["open"][event.id] = group
        rows = [self.hub.row(group, index) for index in range(start, len(group.responses))]
        parts = {"hash": Column.of([row.parts["hash"] for row in rows], "p1")}
        pending = Column([None] * len(rows), [Status.INCOMPLETE_GROUP] * len(rows))
        early = GroupScores(event.id, pending, parts, list(range(start, len(group.responses))), complete=False)
        await out.put(self._reply([early], True, service.ScoreStreamResponse))

    async def _close(self, state: Any, group_id: str, out: Any) -> None:
        answer = await self.hub.score(state["open"].pop(group_id))
        await out.put(self._reply([answer], True, service.ScoreStreamResponse))

    async def PutMedia(self, requests: Any, context: Any) -> Any:
        data = b"".join([request.chunk async for request in requests])
        self.hub.uploads += 1
        sha256 = hashlib.sha256(data).hexdigest()
        self.hub.media[sha256] = data
        return service.PutMediaResponse(sha256=sha256, bytes=len(data))

    async def ListScorers(self, request: Any, context: Any) -> Any:
        return service.ListScorersResponse(scorers=[service.Scorer(name="math", family="verifier")], version="0")


class Doors:
    """Both doors of one fake, on a loop thread; :meth:`stop` and :meth:`start` act as a restart."""

    def __init__(self, hub: FakeHub) -> None:
        self.hub = hub
        self.ports = {"http": 0, "grpc": 0}
        self.start()

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)

    async def _start(self) -> None:
        self._grpc = aio.server(options=[("grpc.so_reuseport", 0)])
        add_RewardServiceServicer_to_server(RpcFake(self.hub), self._grpc)
        self.ports["grpc"] = self._grpc.add_insecure_port(f"127.0.0.1:{self.ports['grpc']}")
        await self._grpc.start()
        config = uvicorn.Config(
            RestFake(self.hub).app,
            host="127.0.0.1",
            port=self.ports["http"],
            log_level="error",
            lifespan="off",
            ws="none",
        )
        self._http = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._http._serve(None))
        while not self._http.started:
            await asyncio.sleep(0.01)
        self.ports["http"] = self._http.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._http.should_exit = self._http.force_exit = True
        await self._serving
        await self._grpc.stop(0)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}"


@pytest.fixture
def doors() -> Iterator[Doors]:
    """A running fake hub with both doors."""
    running = Doors(FakeHub())
    yield running
    running.stop()


@pytest.fixture
def fake(doors: Doors) -> FakeHub:
    """The fake behind the doors, to script its faults."""
    return doors.hub


@pytest.fixture(params=["http", "grpc"])
def url(request: pytest.FixtureRequest, doors: Doors) -> str:
    """The address of each door in turn."""
    return doors.url(request.param)


@pytest.fixture
def details_of() -> Any:
    """Score rows as plain data, to compare the doors field by field."""
    return score_to_json
