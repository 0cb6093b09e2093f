"""The ways into a hub: both doors raw, streams event by event, and the client that trainers use."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import httpx

from rewardhub.client import AsyncClient
from rewardhub.types import Call, Group, GroupScores, Response, Score
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import types_pb2
from rewardhub.v1.reward_service_pb2_grpc import RewardServiceStub
from rewardhub.wire import lines, proto

SLACK_S = 20.0
"""How late an answer may be on a crowded machine."""


@dataclass
class World:
    """What all callers share: the hub's addresses, the version of its scorers, and what was found out.

    ``asked`` is the version that a reload may have brought by now, ``version`` what the last finished one brought. The
    scorer "visitor" was there after the last of ``visits``, and comes or goes while it is ``moving``.
    """

    url: str
    target: str
    version: int = 0
    asked: int = 0
    killing: bool = False
    visiting: bool = False
    visits: int = 0
    moving: bool = False
    fingerprints: dict[str, tuple] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)


class Stream:
    """One ScoreStream: events out; rows, errors and missing media in, by group id."""

    def __init__(self, call: "grpc.aio.StreamStreamCall") -> None:
        self._call = call
        self.rows: dict[str, list[tuple[int, Score]]] = {}
        self.complete: Counter[str] = Counter()
        self.errors: list[types_pb2.Error] = []
        self.missing: list[str] = []
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    async def send(self, **event: object) -> None:
        await self._call.write(pb.ScoreStreamRequest(**event))

    async def options(self, call: Call) -> None:
        await self.send(options=proto.call_to_proto(call))

    async def whole(self, group: Group) -> None:
        await self.send(group=proto.group_to_proto(group))

    async def open(self, group: Group) -> None:
        await self.send(open=pb.Open(group=proto.group_to_proto(group)))

    async def add(self, name: str, responses: Sequence[Response]) -> None:
        await self.send(add=pb.Add(id=name, responses=map(proto.response_to_proto, responses)))

    async def until(self, condition: Callable[[], bool], within_s: float = SLACK_S) -> None:
        async with asyncio.timeout(within_s):
            while not condition():
                if self._reader.done():
                    raise ConnectionError(f"the stream ended: {self._reader.exception()}")
                self._news.clear()
                await asyncio.wait(
                    {self._reader, asyncio.ensure_future(self._news.wait())}, return_when="FIRST_COMPLETED"
                )

    async def end(self) -> None:
        await self._call.done_writing()
        async with asyncio.timeout(SLACK_S):
            await self._reader

    async def _read(self) -> None:
        async for reply in self._call:
            for message in reply.groups:
                scores = proto.scores_from_proto(message, list(reply.fingerprints))
                self.rows.setdefault(scores.id, []).extend(zip(scores.indices, scores, strict=True))
                self.complete[scores.id] += scores.complete
            self.missing += reply.missing_media
            if reply.HasField("error"):
                self.errors.append(reply.error)
            self._news.set()


class Doors:
    """One tenant's ways in."""

    def __init__(self, world: World, tenant: str, rng: random.Random, http: httpx.AsyncClient) -> None:
        self._http = http
        self._channel = grpc.aio.insecure_channel(world.target)
        self._stub = RewardServiceStub(self._channel)
        self._headers = (("authorization", f"Bearer {tenant}"),)
        options = {"api_key": tenant, "on_failure": "none", "retries": 0}
        self._rewards = AsyncClient(rng.choice([world.url, f"grpc://{world.target}"]), **options)

    async def close(self) -> None:
        await self._channel.close()
        await self._rewards.close()

    async def by_rest(self, groups: Sequence[Group], call: Call) -> list[GroupScores]:
        body = {**lines.call_to_json(call), "groups": [lines.group_to_json(each) for each in groups]}
        reply = await self._http.post("/v1/score", json=body, headers=dict(self._headers))
        if reply.status_code != 200:
            raise AssertionError(f"{reply.status_code} {reply.text}")
        return [lines.scores_from_json(each) for each in reply.json()["groups"]]

    async def by_rest_stream(self, groups: Sequence[Group], call: Call) -> list[GroupScores]:
        body = {**lines.call_to_json(call), "groups": [lines.group_to_json(each) for each in groups]}
        reply = await self._http.post("/v1/score/stream", json=body, headers=dict(self._headers))
        found = [lines.scores_from_json(lines.loads(line)) for line in reply.text.splitlines()]
        places = [each.id for each in groups]
        return sorted(found, key=lambda scores: places.index(scores.id))

    async def by_unary(self, groups: Sequence[Group], call: Call) -> list[GroupScores]:
        request = pb.ScoreRequest(options=proto.call_to_proto(call), groups=map(proto.group_to_proto, groups))
        reply = await self._stub.Score(request, metadata=self._headers)
        return [proto.scores_from_proto(each, list(reply.fingerprints)) for each in reply.groups]

    async def by_client(self, groups: Sequence[Group], call: Call) -> list[GroupScores]:
        """By the client of trainers, which opens a stream for several groups."""
        found = [scores async for scores in self._rewards.stream(groups, call)]
        places = [each.id for each in groups]
        return sorted(found, key=lambda scores: places.index(scores.id))

    @asynccontextmanager
    async def by_stream(self) -> AsyncIterator[Stream]:
        call = self._stub.ScoreStream(metadata=self._headers)
        try:
            yield Stream(call)
        finally:
            call.cancel()
