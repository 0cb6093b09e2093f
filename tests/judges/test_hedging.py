"""A second call for a slow one: the first answer counts, within the budget and the limits."""

import asyncio
import time

import pytest
from scripted_judge import answers, late, says, verdict

from rewardhub.judges.endpoint import FAILURES_TO_OPEN
from rewardhub.judges.hedging import hedged
from rewardhub.scorer import Context
from rewardhub.types import Group, Response, Status


async def scores(scorer, *texts: str, **context):
    group = Group("g", prompt="What is 3 + 4?", responses=tuple(map(Response, texts)))
    asked = Context(deadline=time.monotonic() + 20, **context)
    column = await scorer.bind({}).score_remote(group, range(len(texts)), asked)
    return [column.row(index) for index in range(len(column))]


async def test_a_slow_call_is_hedged_and_the_first_answer_taken(judges) -> None:
    """The second endpoint is asked after the stated time; the slow call is broken off."""
    scorer, servers = await judges(late(30, verdict(1)), late(0.01, verdict(10)), hedge_after_s=0.1, timeout_s=10)
    started = time.monotonic()
    rows = [row for _ in range(2) for row in await scores(scorer, "seven")]
    assert time.monotonic() - started < 3
    assert [row.value for row in rows] == [1.0, 1.0]
    assert [len(server.asks) for server in servers] == [1, 2]
    (usage,) = scorer.lane.stats()["usage"]
    assert (usage["questions"], usage["calls"], usage["hedges"], usage["retries"]) == (2, 3, 1, 0)
    assert [each["in_flight"] for each in scorer.lane.stats()["endpoints"]] == [0, 0]


async def test_an_endpoint_that_is_always_overtaken_is_put_aside(judges) -> None:
    """One that accepts questions and answers none uses up no retries: its circuit opens as if it had failed."""
    stuck, quick = late(30, verdict(1)), verdict(10)
    scorer, servers = await judges(stuck, quick, hedge_after_s=0.05, timeout_s=5.0, retry_burst=8)
    started = time.monotonic()
    for _ in range(60):
        assert (await scores(scorer, "seven"))[0].value == 1.0
    assert time.monotonic() - started < 5.0
    assert len(servers[0].asks) <= FAILURES_TO_OPEN + 2
    assert scorer.lane.usage["", ""].hedges == len(servers[0].asks)


async def test_a_quick_call_is_not_hedged(judges) -> None:
    """Nothing is asked twice that answers in time."""
    scorer, servers = await judges(verdict(10), verdict(10), hedge_after_s=5)
    await scores(scorer, *["seven"] * 6)
    assert sum(len(server.asks) for server in servers) == 6


@pytest.mark.parametrize(
    "setting",
    [{"retry_burst": 0}, {"attempts": 1}, {"requests_per_minute": 6}, {"concurrency": 1}, {"hedge_after_s": 0}],
)
async def test_hedges_stay_within_every_limit(judges, setting) -> None:
    """No retry left, no attempt, no rate, no slot, or not wanted: the slow call is waited for."""
    scripts = [late(0.4, verdict(10)), late(0.4, verdict(10))]
    scorer, servers = await judges(*scripts, **({"hedge_after_s": 0.05} | setting))
    [row] = await scores(scorer, "seven")
    assert row.value == 1.0
    assert sum(len(server.asks) for server in servers) == 1


async def test_bulk_questions_and_lone_endpoints_are_not_hedged(judges) -> None:
    """Hedging is for who waits, and needs somewhere else to ask."""
    scorer, servers = await judges(late(0.2, verdict(10)), late(0.2, verdict(10)), hedge_after_s=0.05)
    await scores(scorer, "seven", priority="bulk")
    lone, [server] = await judges(late(0.2, verdict(10)), hedge_after_s=0.05)
    await scores(lone, "seven")
    assert sum(len(each.asks) for each in servers) == len(server.asks) == 1


async def test_a_storm_of_hedges_stays_within_the_budget(judges) -> None:
    """R10: 300 slow questions: at most 1.2 times as many calls, hedges included."""
    scorer, servers = await judges(late(0.3, verdict(10)), late(0.3, verdict(10)), hedge_after_s=0.02, concurrency=600)
    rows = await scores(scorer, *(f"seven {n}" for n in range(300)))
    assert {row.value for row in rows} == {1.0}
    assert 300 < sum(len(server.asks) for server in servers) <= 360


async def test_the_failure_of_one_call_leaves_the_other(judges) -> None:
    """A hedge that fails is no failure of the question; where both fail it is re-asked or ends as usual."""
    scorer, _ = await judges(late(0.3, verdict(10)), answers(503), hedge_after_s=0.05)
    rows = [row for _ in range(3) for row in await scores(scorer, "seven")]
    assert [row.value for row in rows] == [1.0] * 3
    both, servers = await judges(late(0.1, says("?")), late(0.1, says("?")), hedge_after_s=0.02, attempts=2)
    [row] = await scores(both, "seven")
    assert (row.value, row.status) == (None, Status.JUDGE_UNPARSEABLE)
    assert sum(len(server.asks) for server in servers) == 2


async def test_hedged_raises_the_first_calls_failure_and_cancels_with_its_caller() -> None:
    """Where all fail the first failure tells; a caller that goes away takes both calls along."""

    async def fails(name: str):
        await asyncio.sleep(0.05)
        raise ValueError(name)

    with pytest.raises(ValueError, match="first"):
        await hedged(fails("first"), lambda: fails("second"), 0.01)
    ended: list[str] = []

    async def hangs(name: str):
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(name)

    task = asyncio.create_task(hedged(hangs("first"), lambda: hangs("second"), 0.01))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == ["first", "second"]
