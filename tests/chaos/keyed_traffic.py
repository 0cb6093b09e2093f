"""Callers of a hub that use both doors in every way at once, and know what each answer must be."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import httpx

from rewardhub.types import Call, Group, Response, Score, Status
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.wire import lines

from .keyed_doors import Doors, Stream, World
from .keyed_oracle import Case, Recipe, a_recipe

WORDS = ("none", "over", "reference", "invalid", "busy", "unread", "boom")
LANES = frozenset({Status.TIMEOUT})
LOST = frozenset({Status.INTERNAL_ERROR})


class Caller(Doors):
    """One tenant's caller; does one random thing after another."""

    def __init__(self, world: World, tenant: str, number: int, rng: random.Random, http: httpx.AsyncClient) -> None:
        super().__init__(world, tenant, rng, http)
        self._world, self._tenant, self._rng, self._number = world, tenant, rng, number
        self._turn = itertools.count()
        self._run: dict[str, str] = {}

    async def work(self) -> None:
        things = self.things()
        while not self._world.wrong:
            thing = self._rng.choices([*things], [*things.values()])[0]
            try:
                await thing()
                self._world.done[thing.__name__] += 1
            except Exception as error:
                self._world.wrong.append(f"{self._tenant} {thing.__name__}: {type(error).__name__}: {error}")
                raise

    def things(self) -> dict[Callable[[], Awaitable[None]], int]:
        """What it does, by how often."""
        return {
            self.whole_groups: 6,
            self.open_groups: 8,
            self.members: 6,
            self.refusals: 2,
            self.leavers: 3,
            self.halves: 2,
            self.twice: 2,
        }

    # What is sent.

    def _group(self, name: str, size: int, rng: random.Random | None = None) -> Group:
        rng = rng or self._rng
        prompt = rng.choice([f"{self._tenant} {rng.randrange(30)}", ({"role": "user", "content": f"{self._tenant}"},)])
        return Group(
            name,
            prompt,
            tuple(self._response(rng) for _ in range(size)),
            rng.choice([{}, {"answer": "4"}, {"answer": 2**70, "box": [1.5, 2]}]),
            problem_type=rng.choice(["", "math"]),
            metadata=rng.choice([{}, {"difficulty": 3}]),
            lost=rng.choice([0, 0, 0, 0, 1]),
        )

    def _response(self, rng: random.Random) -> Response:
        text = f"{rng.choice(WORDS) if rng.random() < 0.12 else 'fine'} {rng.randrange(40)}"
        if rng.random() < 0.8:
            return Response(text)
        steps = rng.choice([(), ((0, 4),)])
        return Response(text, tokens=rng.choice([None, 7]), signals=rng.choice([{}, {"entropy": 0.5}]), steps=steps)

    def _call(self, recipe: Recipe) -> Call:
        deadline = self._rng.choice([0, 0, 0, 0, 5_000, 1_000, 100, 20, 1])
        mode = self._rng.choice(["use", "use", "bypass", "read_only", "refresh"])
        call = Call(deadline_ms=deadline, cache=mode, priority=self._rng.choice(["online", "bulk"]))
        scorer = recipe.terms["t0"].scorer
        return replace(call, recipe=scorer) if recipe.bare else replace(call, recipe_text=recipe.text())

    def _case(self, recipe: Recipe, group: Group, call: Call, since: int, **more: object) -> Case:
        excused = (LANES if call.deadline_ms else frozenset()) | (LOST if self._world.killing else frozenset())
        world = self._world
        return Case(recipe, group, call, since, world.asked, excused=excused, fingerprints=world.fingerprints, **more)

    def _name(self) -> str:
        """Ids come again, and those of one tenant are those of the other."""
        return f"{self._number}/{next(self._turn) % 5}"

    # What is done with the answers.

    def _check(self, case: Case, rows: Sequence[tuple[int, Score]], what: str) -> None:
        indices = [index for index, _ in rows]
        ordered = [score for _, score in sorted(rows, key=lambda each: each[0])]
        self._world.statuses.update(str(score.status) for score in ordered)
        why = (
            f"indices {indices} {[*map(str, ordered)]}"
            if sorted(indices) != list(range(len(case.group.responses)))
            else case.wrong(ordered)
        )
        if why:
            raise AssertionError(
                f"{what}: {why}\n{case.group}\n{case.call}\nmissing {case.missing}\n{case.recipe.text()}"
            )

    # What callers do.

    async def whole_groups(self) -> None:
        """Whole groups by each way in, some of no response."""
        recipe = a_recipe(self._rng)
        call, since = self._call(recipe), self._world.version
        groups = [
            self._group(f"w{self._name()}/{n}", self._rng.choice([0, 1, 2, 3, 8]))
            for n in range(self._rng.randint(1, 3))
        ]
        way = self._rng.choice([self.by_rest, self.by_rest_stream, self.by_unary, self.by_client])
        answers = await way(groups, call)
        if [each.id for each in answers] != [each.id for each in groups]:
            raise AssertionError(f"{[each.id for each in answers]} for {[each.id for each in groups]}")
        gone = LANES if call.deadline_ms and way == self.by_client else frozenset()
        for group, scores in zip(groups, answers, strict=True):
            case = self._case(recipe, group, call, since, gone=gone)
            self._check(case, [*zip(scores.indices, scores, strict=True)], way.__name__)

    async def open_groups(self) -> None:
        """Several groups at once on one stream, whole or open, that are closed, filled, given up or left to their deadline,
        some under an id twice."""
        async with self.by_stream() as stream:
            groups = [self._on_stream(stream, f"o{self._name()}/{n}") for n in range(self._rng.randint(1, 4))]
            for finished in [await each for each in groups]:
                await finished()
            if stream.errors:
                raise AssertionError(f"refused: {stream.errors}")
            await stream.end()

    async def _on_stream(self, stream: Stream, name: str):
        rng = random.Random(self._rng.random())
        recipe, since = a_recipe(rng), self._world.version
        call, group = self._call(recipe), self._group(name, rng.choice([0, 1, 2, 5]), rng)
        ending = rng.choice(["close", "close", "expected", "deadline", "cancel"])
        call = replace(call, deadline_ms=rng.choice([50, 300, 1_000])) if ending == "deadline" else call
        missing = 0
        await stream.options(call)
        if rng.random() < 0.25:
            await stream.whole(group)
            ending = ending if ending == "cancel" else "whole"
        else:
            missing = await self._fill(stream, rng, group, call, recipe, ending)
        if ending == "cancel":
            await asyncio.sleep(rng.choice([0, 0.001, 0.02]))
            await stream.send(cancel=pb.Cancel(id=name))

        async def finished() -> None:
            await stream.until(lambda: stream.complete[name] > 0)
            gone = frozenset({Status.CANCELLED}) if ending == "cancel" else frozenset()
            rows = [(index, score) for index, score in stream.rows[name] if group.responses or score.status not in gone]
            came = len(rows) if ending != "whole" and call.deadline_ms else len(group.responses)
            here = replace(group, responses=group.responses[:came])
            case = self._case(recipe, here, call, since, missing=missing, gone=gone)
            if call.deadline_ms and not missing and ending != "whole":
                case.maybe_missing = True  # the deadline may have passed before its Close came
            self._check(case, rows, f"stream {ending}")
            if stream.complete[name] != 1:
                raise AssertionError(f"{name} was complete {stream.complete[name]} times")

        return finished

    async def _fill(
        self, stream: Stream, rng: random.Random, group: Group, call: Call, recipe: Recipe, ending: str
    ) -> int:
        """Opens the group, adds its responses, and closes it where that is its ending; returns how many are missing."""
        late = ending == "deadline" and call.deadline_ms
        count = len(group.responses)
        expected = count if ending == "expected" else count + 2 if late else rng.choice([0, count])
        first = rng.randint(0, count)
        await stream.open(replace(group, responses=group.responses[:first], expected=expected))
        while first < count:
            more = rng.randint(1, count - first)
            if rng.random() < 0.3:
                await asyncio.sleep(rng.choice([0.001, 0.01]))
            await stream.add(group.id, group.responses[first : first + more])
            first += more
        if not late and not (ending == "expected" and count):
            await stream.send(close=pb.Close(id=group.id))
        return 2 if late else 0

    async def members(self) -> None:
        """Single calls by every way in that make up one group, all or not all of it."""
        rng, since, size = self._rng, self._world.version, self._rng.choice([2, 3, 6])
        recipe, absent = a_recipe(rng), rng.choice([0, 0, 0, 1])
        name = f"m{self._name()}" if not absent else f"m{self._number}/absent/{next(self._turn)}"
        group = replace(self._group(name, size), lost=0, expected=size + absent)
        call = replace(self._call(recipe), deadline_ms=3_000 if absent else rng.choice([0, 8_000]))
        parts, start = [], 0
        while start < size:
            end = min(size, start + rng.randint(1, 2))
            parts.append(replace(group, responses=group.responses[start:end]))
            start = end
        if not absent and len(parts) == 1:
            return
        if rng.random() < 0.3:
            answers = await self._together(parts, group, call)
        else:
            answers = await asyncio.gather(*(self._member(part, call) for part in parts))
        rows = [row for found in answers for row in found]
        placed = {index: response for part, found in zip(parts, answers, strict=True)
                  for (index, _), response in zip(found, part.responses, strict=True)}  # fmt: skip
        whole = replace(group, responses=tuple(placed[index] for index in sorted(placed)))
        missing = absent if recipe.needs_group else 0
        gone = LANES | ({Status.INCOMPLETE_GROUP} if absent else set()) if call.deadline_ms else frozenset()
        case = self._case(recipe, whole, call, since, missing=missing, gone=gone)
        self._check(case, rows, "members")

    async def _together(self, parts: Sequence[Group], group: Group, call: Call) -> list[list[tuple[int, Score]]]:
        """The members in one request, beside a whole group of the same id."""
        beside = replace(group, expected=0, prompt="beside")
        way = self._rng.choice([self.by_rest, self.by_unary])
        *answers, apart = await way([*parts, beside], call)
        if [*apart.indices] != [*range(len(group.responses))]:
            raise AssertionError(f"beside members: {apart}")
        return [[*zip(scores.indices, scores, strict=True)] for scores in answers]

    async def halves(self) -> None:
        """A stream that its caller ends closes its groups; one that it breaks off leaves nothing that others would meet."""
        rng, since, recipe = self._rng, self._world.version, a_recipe(self._rng)
        group, call = self._group(f"h{self._name()}", rng.choice([1, 3])), replace(self._call(recipe), deadline_ms=0)
        expected = rng.choice([0, len(group.responses) + 1])
        async with self.by_stream() as stream:
            await stream.options(call)
            await stream.open(replace(group, responses=group.responses[:1], expected=expected))
            await stream.add(group.id, group.responses[1:])
            if rng.random() < 0.3:
                await asyncio.sleep(rng.choice([0, 0.003]))
                return
            await stream.end()
        missing = 1 if expected and recipe.needs_group else 0
        self._check(self._case(recipe, group, call, since, missing=missing), stream.rows[group.id], "halves")

    async def twice(self) -> None:
        """A request sent twice under one key at once has one answer; under another body the key is refused."""
        recipe, since = a_recipe(self._rng), self._world.version
        call, group = replace(self._call(recipe), deadline_ms=0), self._group(f"k{self._name()}", 2)
        key = {"idempotency-key": f"{self._number} {next(self._turn)}", **dict(self._headers)}
        bodies = [{**lines.call_to_json(call), "groups": [lines.group_to_json(each)]} for each in (group, group)]
        replies = await asyncio.gather(*(self._http.post("/v1/score", json=body, headers=key) for body in bodies))
        scores = lines.scores_from_json(replies[0].json()["groups"][0])
        if replies[0].text != replies[1].text and not any(score.retryable for score in scores):
            raise AssertionError(f"twice: {replies[0].text} and {replies[1].text}")
        self._check(self._case(recipe, group, call, since), [*zip(scores.indices, scores, strict=True)], "twice")

    async def leavers(self) -> None:
        """Members of which some go away before they are answered: the others' answers are their own all the same."""
        rng, since = self._rng, self._world.version
        recipe = a_recipe(rng)
        while recipe.needs_group:
            recipe = a_recipe(rng)
        size = rng.choice([3, 5])
        group = replace(self._group(f"l{self._number}/{next(self._turn)}", size), lost=0, expected=size + 1)
        call = replace(self._call(recipe), deadline_ms=rng.choice([0, 8_000]))
        parts = [replace(group, responses=(response,)) for response in group.responses]
        tasks = [asyncio.create_task(self._member(part, call)) for part in parts]
        await asyncio.sleep(rng.choice([0, 0.002, 0.01, 0.03]))
        left = {place for place in range(size) if rng.random() < 0.4}
        for place in left:
            tasks[place].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for place, found in enumerate(answers):
            if place in left and isinstance(found, asyncio.CancelledError):
                continue
            if isinstance(found, BaseException):
                raise found
            ((_, score),) = found
            case = self._case(recipe, parts[place], call, since, gone=LANES if call.deadline_ms else frozenset())
            self._check(case, [(0, score)], "leavers")
        indices = [found[0][0] for found in answers if not isinstance(found, BaseException)]
        if len(set(indices)) < len(indices) and not left:
            raise AssertionError(f"leavers: indices {indices}")

    async def _member(self, part: Group, call: Call) -> list[tuple[int, Score]]:
        await asyncio.sleep(self._rng.choice([0, 0, 0.001, 0.005]))
        way = self._rng.choice([self.by_rest, self.by_unary, None])
        if way is not None:
            (scores,) = await way([part], call)
            return [*zip(scores.indices, scores, strict=True)]
        async with self.by_stream() as stream:
            await stream.options(call)
            await stream.whole(part)
            await stream.end()
            return stream.rows[part.id]

    async def refusals(self) -> None:
        """What a stream does not take is said, once each, and harms no neighbour."""
        recipe, since = a_recipe(self._rng), self._world.version
        group, call = self._group(f"r{self._name()}", 2), replace(self._call(recipe), deadline_ms=0)
        async with self.by_stream() as stream:
            await stream.options(call)
            await stream.open(replace(group, responses=group.responses[:1]))
            await stream.whole(group)
            await stream.open(group)
            await stream.add("nobody", group.responses)
            await stream.send(close=pb.Close(id="nobody"))
            await stream.add(group.id, group.responses[1:])
            await stream.send(close=pb.Close(id=group.id))
            await stream.send(close=pb.Close(id="nobody"))
            await stream.end()
        if [each.code for each in stream.errors] != ["invalid_input"] * 5:
            raise AssertionError(f"refusals: {stream.errors}")
        self._check(self._case(recipe, group, call, since), stream.rows[group.id], "refusals")
