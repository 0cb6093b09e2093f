"""A full lane: what needs it is refused at once and as a whole, what does not is scored."""

import asyncio
from pathlib import Path

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import Unavailable
from rewardhub.types import Call, Group, Response, Status

PLUGIN = Path(__file__).parent.parent / "scheduler" / "pool_verifiers.py"
QUEUE = 4
INLINE = "short: {scorer: length, with: {unit: chars}}"
GROUP = Group("g", "p", (Response("a"), Response("b")))


def call(value, **terms):
    written = "".join(f", {name}: {{{term}}}" for name, term in terms.items())
    return Call(recipe_text=f"name: r\nterms: {{{INLINE}{written}}}\nvalue: {value}", deadline_ms=5_000)


@pytest.fixture
async def full():
    """A hub whose pool has as many responses in hand as it takes."""
    hub = make_hub(HubConfig(workers=1, pool_queue=QUEUE, plugins=(PLUGIN,)))
    await hub.start()
    sleeping = Group("sleeping", "p", (Response("sleep"),) + tuple(Response(f"sleep {n}") for n in range(QUEUE - 1)))
    occupying = asyncio.create_task(hub.score([sleeping], Call(recipe="obedient", deadline_ms=20_000)))
    while hub.scheduler.pool.queued < QUEUE:
        await asyncio.sleep(0.01)
    yield hub
    occupying.cancel()
    await hub.aclose()


async def test_what_needs_a_full_lane_is_refused_whole(full):
    """T05: no term is scored of a group whose value reads a verifier of the full pool, and its statuses say when to come
    again."""
    asked = call("short + slow", slow="scorer: obedient")
    (scores,) = await full.score([GROUP], asked)
    assert scores.total.statuses == [Status.UNAVAILABLE] * 2 and not scores.parts
    assert scores.total.values == [None, None]
    assert all(details["retry_after_s"] > 0 for details in scores.total.details)
    with pytest.raises(Unavailable, match="pool is full"):
        full.check_room("", 1, asked, "")
    with pytest.raises(Unavailable):
        full.check_room("obedient", 1, Call(), "")


@pytest.mark.parametrize(
    ("value", "term"),
    [
        ("short", "scorer: obedient"),
        ("short + if_skipped(slow, 0)", "scorer: obedient, when: short > 9"),
        ("short + slow", "scorer: hybrid"),
        ("where(short > 0, short, slow)", "scorer: obedient"),
        ("short > 0 or slow > 0", "scorer: obedient"),
    ],
    ids=["not read", "condition", "fast path", "other branch", "true beats unknown"],
)
async def test_what_can_do_without_is_scored(full, value, term):
    """A term that the value does not read, that it may do without or that a fast path decides refuses nobody."""
    asked = call(value, slow=term)
    full.check_room("", 2, asked, "")
    digits = Group("g", "p", (Response("1"), Response("2")))
    (scores,) = await full.score([digits], asked)
    assert scores.total.statuses == [Status.OK] * 2


async def test_neighbours_of_what_is_refused_are_scored(full):
    """Of one call, the groups that need no full lane have their scores."""
    groups = [Group("a", "p", GROUP.responses, recipe="obedient"), GROUP]
    refused, scored = await full.score(groups, call("short"))
    assert set(refused.total.statuses) == {Status.UNAVAILABLE}
    assert set(scored.total.statuses) == {Status.OK}


async def test_a_wrong_recipe_is_told_where_it_is_scored(full):
    """The room is no place to say what is wrong with a call."""
    full.check_room("no_such", 1, Call(), "")
    (scores,) = await full.score([GROUP], Call(recipe="no_such"))
    assert scores.total.statuses == [Status.INVALID_INPUT] * 2
