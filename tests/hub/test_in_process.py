"""What a program hands over by mistake to a hub in process: told by name, and at no neighbour's cost."""

import asyncio
import math

import pytest

from rewardhub.errors import Cancelled, InvalidInput
from rewardhub.registry import verifier
from rewardhub.types import Call, Group, Response, Score, Status

from .conftest import oracle

BAD = [
    (Response(None), "responses[1].text"),
    (Response(5), "responses[1].text"),
    (Response(b"b"), "responses[1].text"),
    ("b", "responses[1]"),
    (None, "responses[1]"),
    (Response("b", signals={"entropy": "high"}), "responses[1].signals.entropy"),
    (Response("b", signals={"entropy": math.nan}), "responses[1].signals.entropy"),
    (Response("b", signals={"entropy": 10**400}), "responses[1].signals.entropy"),
]


@pytest.mark.parametrize(("bad", "field"), BAD)
@pytest.mark.parametrize("recipe", ["oracle", "dear", "pooled", "boxed"])
async def test_a_malformed_response_costs_itself(hub, registry, bad, field, recipe):
    """T02: it is invalid input, named by its place, on every lane; the others are scored, the next group too."""
    for lane in ("pool", "sandbox"):
        registry.add(verifier({"pool": "pooled", "sandbox": "boxed"}[lane], lane=lane, fast=length)(length))
    group = Group("g", "p", (Response("a"), bad, Response("c")))
    first, second = await hub.score([group, Group("h", "p", (Response("a"),))], Call(recipe=recipe))
    assert first.total.statuses == [Status.OK, Status.INVALID_INPUT, Status.OK]
    assert first.total.details[1]["field"] == field
    expected = [oracle("p", "a"), None, oracle("p", "c")] if recipe in {"oracle", "dear"} else [0.01, None, 0.01]
    assert (first.values, first.indices) == (expected, [0, 1, 2])
    assert second.values == expected[:1]


def length(response, reference) -> float:
    """The text's length."""
    return len(response.text) / 100


async def test_what_is_left_of_a_group(hub):
    """A malformed response is a member that is lost: a strict group has no value over the others."""
    group = Group("g", "p", (Response("a"), Response(None), Response("c")), expected=3)
    text = "name: s\ngroup_strict: true\nterms: {o: {scorer: oracle}}\nvalue: o - g_mean(o)"
    (scores,) = await hub.score([group], Call(recipe_text=text))
    assert scores.total.statuses == [Status.INCOMPLETE_GROUP, Status.INVALID_INPUT, Status.INCOMPLETE_GROUP]
    assert scores.parts["o"].values == [oracle("p", "a"), None, oracle("p", "c")]


async def test_a_malformed_member_of_an_open_group(hub):
    """It is refused as it comes, and the group goes on."""
    opened = hub.open(Group("g", "p"), Call(recipe="oracle"))
    with pytest.raises(InvalidInput, match=r"responses\[1\]\.text is NoneType"):
        opened.add([Response("a"), Response(None)])
    opened.add([Response("a")])
    opened.close()
    assert [value async for scores in opened for value in scores.values] == [oracle("p", "a")]
    with pytest.raises(InvalidInput, match="is NoneType"):
        hub.open(Group("g", "p", (Response(None),)), Call(recipe="oracle"))
    assert (len(hub._opened), hub._opened.responses) == (0, 0)


@pytest.mark.parametrize("field", ["reference", "metadata", "expected", "lost"])
async def test_a_group_of_other_things(hub, field):
    """A reference that is no object is the caller's fault, not the scorer's; neighbours are scored."""
    wrong = -3 if field in {"expected", "lost"} else ["x"]
    groups = [Group("g", "p", (Response("a"),), **{field: wrong}), Group("h", "p", (Response("a"),))]
    bad, good = await hub.score(groups, Call(recipe="oracle"))
    assert (bad.total.statuses, bad.total.details[0]["field"]) == ([Status.INVALID_INPUT], field)
    assert good.values == [oracle("p", "a")]
    with pytest.raises(InvalidInput, match=field):
        hub.open(groups[0], Call(recipe="oracle"))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"priority": "high"}, "priority is 'high'; known: bulk, online"),
        ({"cache": "byass"}, "did you mean 'bypass'"),
        ({"deadline_ms": 10**400}, "deadline_ms is no number of milliseconds"),
        ({"deadline_ms": math.nan}, "deadline_ms"),
        ({"deadline_ms": "60"}, "deadline_ms"),
        ({"inputs": {"stage": "two"}}, r"inputs\.stage"),
        ({"inputs": {"stage": math.inf}}, r"inputs\.stage"),
    ],
)
async def test_options_that_are_none_are_refused(hub, wrong, match):
    """Law 6: a priority that no queue knows was a call that nobody served until its deadline; now it is refused."""
    call, group = Call(recipe="oracle", **wrong), Group("g", "p", (Response("a"),))
    async with asyncio.timeout(5):
        with pytest.raises(InvalidInput, match=match):
            await hub.score([group], call)
        with pytest.raises(InvalidInput, match=match):
            hub.open(group, call)


@pytest.mark.parametrize("deadline_ms", [-1, -(10**6), 0.5, 2**53])
async def test_odd_deadlines(hub, dear, deadline_ms):
    """T03: one that has passed is a timeout without a value, a distant one is none."""
    dear.delay_s = 0.05
    group = Group("g", "p", (Response("a"),))
    (scores,) = await hub.score([group], Call(recipe="dear", deadline_ms=deadline_ms))
    assert scores.values == ([oracle("p", "a")] if deadline_ms > 1 else [None])
    assert scores.total.statuses == [Status.OK if deadline_ms > 1 else Status.TIMEOUT]


@pytest.mark.parametrize(("error", "told"), [(asyncio.CancelledError, Cancelled), (ValueError, ValueError)])
async def test_a_producer_that_ends_a_stream(hub, error, told):
    """Whatever the groups' iterable raises reaches who waits for scores, who would wait for ever."""

    def groups():
        yield Group("g", "p", (Response("a"),))
        raise error

    async with asyncio.timeout(5):
        with pytest.raises(told):
            async for scores in hub.stream(groups(), Call(recipe="oracle")):
                assert scores.values == [oracle("p", "a")]


@verifier("draws")
def draws(response, reference) -> Score:
    """What the response says as a picture in base64."""
    return Score(1.0, details={"text": "drawn", "image": response.text})


async def test_a_picture_that_is_none_costs_its_response(hub, registry):
    """A term's picture that is not base64 is an error of its row alone."""
    registry.add(draws)
    text = "name: d\nterms: {a: {scorer: draws}, b: {scorer: oracle, input: a}}\nvalue: b"
    (scores,) = await hub.score([Group("g", "p", tuple(map(Response, ("AAAA", "A", "żółć"))))], Call(recipe_text=text))
    assert scores.values == [oracle("p", "drawn"), None, None]
    assert scores.total.statuses[1:] == [Status.INTERNAL_ERROR] * 2
    assert "a made a picture that is not base64" in scores.total.details[1]["reason"]
