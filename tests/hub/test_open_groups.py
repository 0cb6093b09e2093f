"""Open groups: responses come one by one, the scores are those of the whole group."""

import asyncio
import gc
import inspect
from dataclasses import replace

import pytest

from rewardhub.client.settings import Settings
from rewardhub.errors import InvalidInput, Unavailable
from rewardhub.server.serving import serve
from rewardhub.types import MAX_RESPONSES, Call, Group, Response, Status

from .conftest import oracle

RELATIVE = 'name: rel\nterms: {o: {scorer: oracle}, s: {scorer: spread}}\nvalue: "o + s - g_mean(o)"'

CONDITIONAL = 'name: if\nterms: {d: {scorer: dear}, o: {scorer: oracle, when: "d >= 0"}}\nvalue: "d + o"'


def whole(n, size=8):
    return Group(f"g{n}", f"prompt {n}", tuple(Response(f"{n} " * (k + 1)) for k in range(size)))


@pytest.mark.parametrize("call", [Call(recipe_text=RELATIVE), Call(recipe="oracle"), Call(recipe="dear")])
async def test_single_calls_equal_whole_groups(hub, call):
    """64 single calls for 8 prompts give the scores of 8 whole groups."""
    groups = [whole(n) for n in range(8)]
    expected = await hub.score(groups, call)
    singles = [
        (n, k, Group(group.id, group.prompt, (response,), expected=8))
        for n, group in enumerate(groups)
        for k, response in enumerate(group.responses)
    ]
    answers = await asyncio.gather(*(hub.score([single], call) for _, _, single in singles))
    for (n, _, single), (scores,) in zip(singles, answers, strict=True):
        (index,) = scores.indices
        text = single.responses[0].text
        place = [response.text for response in groups[n].responses].index(text)
        assert scores.values == [expected[n].values[place]]
        assert 0 <= index < 8
    assert not len(hub._opened)


async def test_what_cannot_be_opened_leaves_nothing(hub, caplog):
    """A group that comes with more responses than it expects is refused, and does not end a second time later."""
    with pytest.raises(InvalidInput, match="expected 1"):
        hub.open(Group("g", "p", (Response("a"), Response("b")), expected=1), Call(recipe="oracle", deadline_ms=20))
    await asyncio.sleep(0.1)
    gc.collect()  # what was never told is logged then
    assert not caplog.records


async def test_draining_waits_for_no_member(hub):
    """R8: a hub that drains refuses members, so it ends the groups that wait for one and answers those that came."""
    waiting = Group("g", "p", (Response("a"), Response("b")), expected=3)
    asked = asyncio.create_task(hub.score([waiting], Call(recipe_text=RELATIVE)))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await hub.drain(30)
        (scores,) = await asked
    assert len(scores) == 2 and not len(hub._opened)


@pytest.mark.parametrize(("recipe", "value"), [(Call(recipe_text=RELATIVE), None), (Call(recipe="oracle"), 1.0)])
async def test_draining_gives_no_value_over_a_part(hub, recipe, value):
    """T20, law 1: a hub that drains has no value for what needs a group that its caller has not closed, and says to
    send it again; what needs no other member is scored."""
    opened = hub.open(Group("g", "p", (Response("a"), Response("b"))), recipe)
    await hub.drain(5)
    received = [scores async for scores in opened]
    assert received[-1].complete
    scores = [score for each in received for score in each]
    assert [score.status for score in scores] == [Status.OK if value else Status.UNAVAILABLE] * 2
    assert all((score.value is None) == (value is None) for score in scores)
    assert value or scores[0].details["retry_after_s"] > 0


async def test_the_tries_of_a_client_outlast_a_drain(hub):
    """R8: who keeps to the retry-after of a hub that drains has a try left when the longest drain is over."""
    await hub.drain(5)
    with pytest.raises(Unavailable) as refused:
        hub.admit()
    grace_s = inspect.signature(serve).parameters["grace_s"].default
    assert Settings("http://127.0.0.1:1").retries * refused.value.retry_after_s >= grace_s


async def test_a_group_that_nobody_closed_is_incomplete(hub):
    """Group-wide parts of a group that expects no number of members and is never closed have no value either."""
    two = (Response("a"), Response("b"))
    opened = hub.open(Group("g", "p", two), Call(recipe_text=RELATIVE, deadline_ms=50))
    (scores,) = [scores async for scores in opened]
    assert scores.total.statuses == [Status.INCOMPLETE_GROUP] * 2


@pytest.mark.parametrize("call", [Call(recipe_text=RELATIVE), Call(recipe="dear")])
async def test_a_group_ends_with_the_last_of_its_callers(hub, dear, call):
    """Members whose callers all went away before they were answered hold nothing in hand; another try finds a group of
    its own."""
    dear.gate = asyncio.Event()
    asked = [
        asyncio.create_task(hub.score([Group("g", "p", (Response(text),), expected=3)], call)) for text in ("a", "b")
    ]
    await asyncio.sleep(0.05)
    assert hub._opened.responses == 2
    asked[0].cancel()
    await asyncio.sleep(0.01)
    assert len(hub._opened) == 1
    asked[1].cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert (len(hub._opened), hub._opened.responses, hub._responses) == (0, 0, 0)
    dear.gate.set()
    again = [hub.score([Group("g", "p", (Response(text),), expected=3)], call) for text in ("a", "b", "c")]
    answers = await asyncio.gather(*again)
    assert sorted(scores.indices[0] for (scores,) in answers) == [0, 1, 2]
    assert all(scores.total.statuses == [Status.OK] for (scores,) in answers)


async def test_a_group_whose_callers_were_answered_ends_soon(hub, monkeypatch):
    """Law 9: single calls that name more members than ever come hold nothing for the ten minutes of an open group."""
    monkeypatch.setattr("rewardhub.open_groups.LINGER_S", 0.2)
    call = Call(recipe="oracle")

    async def one(text):
        (scores,) = await hub.score([Group("g", "p", (Response(text),), expected=9)], call)
        assert set(scores.total.statuses) == {Status.OK}
        return scores.indices

    assert [await one(text) for text in ("a", "b")] == [[0], [1]]
    assert hub._opened.responses == 2
    while len(hub._opened):
        await asyncio.sleep(0.02)
    assert hub._opened.responses == 0


async def test_what_was_not_told_is_told_at_the_end(hub, dear):
    """Law 2: members that are cancelled before their scores came get that status, those that had theirs nothing more."""
    opened = hub.open(Group("g", "p"), Call(recipe="dear"))
    answers = aiter(opened)
    opened.add([Response("a")])
    assert (await anext(answers)).indices == [0]
    dear.gate = asyncio.Event()
    opened.add([Response("b"), Response("c")])
    await asyncio.sleep(0.05)
    opened.cancel()
    last = await anext(answers)
    assert (last.complete, last.indices, last.total.statuses) == (True, [1, 2], [Status.CANCELLED] * 2)


async def test_a_stream_of_adds(hub):
    """Response-wide totals come at each add, the last message is complete."""
    opened = hub.open(Group("g", "p"), Call(recipe="oracle"))
    opened.add([Response("a"), Response("b")])
    opened.add([Response("c")])
    opened.close()
    received = [scores async for scores in opened]
    assert received[-1].complete
    indices = [index for scores in received for index in scores.indices]
    assert sorted(indices) == [0, 1, 2]


async def test_a_later_member_may_be_scored_earlier(hub, dear):
    """A condition on a member looks at its own row, however many rows others have added and scored meanwhile."""
    call = Call(recipe_text=CONDITIONAL)
    (known,) = await hub.score([Group("k", "p", (Response("b"),))], call)
    dear.gate = asyncio.Event()
    opened = hub.open(Group("g", "p"), call)
    opened.add([Response("a")])
    opened.add([Response("b")])
    await asyncio.sleep(0.05)
    dear.gate.set()
    opened.close()
    received = [scores async for scores in opened]
    values = {index: value for scores in received for index, value in zip(scores.indices, scores.values, strict=True)}
    assert values == {0: 2 * oracle("p", "a"), 1: known.values[0]}


async def test_group_wide_values_wait_for_close(hub):
    """Nothing comes before the group is whole; then everything does."""
    opened = hub.open(Group("g", "p"), Call(recipe_text=RELATIVE))
    opened.add([Response("a")])
    opened.add([Response("bb")])
    await asyncio.sleep(0.05)
    assert opened._out.empty()
    opened.close()
    (scores,) = [scores async for scores in opened]
    assert scores.complete
    assert scores.indices == [0, 1]
    assert all(score.status is Status.OK for score in scores)


async def test_missing_members_are_told(hub):
    """At the deadline, group-wide parts of a group whose members never came are incomplete."""
    call = Call(recipe_text=RELATIVE, deadline_ms=100)
    (scores,) = await hub.score([Group("g", "p", (Response("a"),), expected=3)], call)
    assert scores[0].value is None
    assert scores[0].status is Status.INCOMPLETE_GROUP
    assert scores[0].parts["o"].status is Status.OK


async def test_calls_that_do_not_agree_are_refused(hub):
    """A single call must name the same prompt as the group it joins."""
    call = Call(recipe="oracle", deadline_ms=200)
    first = asyncio.create_task(hub.score([Group("g", "p", (Response("a"),), expected=3)], call))
    await asyncio.sleep(0.01)
    (scores,) = await hub.score([Group("g", "other", (Response("b"),), expected=3)], call)
    assert scores[0].status is Status.INVALID_INPUT
    assert "prompt differs" in scores[0].details["reason"]
    await first


async def test_no_more_than_expected(hub):
    """Adds over the expected number and after close are refused."""
    opened = hub.open(Group("g", "p", expected=2), Call(recipe="oracle"))
    opened.add([Response("a")])
    with pytest.raises(InvalidInput, match="expected 2"):
        opened.add([Response("b"), Response("c")])
    opened.close()
    with pytest.raises(InvalidInput, match="closed"):
        opened.add([Response("b")])


@pytest.mark.parametrize("value", ["d", "g_mean(d)"])
async def test_cancel(hub, dear, value):
    """A cancelled group answers each of its rows as cancelled, but for those that were told before."""
    opened = hub.open(Group("g", "p"), Call(recipe_text=f"name: c\nterms: {{d: {{scorer: dear}}}}\nvalue: {value}"))
    opened.add([Response("a")])
    await asyncio.sleep(0.05)
    dear.delay_s = 5
    opened.add([Response("b"), Response("c")])
    await asyncio.sleep(0.05)
    opened.cancel()
    received = [scores async for scores in opened]
    told = [
        (index, status) for each in received for index, status in zip(each.indices, each.total.statuses, strict=True)
    ]
    first = Status.OK if value == "d" else Status.CANCELLED
    assert told == [(0, first), (1, Status.CANCELLED), (2, Status.CANCELLED)]
    assert received[-1].complete


async def test_members_share_their_media(hub):
    """Single calls that carry the image's bytes, and those that only name it, join one group."""
    import io

    from PIL import Image

    from rewardhub.types import Media

    data = io.BytesIO()
    Image.new("RGB", (4, 4)).save(data, "PNG")
    image = Media.from_bytes(data.getvalue())
    named = Media(sha256=image.sha256)
    singles = [
        Group("g", "p", (Response(str(k)),), media=(media,), expected=2) for k, media in enumerate((image, named))
    ]
    answers = await asyncio.gather(*(hub.score([single], Call(recipe="oracle")) for single in singles))
    assert [scores[0].status for (scores,) in answers] == [Status.OK] * 2


async def test_adding_nothing_closes_nothing(hub):
    """An empty add leaves a group open."""
    opened = hub.open(Group("g", "p"), Call(recipe="oracle"))
    opened.add([])
    opened.add([Response("a")])
    opened.close()
    assert sorted(index for scores in [s async for s in opened] for index in scores.indices) == [0]


@pytest.mark.parametrize("call", [Call(recipe_text=RELATIVE), Call(recipe="oracle")])
async def test_a_fault_of_ours_ends_the_group(hub, monkeypatch, call):
    """An unexpected error while scoring answers every row as an internal error; nobody waits for ever."""
    from rewardhub.recipes.execution import Execution

    async def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(Execution, "advance", broken)
    opened = hub.open(Group("g", "p", (Response("a"),)), call)
    opened.close()
    (scores,) = [scores async for scores in opened]
    assert [score.status for score in scores] == [Status.INTERNAL_ERROR]
    assert scores.values == [None]


async def test_open_groups_are_bounded(hub):
    """An open group has at most as many members as a whole one, and members count among the responses in hand."""
    opened = hub.open(Group("g", "p"), Call(recipe="oracle"))
    opened.add([Response("a")] * MAX_RESPONSES)
    with pytest.raises(InvalidInput, match="16384"):
        opened.add([Response("b")])
    with pytest.raises(InvalidInput, match="at most 16384"):
        hub.open(Group("h", "p", expected=MAX_RESPONSES + 1), Call(recipe="oracle"))
    hub._limits = replace(hub._limits, responses=MAX_RESPONSES)
    second = None
    with pytest.raises(Unavailable):
        second = hub.open(Group("i", "p"), Call(recipe="oracle"))
    assert second is None
    opened.close()
    async for scores in opened:
        if scores.complete:
            break
    assert hub._opened.responses == 0
    assert (await hub.score([whole(1)], Call(recipe="oracle")))[0].values


@pytest.mark.parametrize(
    ("first", "second", "field"),
    [
        (Call(recipe="oracle"), Call(recipe="match"), "recipe"),
        (Call(recipe="oracle"), Call(recipe="oracle", inputs={"x": 1.0}), "inputs"),
        (Call(recipe="oracle"), Call(recipe="oracle", cache="bypass"), "cache"),
        (Call(recipe="oracle", priority="bulk"), Call(recipe="oracle"), "priority"),
        (Call(recipe="oracle", run="a"), Call(recipe="oracle", run="b"), "run"),
    ],
)
async def test_members_are_scored_as_they_ask(hub, first, second, field):
    """A member whose call asks otherwise than the first one's is refused, naming both values, and not scored by those."""
    group = Group("g", "p", (Response("a"),), {"answer": "a"}, expected=3)
    waiting = asyncio.create_task(hub.score([group], replace(first, deadline_ms=300)))
    await asyncio.sleep(0.05)
    (scores,) = await hub.score([group], replace(second, deadline_ms=300))
    assert scores.total.statuses == [Status.INVALID_INPUT]
    assert scores.total.details[0]["field"] == field
    assert all(repr(getattr(each, field)) in scores.total.details[0]["reason"] for each in (first, second))
    await waiting


@pytest.mark.parametrize("first_ms", [100, 60_000])
async def test_each_member_has_its_own_deadline(hub, dear, first_ms):
    """T03: a member with more time than the first one gets it, for its terms and for those that are to come; one with
    less does not hold the others up."""
    dear.delay_s = 0.4
    texts = 'name: d\nterms: {d: {scorer: dear}}\nvalue: "d - g_mean(d)"'
    deadlines = (first_ms, 60_100 - first_ms, 60_000)
    waiting = []
    for n, deadline_ms in enumerate(deadlines):
        call = Call(recipe_text=texts, deadline_ms=deadline_ms)
        waiting.append(asyncio.create_task(hub.score([Group("g", "p", (Response(str(n)),), expected=3)], call)))
        await asyncio.sleep(0.05 if n == 0 else 0.8)
    statuses = [scores.total.statuses[0] for (scores,) in await asyncio.gather(*waiting)]
    late = deadlines.index(100)
    assert statuses[late] in {Status.INCOMPLETE_GROUP, Status.TIMEOUT}
    assert all(status is Status.OK for place, status in enumerate(statuses) if place != late), statuses


@pytest.mark.parametrize("strict", [True, False])
async def test_a_strict_group_waits_for_all_members(hub, strict):
    """With ``group_strict`` a group operator has no value where a member did not come; without it goes over the others."""
    text = f"name: r\nterms: {{t: {{scorer: oracle}}}}\nvalue: g_mean(t)\ngroup_strict: {str(strict).lower()}"
    group = Group("g", "p", (Response("a"), Response("b")), expected=3)
    (scores,) = await hub.score([group], Call(recipe_text=text, deadline_ms=100))
    assert scores.total.statuses == [Status.INCOMPLETE_GROUP if strict else Status.OK] * 2


@pytest.mark.parametrize("lost", [(1, 0), (0, 1), (0, 0)])
async def test_a_strict_group_knows_of_what_any_member_lost(hub, lost):
    """Responses that one of the calls could not send are missing, whichever call comes first."""
    text = "name: r\nterms: {t: {scorer: oracle}}\nvalue: g_mean(t)\ngroup_strict: true"
    calls = [Group("g", "p", (Response(str(k)),), expected=2, lost=each) for k, each in enumerate(lost)]
    answers = await asyncio.gather(*(hub.score([each], Call(recipe_text=text)) for each in calls))
    status = Status.INCOMPLETE_GROUP if any(lost) else Status.OK
    assert [scores.total.statuses for (scores,) in answers] == [[status]] * 2


@pytest.mark.parametrize(("value", "came"), [("d", 3), ("d", 2), ("d - g_mean(d)", 3)])
async def test_what_was_too_slow_is_no_missing_member(hub, dear, value, came):
    """T03: the deadline passes while a scorer works: that is a timeout, where the value waited for no member."""
    dear.delay_s = 2.0
    call = Call(recipe_text=f'name: slow\nterms: {{d: {{scorer: dear}}}}\nvalue: "{value}"', deadline_ms=150)
    singles = [Group("late", "p", (Response(f"r{k}"),), expected=3) for k in range(came)]
    answers = await asyncio.gather(*(hub.score([single], call) for single in singles))
    assert [scores.total.statuses for (scores,) in answers] == [[Status.TIMEOUT]] * came


async def test_a_condition_looks_at_new_members_only(hub, monkeypatch):
    """Law 9: single members of a large open group cost the same each, and a condition on a signal that some lack is
    known for the others, wherever they stand."""
    from rewardhub.recipes import execution

    looked = []

    def counted(expression, scope):
        looked.append(scope.size)
        return rows_of(expression, scope)

    rows_of = execution.condition_rows
    monkeypatch.setattr(execution, "condition_rows", counted)
    text = """name: c\nterms: {o: {scorer: oracle, when: 'signal("entropy") > 0'}}\nvalue: if_skipped(o, -1)"""
    opened = hub.open(Group("g", "p"), Call(recipe_text=text))
    for n, each in enumerate([{"entropy": 1.0}, {}, {"entropy": 0.0}] * 20):
        opened.add([Response(str(n), signals=each)])
    opened.close()
    received = [scores async for scores in opened]
    found = {index: score for scores in received for index, score in zip(scores.indices, scores, strict=True)}
    assert looked == [1] * 60
    for n in range(0, 60, 3):
        assert [found[n].value, found[n + 1].value, found[n + 2].value] == [oracle("p", str(n)), None, -1.0]
        assert found[n + 1].status is Status.INVALID_INPUT and "signals.entropy" in found[n + 1].details["reason"]
