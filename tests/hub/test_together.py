"""Many groups in one call: each is scored as if it were alone, and none waits for another's lane."""

import asyncio

import pytest

from rewardhub.registry import verifier
from rewardhub.types import Call, Group, Response, Status

from .conftest import oracle

WAVES = "name: waves\nterms: {a: {scorer: match}, b: {scorer: dear, when: a < 1}}\nvalue: a + if_skipped(b, 0)"
CALL = Call(recipe_text=WAVES)


def group(name, *texts, **fields):
    return Group(name, f"prompt {name}", tuple(map(Response, texts)), {"answer": "right"}, **fields)


MIXED = [
    group("rules", "right", "wrong", "", recipe="match"),
    group("waves", "right", "wrong"),
    group("all right", "right", "right"),
    group("unknown", "x", recipe="matchh"),
    group("crash", "fine", "boom", recipe="crash"),
    group("spread", "a", "aaaa", recipe="spread"),
    group("dear", "x", "y", recipe="dear"),
    group("nothing", recipe="match"),
    Group("no reference", "p", (Response("x"),), recipe="match"),
]


def told(scores):
    """All that the caller is told, but for the time it took and whether it was known."""
    rows = [
        (score.value, score.status, score.details, score.fingerprint, [*score.parts.items()] and [
            (path, part.value, part.status, part.details, part.fingerprint) for path, part in score.parts.items()
        ])
        for score in scores
    ]  # fmt: skip
    return scores.id, scores.indices, scores.complete, rows


@pytest.mark.parametrize("mode", ["use", "bypass", "read_only", "refresh"])
async def test_a_group_is_scored_as_if_it_were_alone(hub, mode):
    """Rules, conditions, failures, unknown names and dear scorers side by side, first unknown and then known."""
    call = Call(recipe_text=WAVES, cache=mode)
    for _ in range(2):
        together = await hub.score(MIXED, call)
        alone = [(await hub.score([each], call))[0] for each in MIXED]
        assert [told(each) for each in together] == [told(each) for each in alone]
    statuses = [set(each.total.statuses) for each in together]
    assert statuses[1] == statuses[2] == {Status.OK}
    assert statuses[3] == {Status.INVALID_INPUT}
    assert Status.INTERNAL_ERROR in statuses[4]


async def test_what_is_known_is_told_group_by_group(hub, dear):
    """A second call computes only what the first had not."""
    await hub.score([group("a", "x", recipe="dear")], CALL)
    both = [group("a", "x", recipe="dear"), group("b", "y", recipe="dear")]
    first, second = await hub.score(both, CALL)
    assert (first[0].cached, second[0].cached) == (True, False)
    assert dear.computed == ["x", "y"]
    assert hub.scheduler.cache.hits == 1


async def test_a_group_that_waits_holds_up_no_other(hub, dear):
    """The twins' second wave runs while another group's first one hangs; all answers come in order."""
    dear.gate = asyncio.Event()
    calls = asyncio.create_task(hub.score([group("slow", "x", recipe="dear"), *MIXED[:2]], CALL))
    async with asyncio.timeout(10):
        while len(dear.computed) < 2:
            await asyncio.sleep(0.001)
    dear.gate.set()
    slow, rules, waves = await calls
    assert slow.values == [oracle("prompt slow", "x")]
    assert rules.values == [1.0, 0.0, 0.0]
    assert waves.values == [1.0, oracle("prompt waves", "wrong")]


async def test_members_of_an_open_group_wait_beside_whole_ones(hub):
    """A member that comes in the same call as whole groups does not keep them; its twin comes later."""
    member = group("open", "right", recipe="match", expected=2)
    first = asyncio.create_task(hub.score([member, *MIXED[:1]], Call()))
    await asyncio.sleep(0.01)
    second = await hub.score([group("open", "wrong", recipe="match", expected=2)], Call())
    (opened, whole), ((other,)) = await first, second
    assert (opened.values, opened.indices) == ([1.0], [0])
    assert (other.values, other.indices) == ([0.0], [1])
    assert whole.values == [1.0, 0.0, 0.0]


async def test_no_groups_are_no_answers(hub):
    """An empty call is answered with an empty list."""
    assert await hub.score([], Call(recipe="match")) == []


@pytest.mark.parametrize("recipe", ["match", "crash", "spread"])
async def test_a_group_that_is_none_costs_itself(hub, recipe):
    """R2: what a program in process hands over by mistake is an error of its group, and of no other in the call."""
    well = group("well", "right", recipe=recipe)
    wrong = [
        Group(name, "p", (each,), {"answer": "right"}, recipe=recipe)
        for name, each in (("n", Response(None)), ("s", "x"))
    ]
    answers = await hub.score([well, *wrong, well], CALL)
    assert [[str(status) for status in scores.total.statuses] for scores in answers] == [
        ["ok"], ["invalid_input"], ["invalid_input"], ["ok"],
    ]  # fmt: skip


async def test_each_group_is_held_to_its_own_versions(hub, registry, dear):
    """T23: a model that is exchanged while groups of a pinned run are scored gives none of them another version's value,
    whichever group of the call comes first."""

    @verifier("exchange")
    def exchange(response, reference):
        dear.version = "2"
        return 1.0

    registry.add(exchange)
    dear.version = "2"
    await hub.score([group("b", "x")], Call(recipe="dear"))
    dear.version = "1"
    plain = "name: p\nterms: {f: {scorer: exchange}, o: {scorer: oracle, when: f > 0}}\nvalue: o"
    model = "name: m\nterms: {f: {scorer: exchange}, d: {scorer: dear, when: f > 0}}\nvalue: d"
    texts = {"plain": plain, "model": model}
    plans = {name: hub.book.resolve("", Call(recipe_text=text), "") for name, text in texts.items()}
    hub.book.resolve = lambda recipe, call, tenant: plans[recipe]
    first, second = await hub.score([group("a", "x", recipe="plain"), group("b", "x", recipe="model")], Call(run="r"))
    assert first.total.statuses == [Status.OK]
    assert (second.total.statuses, second.values) == ([Status.INVALID_INPUT], [None])
    assert "send repin" in second.total.details[0]["reason"]
