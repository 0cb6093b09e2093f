"""Both doors over real sockets, around a fake hub whose scores are digests of what is scored."""

import asyncio
import hashlib
import io
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import grpc
import httpx
import pytest
from PIL import Image

from rewardhub.errors import InvalidInput, PinMismatch, RewardHubError, Unavailable, nearest
from rewardhub.media.store import MediaStore
from rewardhub.scheduler.program_lane import ProgramLane
from rewardhub.server import intake
from rewardhub.server.auth import Auth
from rewardhub.server.rest_server import bound
from rewardhub.server.serving import Doors, Stop
from rewardhub.server.settings import ServerSettings
from rewardhub.types import Column, Group, GroupScores, Status, Timings
from rewardhub.v1 import reward_service_pb2_grpc

RECIPES = ("echo", "digest", "slow", "broken", "pinned", "busy", "hold")


def value_of(group: Group, response) -> float:
    media = [each.sha256 for each in (*group.media, *response.media)]
    text = repr((group.id, group.prompt, dict(group.reference), response.text, response.tokens, media))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4], "big") / 2**32


class FakeOpenGroup:
    def __init__(self, hub, group, call):
        self._hub, self._group, self._call = hub, group, call
        self._rows = []
        self._closed = self.late = False
        self._out = asyncio.Queue()
        self.add(group.responses)

    def add(self, responses):
        if self._closed:
            raise InvalidInput(f"group {self._group.id!r} is closed", field="id")
        if self._group.expected and len(self._rows) + len(responses) > self._group.expected:
            raise InvalidInput("over expected", field="expected")
        start = len(self._rows)
        self._rows += responses
        if responses:
            part = replace(self._group, responses=tuple(responses))
            scores = self._hub.scores(part, complete=False)
            scores.indices = list(range(start, len(self._rows)))
            self._out.put_nowait(scores)
        if self._rows and len(self._rows) == self._group.expected:
            self.close()

    def close(self):
        if not self._closed:
            self._closed = True
            self._out.put_nowait(GroupScores(self._group.id, Column([], []), indices=[]))

    def leave(self):
        self.late = not self._closed
        self.close()

    def cancel(self):
        self._closed = True
        column = Column.failed(len(self._rows), Status.CANCELLED, "cancelled")
        self._out.put_nowait(GroupScores(self._group.id, column, indices=list(range(len(self._rows)))))

    async def __aiter__(self):
        while True:
            scores = await self._out.get()
            yield scores
            if scores.complete:
                return


class FakeHub:
    """``slow`` takes 0.3 s, ``hold`` waits for ``release``, ``broken`` raises, ``pinned`` and ``busy`` refuse."""

    def __init__(self, media: MediaStore | None = None):
        self.media = media or MediaStore()
        self.programs = ProgramLane()
        self.not_ready: list[str] = []
        self.release = asyncio.Event()
        self.draining = False
        self.full = False
        self.running = 0
        self.cancelled = 0
        self.calls = []
        self.closed = False
        self.opened = []

    async def start(self):
        pass

    def admit(self, tenant=""):
        if self.full:
            raise Unavailable("full", retry_after_s=1.5)

    def check_room(self, recipe, rows, call, tenant):
        pass

    async def score(self, groups, call, *, tenant=""):
        if self.draining:
            raise Unavailable("the hub is draining", retry_after_s=1.5)
        self.calls.append((groups, call, tenant))
        self.running += 1
        try:
            return [await self._one(group, call, tenant) for group in groups]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _one(self, group, call, tenant):
        recipe = group.recipe or call.recipe
        if recipe == "slow":
            await asyncio.sleep(0.3)
        if recipe == "hold":
            await self.release.wait()
        if recipe == "broken":
            raise ZeroDivisionError("a secret prompt")
        if recipe == "pinned":
            raise PinMismatch("the run pinned another fingerprint", field="run")
        if recipe == "busy":
            raise Unavailable("too much work", retry_after_s=2.5)
        try:
            if recipe not in RECIPES:
                raise InvalidInput(f"unknown recipe {recipe!r}{nearest(recipe, RECIPES)}", field="recipe")
            return self.scores(self.media.resolve(group, tenant))
        except RewardHubError as error:
            return intake.failed(group.id, len(group.responses), error)

    def scores(self, group, complete=True):
        values = [value_of(group, each) for each in group.responses]
        details = [{"reference": dict(group.reference), "metadata": dict(group.metadata)} for _ in values]
        total = Column(values, [Status.OK] * len(values), fingerprint="f" * 16, details=details)
        part = Column(
            [None if index % 3 == 2 else value / 2 for index, value in enumerate(values)],
            [Status.SKIPPED if index % 3 == 2 else Status.OK for index in range(len(values))],
            fingerprint="e" * 16,
            confidence=[0.5] * len(values),
            steps=[(0.1, None)] * len(values),
        )
        return GroupScores(
            group.id, total, {"half/of": part}, list(range(len(values))), complete, Timings(1.0, 2.0, 3.0)
        )

    def open(self, group, call, *, tenant=""):
        if (group.recipe or call.recipe) == "broken":
            raise ZeroDivisionError("a secret prompt")
        if (group.recipe or call.recipe) not in RECIPES:
            raise InvalidInput("unknown recipe", field="recipe")
        self.opened.append(FakeOpenGroup(self, group, call))
        return self.opened[-1]

    def scorers(self):
        common = {"fingerprint": "f" * 16, "cost": "cheap", "deterministic": True, "ready": True, "summary": "s"}
        return [{"name": name, "family": "verifier", "scope": "response", **common} for name in RECIPES]

    def writers(self):
        return ["writer"]

    async def reload(self):
        return {"added": [], "removed": [], "changed": [], "restart": []}

    def ready(self):
        return self.not_ready

    def metrics_text(self):
        return b"# HELP fake_total A fake.\n# TYPE fake_total counter\nfake_total 1.0\n"

    async def drain(self, grace_s):
        self.draining = True
        for opened in self.opened:
            opened.leave()
        async with asyncio.timeout(grace_s):
            while self.running:
                await asyncio.sleep(0.01)

    async def aclose(self):
        self.closed = True


def png(shade=1, size=(8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Service:
    hub: FakeHub
    doors: Doors
    stop: Stop
    task: asyncio.Task

    @property
    def url(self):
        return self.doors.url

    @property
    def grpc_addr(self):
        return self.doors.grpc_addr

    def http(self, **options) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=20, **options)

    @asynccontextmanager
    async def stub(self):
        async with grpc.aio.insecure_channel(self.grpc_addr) as channel:
            yield reward_service_pb2_grpc.RewardServiceStub(channel)


@pytest.fixture
def service():
    """A context manager that runs both doors on free ports and drains them in the end."""

    @asynccontextmanager
    async def run(settings=None, hub=None, grace_s=5.0):
        settings, hub, stop = settings or ServerSettings(), hub or FakeHub(), Stop()
        with bound("127.0.0.1:0") as listening:
            doors = Doors(hub, Auth(settings.keys), settings, listening, "127.0.0.1:0")
            task = asyncio.create_task(doors.run(stop, grace_s))
            ready = asyncio.create_task(doors.ready.wait())
            await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
            assert not task.done(), task
            try:
                yield Service(hub, doors, stop, task)
            finally:
                hub.release.set()
                stop.now()
                await task

    return run


@pytest.fixture
def fake_hub():
    return FakeHub


@pytest.fixture
def image():
    return png
