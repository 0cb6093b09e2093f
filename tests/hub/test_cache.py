"""What is cached, what is not, and how often anything is computed."""

import asyncio
from dataclasses import replace

from rewardhub.types import Call, Column, Group, Response, Status

from .conftest import Dear, oracle


def one(text, **fields):
    return Group("g", "p", (Response(text),), **fields)


async def test_dear_scores_are_computed_once(hub, dear):
    """The second request is answered from memory and says so."""
    call = Call(recipe="dear")
    first, second = [(await hub.score([one("x")], call))[0][0] for _ in range(2)]
    assert dear.computed == ["x"]
    assert (first.cached, second.cached) == (False, True)
    assert first.value == second.value == oracle("p", "x")


async def test_modes(hub, dear):
    """bypass neither reads nor writes, read_only does not write, refresh computes anew."""
    for mode, expected in (("bypass", 1), ("read_only", 2), ("use", 3), ("use", 3), ("refresh", 4), ("read_only", 4)):
        await hub.score([one("x")], Call(recipe="dear", cache=mode))
        assert len(dear.computed) == expected, mode


async def test_a_score_that_a_reader_computed_is_kept_for_who_keeps_it(hub, dear):
    """A call that may write and waits for one that may not remembers what it got; a call that may not still does not."""
    dear.gate = asyncio.Event()
    tasks = []
    for mode in ("read_only", "read_only", "use"):
        tasks.append(asyncio.create_task(hub.score([one("x")], Call(recipe="dear", cache=mode))))
        tasks.append(asyncio.create_task(hub.score([one("y")], Call(recipe="dear", cache="read_only"))))
        await asyncio.sleep(0.02)
    dear.gate.set()
    await asyncio.gather(*tasks)
    assert sorted(dear.computed) == ["x", "y"]
    for text, cached in (("x", True), ("y", False)):
        assert (await hub.score([one(text)], Call(recipe="dear")))[0][0].cached is cached


async def test_who_edits_details_changes_no_later_score(hub, dear, monkeypatch):
    """Law 7: a trainer in process may write into what it got, first, known or waited for; the cache keeps its own."""
    score = dear.score_remote

    async def detailed(group, indices, context):
        column = await score(group, indices, context)
        return replace(column, details=[{"weight": 1.0, "more": [{"w": 1.0}]} for _ in indices])

    monkeypatch.setattr(dear, "score_remote", detailed)
    call = Call(recipe_text="name: r\nterms: {d: {scorer: dear}}\nvalue: detail(d, 'weight', 7)")
    for _ in range(3):
        asked = (hub.score([one("x"), one("x")], call) for _ in range(2))
        for scores in [each for answer in await asyncio.gather(*asked) for each in answer]:
            (details,) = scores.parts["d"].details
            assert (scores.values, details) == ([1.0], {"weight": 1.0, "more": [{"w": 1.0}]})
            details["weight"] = 100.0
            details["more"][0]["w"] = 100.0
    assert dear.computed == ["x"]


async def test_a_group_that_is_no_json_is_the_callers_fault(hub):
    """What has no key, as bytes in a reference of a hub in process, is told to the caller, and not that we failed."""
    for reference in ({"a": b"x"}, {"a": {"ab"}}, {1: "x"}):
        (scores,) = await hub.score([one("x", reference=reference)], Call(recipe="dear"))
        assert (scores[0].status, scores[0].value) == (Status.INVALID_INPUT, None)
        assert "JSON" in scores[0].details["reason"]


async def test_twins_in_flight_share_one_computation(hub, dear):
    """T30: 100 identical requests at once are one execution."""
    dear.gate = asyncio.Event()
    tasks = [asyncio.create_task(hub.score([one("x")], Call(recipe="dear"))) for _ in range(100)]
    await asyncio.sleep(0.05)
    dear.gate.set()
    answers = await asyncio.gather(*tasks)
    assert dear.computed == ["x"]
    assert {scores[0].value for (scores,) in answers} == {oracle("p", "x")}


async def test_a_cancelled_leader_does_not_cancel_its_followers(hub, dear):
    """T30: when the first caller goes away one of the others is its successor, and the score is cached."""
    dear.gate = asyncio.Event()
    leader = asyncio.create_task(hub.score([one("x")], Call(recipe="dear")))
    await asyncio.sleep(0.01)
    followers = [asyncio.create_task(hub.score([one("x")], Call(recipe="dear"))) for _ in range(50)]
    await asyncio.sleep(0.05)
    leader.cancel()
    dear.gate.set()
    answers = await asyncio.gather(*followers)
    assert {scores[0].status for (scores,) in answers} == {Status.OK}
    assert dear.computed == ["x", "x"]
    (scores,) = await hub.score([one("x")], Call(recipe="dear"))
    assert scores[0].cached
    assert len(dear.computed) == 2


async def test_a_leader_out_of_time_has_one_successor(hub, dear):
    """T30: when the deadline of the first caller passes the others, which have more time, compute once for all."""
    dear.gate = asyncio.Event()
    leader = asyncio.create_task(hub.score([one("x")], Call(recipe="dear", deadline_ms=1000)))
    while not dear.computed:
        await asyncio.sleep(0.01)
    followers = [asyncio.create_task(hub.score([one("x")], Call(recipe="dear"))) for _ in range(50)]
    (late,) = await leader
    assert late[0].status is Status.TIMEOUT
    dear.gate.set()
    answers = await asyncio.gather(*followers)
    assert {scores[0].status for (scores,) in answers} == {Status.OK}
    assert dear.computed == ["x", "x"]


async def test_an_online_twin_of_a_bulk_row_is_tried_in_time(hub, registry):
    """T06, T30: who shares a row with a call that waits in a long queue does not share its place in it."""

    class Queue(Dear):
        async def score_remote(self, group, indices, context):
            if context.priority == "bulk":
                await asyncio.Event().wait()
            return await super().score_remote(group, indices, context)

    registry.add(queue := Queue("queue"))
    bulk = asyncio.create_task(hub.score([one("x")], Call(recipe="queue", priority="bulk")))
    await asyncio.sleep(0.01)
    (scores,) = await hub.score([one("x")], Call(recipe="queue", deadline_ms=2000))
    assert scores[0].value == oracle("p", "x")
    assert queue.computed == ["x"]
    bulk.cancel()


async def test_failures_are_not_cached(hub, dear):
    """A failure is computed again."""
    dear.fail = {"x"}
    (scores,) = await hub.score([one("x")], Call(recipe="dear"))
    assert scores[0].status is Status.UNAVAILABLE
    dear.fail = set()
    (scores,) = await hub.score([one("x")], Call(recipe="dear"))
    assert scores[0].value == oracle("p", "x")


async def test_failures_are_not_fanned_out(hub, dear):
    """T30: the leader fails while others wait for it: one computes for all, and none gets the leader's failure."""
    gate = dear.gate = asyncio.Event()
    dear.fail = {"x"}
    tasks = [asyncio.create_task(hub.score([one("x")], Call(recipe="dear"))) for _ in range(10)]
    await asyncio.sleep(0.3)
    assert dear.computed == ["x"]
    gate.set()
    dear.gate = asyncio.Event()
    (failed,) = await tasks[0]
    assert failed[0].status is Status.UNAVAILABLE
    async with asyncio.timeout(10):
        while len(dear.computed) < 2:
            await asyncio.sleep(0.01)
    dear.fail = set()
    dear.gate.set()
    answers = await asyncio.gather(*tasks[1:])
    assert {scores[0].value for (scores,) in answers} == {oracle("p", "x")}
    assert dear.computed == ["x", "x"]


async def test_any_ingredient_of_the_input_changes_the_key(hub, dear):
    """T31: fingerprint, prompt, reference, metadata, media space, text, steps and signals are input."""
    call = Call(recipe="dear")
    variants = [
        one("x"),
        one("y"),
        Group("g", "q", (Response("x"),)),
        one("x", reference={"answer": "1"}),
        one("x", reference={"answer": 1}),
        one("x", metadata={"k": 1}),
        one("x", problem_type="t"),
        Group("g", "p", (Response("x", steps=((0, 1),)),)),
        Group("g", "p", (Response("x", signals={"s": 1.0}),)),
    ]
    await hub.score(variants, call)
    assert len(dear.computed) == len(variants)
    dear.version = "2"
    await hub.score(variants, call)
    assert len(dear.computed) == 2 * len(variants)


async def test_what_a_scorer_never_reads_is_not_input(hub, registry):
    """A scorer that declares so is given no token counts, signals, metadata and types, and none of them is a miss."""

    class Blind(Dear):
        @property
        def info(self):
            return replace(super().info, signals=False, metadata=False)

        async def score_remote(self, group, indices, context):
            assert not group.metadata
            assert not group.problem_type
            assert not any(each.signals or each.tokens is not None for each in group.responses)
            return await super().score_remote(group, indices, context)

    registry.add(blind := Blind("blind"))
    told = Response("x", tokens=3, signals={"s": 1.0})
    groups = [
        one("x"),
        Group("g", "p", (told, Response("x", signals={"s": 2.0}), Response("y", tokens=1))),
        Group("g", "p", (told,), metadata={"k": 1}, problem_type="t"),
    ]
    for group in groups:
        (scores,) = await hub.score([group], Call(recipe="blind"))
        assert scores.values == [oracle("p", each.text) for each in group.responses]
    assert sorted(blind.computed) == ["x", "y"]
    steps = Group("g", "p", (replace(told, steps=((0, 1),)),))
    assert (await hub.score([steps], Call(recipe="blind")))[0][0].cached is False


async def test_identity_is_not_input(hub, dear):
    """The group's id, the run, the step and the priority do not change the key."""
    await hub.score([one("x")], Call(recipe="dear"))
    await hub.score([Group("other", "p", (Response("x"),))], Call(recipe="dear", run="r", step=3, priority="bulk"))
    assert dear.computed == ["x"]


async def test_equal_responses_of_a_group_are_scored_once(hub, dear):
    """Duplicates inside one group cost one computation."""
    group = Group("g", "p", (Response("x"), Response("y"), Response("x")))
    (scores,) = await hub.score([group], Call(recipe="dear"))
    assert sorted(dear.computed) == ["x", "y"]
    assert scores.values == [oracle("p", "x"), oracle("p", "y"), oracle("p", "x")]


async def test_only_plain_texts_are_duplicates_of_each_other(hub, registry):
    """A trajectory without a text beside two empty responses gets the score of what it did, not theirs."""

    class Turns(Dear):
        @property
        def info(self):
            return replace(super().info, deterministic=False)

        async def score_remote(self, group, indices, context):
            values = [float(len(group.responses[index].messages)) for index in indices]
            return Column(values, [Status.OK] * len(values), self.fingerprint)

    registry.add(Turns("turns"))
    turn = {"role": "assistant", "content": "x"}
    responses = (Response(""), Response("", messages=(turn,)), Response(""), Response("", messages=(turn, turn)))
    (scores,) = await hub.score([Group("g", "p", responses)], Call(recipe="turns"))
    assert scores.values == [0.0, 1.0, 0.0, 2.0]
