"""Callers that do what is seldom done: modes of the cache, runs, media, responses that cannot be read, new scorers."""

import io
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import httpx
from PIL import Image

from rewardhub.types import Call, Media, Response, Status
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import types_pb2
from rewardhub.wire import lines, proto

from .keyed_doors import World
from .keyed_oracle import REMEMBERED, Recipe, Term, a_recipe
from .keyed_traffic import Caller


class OddCaller(Caller):
    """Does those things too."""

    def __init__(self, world: World, tenant: str, number: int, rng: random.Random, http: httpx.AsyncClient) -> None:
        super().__init__(world, tenant, number, rng, http)
        self._run: dict[str, str] = {}

    def things(self) -> dict[Callable[[], Awaitable[None]], int]:
        seldom = {self.modes: 2, self.media: 3, self.runs: 2, self.spoiled: 3, self.visitors: 2}
        return super().things() | seldom

    async def modes(self) -> None:
        """What each way of using the cache remembers and reads, of an input that nobody else sends."""
        scorer = self._rng.choice(sorted(REMEMBERED))
        recipe = Recipe({"t0": Term(scorer, {}, whole=scorer == "k_group_dear")}, ("term", "t0"), bare=True)
        group = replace(self._group("modes", 2), prompt=f"{self._tenant} modes {self._number} {next(self._turn)}")
        group = replace(group, responses=(Response("fine a"), Response("fine b")))
        known = False
        for _ in range(6):
            mode = self._rng.choice(["use", "bypass", "read_only", "refresh"])
            since, call = self._world.version, Call(recipe=scorer, cache=mode)
            (scores,) = await self.by_rest([group], call)
            self._check(self._case(recipe, group, call, since), [*zip(scores.indices, scores, strict=True)], mode)
            if since != self._world.asked:
                return  # another version has other keys
            if {score.cached for score in scores} != {known and mode in {"use", "read_only"}}:
                raise AssertionError(f"{mode}: cached {[score.cached for score in scores]}, known {known}")
            known = known or mode in {"use", "refresh"}

    async def runs(self) -> None:
        """A run is scored by what it pinned, or refused until it says repin."""
        recipe = Recipe({"t0": Term("k_pool", {})}, ("term", "t0"), bare=True)
        group, since = self._group("run", 2), self._world.version
        call = Call(recipe="k_pool", run=f"run {self._number}", repin=self._rng.random() < 0.3)
        (scores,) = await self._rng.choice([self.by_rest, self.by_unary])([group], call)
        before, now = self._run.get("k_pool"), scores.total.fingerprint
        if scores.total.details and (scores.total.details[0] or {}).get("code") == "pin_mismatch":
            if call.repin or before is None or self._world.fingerprints[before][-1] == self._world.asked == since:
                raise AssertionError(f"refused: {scores.total.details[0]}")
            return
        self._check(self._case(recipe, group, call, since), [*zip(scores.indices, scores, strict=True)], "run")
        if before not in {None, now} and not call.repin:
            raise AssertionError(f"the run pinned {before} and was scored by {now}")
        if now in self._world.fingerprints:
            self._run["k_pool"] = now

    async def media(self) -> None:
        """Media by hash: named as missing and sent again, uploaded apart, never another tenant's."""
        rng, since, recipe = self._rng, self._world.version, a_recipe(self._rng)
        call = replace(self._call(recipe), deadline_ms=0)
        data = io.BytesIO()
        Image.frombytes("L", (8, 8), rng.randbytes(64)).save(data, "PNG")
        image = Media.from_bytes(data.getvalue())
        named = replace(image, data=None)
        group = self._group(f"p{self._name()}", 3)
        where = rng.choice(["prompt", "response"])
        if where == "prompt":
            group = replace(group, media=(named,))
        else:
            with_media = replace(group.responses[1], media=(named,))
            group = replace(group, responses=(group.responses[0], with_media, group.responses[2]))
        if rng.random() < 0.5:
            async with self.by_stream() as stream:
                await stream.options(call)
                if rng.random() < 0.5:
                    await stream.whole(group)
                else:
                    await stream.open(replace(group, responses=()))
                    for response in group.responses:
                        await stream.add(group.id, [response])
                    await stream.send(close=pb.Close(id=group.id))
                await stream.until(lambda: bool(stream.missing))
                if rng.random() < 0.3:
                    await stream.send(cancel=pb.Cancel(id=group.id))
                    await stream.until(lambda: stream.complete[group.id] > 0)
                    told = stream.rows.pop(group.id)
                    if any(score.status is not Status.CANCELLED and index for index, score in told):
                        raise AssertionError(f"cancelled while it waits: {told}")
                    stream.errors.clear()
                    await stream.whole(group)
                await stream.send(media=types_pb2.Media(sha256=image.sha256, data=image.data))
                await stream.end()
                rows = stream.rows[group.id]
                if stream.errors:
                    raise AssertionError(f"refused: {stream.errors}")
        else:
            (scores,) = await self.by_rest([replace(group, lost=0)], call)
            refused = [scores[1]] if where == "response" else [*scores]
            if {(each.status, bool(each.parts)) for each in refused} > {(Status.INVALID_INPUT, False)}:
                raise AssertionError(f"unknown media: {scores}")
            reply = await self._http.put("/v1/media", content=image.data, headers=dict(self._headers))
            if reply.json()["sha256"] != image.sha256:
                raise AssertionError(reply.text)
            (scores,) = await self.by_rest([group], call)
            rows = [*zip(scores.indices, scores, strict=True)]
        self._check(self._case(recipe, group, call, since), rows, f"media of the {where}")
        other = {"authorization": f"Bearer {'beta' if self._tenant == 'alpha' else 'alpha'}"}
        body = {"recipe": "k_inline", "groups": [{"id": "x", "media": [{"sha256": image.sha256}], "responses": ["a"]}]}
        (scores,) = (await self._http.post("/v1/score", json=body, headers=other)).json()["groups"]
        if scores["scores"][0]["status"] != "invalid_input":
            raise AssertionError(f"another tenant's media: {scores}")

    async def spoiled(self) -> None:
        """A response that cannot be read is refused alone; the group goes on without it, and knows that it is lost."""
        rng, since, recipe = self._rng, self._world.version, a_recipe(self._rng)
        call, group = self._call(recipe), self._group(f"s{self._name()}", rng.choice([1, 2, 4]))
        bad = rng.randrange(len(group.responses))
        way = rng.choice(["rest", "rest stream", "unary", "stream"])
        if way.startswith("rest"):
            line = lines.group_to_json(group)
            line["responses"][bad] = rng.choice([7, {"text": None, "tokens": -1}, {"txet": "a"}])
            body = {**lines.call_to_json(call), "groups": [line]}
            reply = await self._http.post(
                f"/v1/score{way[4:].replace(' ', '/')}", json=body, headers=dict(self._headers)
            )
            found = reply.json()["groups"][0] if way == "rest" else lines.loads(reply.text)
            rows = [*zip((scores := lines.scores_from_json(found)).indices, scores, strict=True)]
        else:
            message = proto.group_to_proto(group)
            message.responses[bad].signals["x"] = float("nan")
            if way == "unary":
                request = pb.ScoreRequest(options=proto.call_to_proto(call), groups=[message])
                reply = await self._stub.Score(request, metadata=self._headers)
                scores = proto.scores_from_proto(reply.groups[0], list(reply.fingerprints))
                rows = [*zip(scores.indices, scores, strict=True)]
            else:
                async with self.by_stream() as stream:
                    await stream.options(call)
                    await stream.send(group=message)
                    await stream.end()
                    rows = stream.rows[group.id]
        refused = [score for index, score in rows if index == bad]
        if [each.status for each in refused] != [Status.INVALID_INPUT]:
            raise AssertionError(f"{way}: {refused} for what cannot be read")
        kept = tuple(each for place, each in enumerate(group.responses) if place != bad)
        left = [(index - (index > bad), score) for index, score in rows if index != bad]
        read = replace(group, responses=kept, lost=group.lost + 1)
        if kept:
            self._check(self._case(recipe, read, call, since), left, f"spoiled {way}")

    async def visitors(self) -> None:
        """A scorer that reloads add and remove is known or not, and nothing between."""
        before, since = self._world.visiting, self._world.visits
        group = self._group(f"v{self._name()}", 2)
        (scores,) = await self._rng.choice([self.by_rest, self.by_unary, self.by_client])(
            [group], Call(recipe="visitor")
        )
        told = [(score.value, score.status) for score in scores]
        here, gone = [(0.5, Status.OK)] * 2, [(None, Status.INVALID_INPUT)] * 2
        allowed = [here if before else gone] if self._world.visits == since and not self._world.moving else [here, gone]
        if told not in allowed:
            raise AssertionError(f"visitor {before}: {[*scores]}")
