"""Endpoints that fail: retries, budget, Retry-After, breakers, deadlines, size limits (T35-T38)."""

import asyncio
import gzip
import itertools
import socket
import time

import pytest
from scripted_judge import (
    Ask,
    Reply,
    answers,
    completion,
    hangs_up,
    in_turn,
    late,
    raw,
    says,
    streams_for_ever,
    verdict,
)

from rewardhub.judges import judge_scorers
from rewardhub.judges.budget import Allowance, RetryBudget
from rewardhub.judges.chat import retry_after_s
from rewardhub.judges.endpoint import FAILURES_TO_OPEN, EndpointState
from rewardhub.judges.settings import JudgeSettings
from rewardhub.scorer import Context
from rewardhub.types import Group, Response, Status


def group(*texts: str) -> Group:
    return Group("g", prompt="What is 3 + 4?", responses=tuple(map(Response, texts)))


async def scores(scorer, *texts: str, deadline_s: float = 20.0):
    context = Context(deadline=time.monotonic() + deadline_s)
    column = await scorer.bind({}).score_remote(group(*texts), range(len(texts)), context)
    return [column.row(index) for index in range(len(column))]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_retry_after_is_honoured(judges) -> None:
    """T35: after a 429 the endpoint is left alone for as long as it asked, then answers."""
    scorer, [server] = await judges(in_turn(answers(429, retry_after="0.5"), verdict(10)))
    started = time.monotonic()
    [row] = await scores(scorer, "seven")
    assert (row.value, row.details["calls"]) == (1.0, 2)
    assert 0.5 <= time.monotonic() - started < 1.5
    assert len(server.asks) == 2


async def test_other_questions_keep_away_while_pushed_back(judges) -> None:
    """T35: a 429 holds back the whole judge, not only the question that got it."""
    scorer, [server] = await judges(in_turn(answers(429, retry_after="0.4"), verdict(10)))
    first = asyncio.create_task(scores(scorer, "seven"))
    while not server.asks:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    started = time.monotonic()
    [row] = await scores(scorer, "eight")
    assert row.value == 1.0
    assert time.monotonic() - started > 0.25
    await first


async def test_too_long_a_retry_after_fails_at_once_and_says_when(judges) -> None:
    """T35: waiting beyond the deadline is not begun; the status carries the time to wait."""
    scorer, [server] = await judges(answers(429, retry_after="60"))
    started = time.monotonic()
    [row] = await scores(scorer, "seven", deadline_s=5)
    assert time.monotonic() - started < 0.5
    assert (row.value, row.status) == (None, Status.UNAVAILABLE)
    assert 55 < row.details["retry_after_s"] <= 60
    assert len(server.asks) == 1


@pytest.mark.parametrize("fault", [answers(500), answers(503), answers(408), answers(429), hangs_up])
async def test_failover_to_a_healthy_endpoint(judges, fault) -> None:
    """T35: 5xx, 408, 429 and broken connections move the question to another endpoint at once."""
    scorer, [bad, good] = await judges(fault, verdict(10))
    rows = [row for _ in range(6) for row in await scores(scorer, "seven")]
    assert [row.value for row in rows] == [1.0] * 6
    assert bad.asks
    assert len(bad.asks) + len(good.asks) == sum(row.details["calls"] for row in rows)


async def test_refused_connections_end_as_unavailable(judges) -> None:
    """T35: a dead port costs the stated attempts, then a typed status with the time to wait."""
    scorer, _ = await judges(verdict(10))
    settings = {"endpoints": [{"url": f"http://127.0.0.1:{closed_port()}/v1"}], "attempts": 3}
    [dead] = judge_scorers([JudgeSettings.model_validate(settings)], scorer.lane.balancer.pool)
    [row] = await scores(dead, "seven")
    assert (row.value, row.status, row.retryable) == (None, Status.UNAVAILABLE, True)
    assert row.details["retry_after_s"] > 0
    assert dead.lane.balancer.endpoints[0].calls == 3


async def test_a_stall_is_cut_and_fails_over(judges) -> None:
    """T35: an endpoint that never answers is cut after ``timeout_s``; another one answers."""
    scorer, [stuck, good] = await judges(late(30, verdict(1)), verdict(10), timeout_s=0.3)
    rows = [row for _ in range(2) for row in await scores(scorer, "seven")]
    assert [row.value for row in rows] == [1.0, 1.0]
    assert len(stuck.asks) == 1
    only, [server] = await judges(late(30, verdict(1)), timeout_s=0.2, attempts=2)
    [row] = await scores(only, "seven")
    assert (row.status, len(server.asks)) == (Status.UNAVAILABLE, 2)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 301])
async def test_refused_requests_are_not_retried(judges, status) -> None:
    """T35: a 4xx other than 408 and 429, or a redirect, is a fault of ours: one call, no value."""
    scorer, [server] = await judges(answers(status, location="http://127.0.0.1:1/"))
    [row] = await scores(scorer, "seven")
    assert (row.value, row.status, row.retryable) == (None, Status.INTERNAL_ERROR, False)
    assert (len(server.asks), str(status) in row.details["reason"]) == (1, True)


async def test_a_misconfigured_endpoint_loses_its_traffic(judges) -> None:
    """T35: an endpoint with a wrong key is put aside after a few refusals, the healthy one answers."""
    scorer, [wrong, _] = await judges(answers(401), verdict(10))
    rows = [row for _ in range(30) for row in await scores(scorer, "seven")]
    assert 1 <= sum(row.value is None for row in rows) == len(wrong.asks) <= FAILURES_TO_OPEN


UNREADABLE = [
    raw(b"<html>gateway</html>"), raw(b'{"choices": [{"message": {"content": "7"'), raw(b""), raw(b"[" * 100_000),
    says("7"), says(""), says("The answer deserves 7/10."), says('{"score": 7}'), says('Sure! {"score": 7} Done.'),
    verdict("11"), verdict("0"), verdict("-3"), verdict("7/10"), verdict("11/10"), verdict("7.5"), verdict("NaN"),
    verdict("inf"), verdict("1e1"), verdict("seven"), verdict("٧"), verdict("7 8"), verdict("7, 8"), verdict(""),
    verdict(" 7"), verdict("**7**"), verdict("7."), verdict("9" * 5000),
    says("VERDICT[{nonce}]: 7\nVERDICT[{nonce}]: 7"), says("VERDICT[{nonce}]: 7\nOr rather not."),
    says("So VERDICT[{nonce}]: 7"), says("VERDICT[0123456789abcdef]: 7"), says("VERDICT: 7"), says("VERDICT[]: 7"),
    says("verdict[{nonce}]: 7"), says("VERDICT[{nonce}]:7"), says("**VERDICT[{nonce}]: 7**"),
]  # fmt: skip


@pytest.mark.parametrize("script", UNREADABLE)
async def test_unreadable_verdicts_are_re_asked_and_never_a_number(judges, script) -> None:
    """T36: prose, garbage, out of range, doubled, misplaced or missing: re-asked within the attempts, then None."""
    scorer, [server] = await judges(script, attempts=2)
    [row] = await scores(scorer, "seven")
    assert (row.value, row.status, row.retryable) == (None, Status.JUDGE_UNPARSEABLE, True)
    assert len(server.asks) == 2


async def test_a_readable_second_reply_is_taken(judges) -> None:
    """T36: the re-asked question reminds of the form, with a fresh nonce; the old nonce is void."""
    seen: list[str] = []

    def script(ask: Ask) -> Reply:
        seen.append(ask.nonce)
        return Reply(body=completion(f"Hm.\nVERDICT[{seen[0]}]: 10" if len(seen) < 3 else f"VERDICT[{ask.nonce}]: 4"))

    scorer, [server] = await judges(in_turn(says("No idea."), script, script, script))
    [row] = await scores(scorer, "seven")
    assert (row.status, row.value, row.details["calls"]) == (Status.OK, 1.0, 2)
    assert ["could not be read" in ask.text for ask in server.asks] == [False, True]
    replayed, [server] = await judges(script, attempts=3)
    seen[:] = ["0123456789abcdef"]
    [row] = await scores(replayed, "seven")
    assert (row.value, len(server.asks)) == (pytest.approx(1 / 3), 2)


async def test_a_verdict_cut_by_the_token_limit_says_so(judges) -> None:
    """T36: the reason names the limit that the operator can raise."""
    scorer, _ = await judges(says("I think that", finish="length"), attempts=1, max_tokens=5)
    [row] = await scores(scorer, "seven")
    assert (row.status, "cut at 5 tokens" in row.details["reason"]) == (Status.JUDGE_UNPARSEABLE, True)


async def test_a_verdict_that_may_lack_its_end_is_none(judges) -> None:
    """A reply cut behind "VERDICT[…]: 1" may have meant 10; a JSON reply that is whole is whole."""
    scorer, [server] = await judges(says("Fine.\nVERDICT[{nonce}]: 1", finish="length"), attempts=2)
    [row] = await scores(scorer, "seven")
    assert (row.value, row.status, len(server.asks)) == (None, Status.JUDGE_UNPARSEABLE, 2)
    assert row.details["reason"] == "the verdict may lack its end, cut at 512 tokens"
    whole = '{{"reasoning": "Fine.", "nonce": "{nonce}", "verdict": "10"}}'.replace("{{", "{").replace("}}", "}")
    scorer, _ = await judges(says(whole, finish="length"), structured=True)
    [row] = await scores(scorer, "seven")
    assert (row.value, row.status) == (1.0, Status.OK)


async def test_an_error_under_200_fails_over(judges) -> None:
    """A gateway that reports its own failure with status 200 is a failed endpoint, not an unreadable verdict."""
    broken = raw(b'{"error": {"message": "upstream is overloaded", "code": 502}}')
    scorer, servers = await judges(broken, verdict(10))
    rows = [row for _ in range(4) for row in await scores(scorer, "seven")]
    assert {row.value for row in rows} == {1.0}
    scorer, [server] = await judges(broken, attempts=2)
    [row] = await scores(scorer, "seven")
    assert (row.status, len(server.asks)) == (Status.UNAVAILABLE, 2)


async def test_questions_that_were_given_up_leave_the_rate_to_others(judges) -> None:
    """What was taken of requests and tokens per minute for a call that is never made is given back."""
    scorer, [server] = await judges(verdict(10), requests_per_minute=120, tokens_per_minute=600_000)
    before = scorer.lane._tokens.level
    await scores(scorer, *["seven"] * 20)
    waiting = asyncio.create_task(scores(scorer, *["seven"] * 12))
    await asyncio.sleep(0.1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert scorer.lane._requests.level > -1
    assert scorer.lane._tokens.level == pytest.approx(before - 20 * 120, abs=6_000)
    assert len(server.asks) == 20


async def test_a_reply_of_a_megabyte_is_cut(judges) -> None:
    """T37: over the size limit nothing is read on; below it a long reasoning is fine."""
    scorer, [server] = await judges(says("x" * 1_000_000 + "\nVERDICT[{nonce}]: 10"), attempts=2)
    [row] = await scores(scorer, "seven")
    assert (row.value, row.status, len(server.asks)) == (None, Status.JUDGE_UNPARSEABLE, 2)
    scorer, _ = await judges(says("x" * 900_000 + "\nVERDICT[{nonce}]: 10"))
    [row] = await scores(scorer, "seven")
    assert (row.value, len(row.details["reason"])) == (1.0, 2000)


async def test_an_endless_stream_is_cut(judges) -> None:
    """T37: the stream is broken off at the limit, the connection closed, memory bounded."""
    scorer, [server] = await judges(streams_for_ever, attempts=1)
    started = time.monotonic()
    [row] = await scores(scorer, "seven")
    assert (row.value, row.status) == (None, Status.JUDGE_UNPARSEABLE)
    assert time.monotonic() - started < 2
    for _ in range(100):
        if server.broken_off:
            break
        await asyncio.sleep(0.02)
    assert server.broken_off == 1


async def test_a_compressed_reply_is_not_inflated(judges) -> None:
    """T37: compression is declined and never undone, so that 50 kB cannot become 50 MB."""

    def zipped(ask: Ask) -> Reply:
        return Reply(body=gzip.compress(verdict(10)(ask).body), headers={"content-encoding": "gzip"})

    scorer, [server] = await judges(zipped, attempts=1)
    [row] = await scores(scorer, "seven")
    assert (row.value, row.status) == (None, Status.JUDGE_UNPARSEABLE)
    assert server.asks[0].headers["accept-encoding"] == "identity"


async def test_an_unreadable_verdict_is_re_asked_elsewhere(judges) -> None:
    """T36: the second call goes to another endpoint where there is one, also among many questions."""
    scorer, [bad, good] = await judges(late(0.02, says("?")), late(0.02, verdict(10)), attempts=2, retry_burst=100)
    for _ in range(5):
        rows = await scores(scorer, "seven", "eight")
        assert [row.value for row in rows] == [1.0, 1.0]
    assert bad.asks


async def test_a_retry_that_would_be_late_is_not_waited_for(judges, monkeypatch) -> None:
    """T35: where the pause before a retry outlasts the deadline the failure is told at once."""
    monkeypatch.setattr("random.uniform", lambda _, longest: longest)
    scorer, [server] = await judges(answers(503))
    started = time.monotonic()
    [row] = await scores(scorer, "seven", deadline_s=0.35)
    assert (row.status, len(server.asks)) == (Status.UNAVAILABLE, 1)
    assert time.monotonic() - started < 0.3


async def test_all_judges_down_is_said_within_50_ms(judges) -> None:
    """T38: once the circuits are open a question costs no call and less than 50 ms."""
    scorer, servers = await judges(answers(503), hangs_up)
    await scores(scorer, *["seven"] * (4 * FAILURES_TO_OPEN))
    assert not scorer.lane.balancer.healthy
    calls = sum(len(server.asks) for server in servers)
    took = []
    for _ in range(3):
        started = time.monotonic()
        rows = await scores(scorer, *["seven"] * 8)
        took.append(time.monotonic() - started)
    assert min(took) < 0.05
    assert {(row.value, row.status) for row in rows} == {(None, Status.UNAVAILABLE)}
    assert all(0 < row.details["retry_after_s"] <= 30 for row in rows)
    assert sum(len(server.asks) for server in servers) == calls


async def test_all_judges_down_is_said_before_any_waiting(judges) -> None:
    """T38: neither a used-up rate nor a queue delays the refusal."""
    scorer, _ = await judges(answers(503), requests_per_minute=30, retry_burst=0)
    await scores(scorer, *["seven"] * FAILURES_TO_OPEN)
    started = time.monotonic()
    rows = await scores(scorer, *["seven"] * 8)
    assert time.monotonic() - started < 0.5
    assert {row.details["reason"] for row in rows} == {"no judge endpoint is up"}


async def test_a_judge_that_comes_back_is_used_again(judges) -> None:
    """T38: after the cooldown one probe goes through, and its success closes the circuit."""
    scorer, [server] = await judges(answers(503), retry_burst=0)
    await scores(scorer, *["seven"] * FAILURES_TO_OPEN)
    assert not scorer.lane.balancer.healthy
    server.script = late(0.1, verdict(10))
    await asyncio.sleep(1.05)
    rows = await scores(scorer, *["seven"] * 10)
    assert sorted(row.status for row in rows) == ["ok"] + ["unavailable"] * 9
    rows = await scores(scorer, *["seven"] * 10)
    assert {row.status for row in rows} == {Status.OK}


@pytest.mark.parametrize(("clients", "endpoints"), [(300, 1), (300, 3), (1000, 2)])
async def test_a_retry_storm_stays_within_the_budget(judges, clients, endpoints) -> None:
    """R10: hundreds of clients, half of the calls fail: at most 1.2 times as many calls as questions, no invented value."""

    def script(ask: Ask) -> Reply:
        return late(0.005, answers(503) if ask.number % 2 else verdict(10))(ask)

    scorer, servers = await judges(*[script] * endpoints, concurrency=300, attempts=5)
    rows = [row for [row] in await asyncio.gather(*(scores(scorer, "seven") for _ in range(clients)))]
    calls = sum(len(server.asks) for server in servers)
    assert clients < calls <= 1.2 * clients
    assert {(row.value, row.status) for row in rows} == {(1.0, Status.OK), (None, Status.UNAVAILABLE)}
    assert sum(row.value == 1.0 for row in rows) == sum(each.number % 2 == 0 for s in servers for each in s.asks)


async def test_concurrency_and_queue_are_bounded(judges) -> None:
    """No more calls than ``concurrency`` at once; beyond ``queue`` a question is refused at once."""
    scorer, [server] = await judges(late(0.05, verdict(10)), concurrency=4, queue=6)
    rows = await scores(scorer, *["seven"] * 12)
    assert server.most_at_once == 4
    statuses = [row.status for row in rows]
    assert (statuses.count(Status.OK), statuses.count(Status.UNAVAILABLE)) == (10, 2)
    bulk = Context(deadline=time.monotonic() + 20, priority="bulk")
    column = await scorer.bind({}).score_remote(group(*["seven"] * 12), range(12), bulk)
    assert (column.statuses.count(Status.OK), column.statuses.count(Status.UNAVAILABLE)) == (8, 4)


async def test_bulk_questions_leave_room_for_others(judges) -> None:
    """Bulk work takes half of the slots at most; a question that cannot wait gets one at once."""
    scorer, [server] = await judges(late(0.3, verdict(10)), concurrency=4)
    context = Context(deadline=time.monotonic() + 20, priority="bulk")
    bulk = asyncio.create_task(scorer.bind({}).score_remote(group(*["bulk"] * 8), range(8), context))
    await asyncio.sleep(0.1)
    assert server.at_once == 2
    started = time.monotonic()
    [row] = await scores(scorer, "seven")
    assert (row.value, time.monotonic() - started < 0.5) == (1.0, True)
    assert (await bulk).values == [1.0] * 8


async def test_connections_are_reused_and_spread(judges) -> None:
    """One question after the other rides one connection; many at once open as many as they need."""
    scorer, [server] = await judges(late(0.02, verdict(10)))
    for _ in range(5):
        await scores(scorer, "seven")
    assert server.connections == 1
    await scores(scorer, *["seven"] * 40)
    assert server.connections <= 41
    before = server.connections
    await scores(scorer, *["seven"] * 40)
    assert server.connections == before


async def test_the_least_loaded_endpoint_is_chosen(judges) -> None:
    """A slow endpoint gets fewer of the questions than a quick one."""
    scorer, [slow, quick] = await judges(late(0.2, verdict(10)), late(0.01, verdict(10)), concurrency=4)
    rows = await scores(scorer, *["seven"] * 40)
    assert {row.value for row in rows} == {1.0}
    assert len(quick.asks) > 2 * len(slow.asks) > 0


async def test_an_endpoint_that_fails_at_once_draws_no_questions(judges) -> None:
    """Being quick to fail it has few calls under way: most questions go to the endpoint that answers, and have values."""
    sick = itertools.cycle([answers(500), answers(500), verdict(10)])
    scorer, [well, failing] = await judges(late(0.05, verdict(10)), lambda ask: next(sick)(ask), concurrency=16)
    rows = await scores(scorer, *["seven"] * 400)
    assert {row.value for row in rows} == {1.0}
    assert len(failing.asks) < 60


async def test_cancelling_breaks_off_the_call_and_frees_the_slot(judges) -> None:
    """A caller that goes away takes its upstream call with it."""
    scorer, [server] = await judges(late(30, verdict(10)), concurrency=1)
    task = asyncio.create_task(scores(scorer, "seven"))
    while not server.asks:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.script = verdict(10)
    [row] = await scores(scorer, "eight")
    assert row.value == 1.0
    assert (scorer.lane.balancer.endpoints[0].in_flight, server.broken_off) == (0, 1)


async def test_closing_the_pool_ends_calls_under_way_as_unavailable(judges) -> None:
    """A hub that shuts down leaves no question hanging and no fault of its own behind."""
    scorer, [server] = await judges(late(30, verdict(10)))
    task = asyncio.create_task(scores(scorer, *["seven"] * 20))
    while len(server.asks) < 20:
        await asyncio.sleep(0.01)
    await scorer.lane.balancer.pool.aclose()
    rows = await asyncio.wait_for(task, 5)
    assert {(row.value, row.status) for row in rows} == {(None, Status.UNAVAILABLE)}


async def test_short_deadlines_do_not_close_an_endpoint_to_others(judges) -> None:
    """Calls cut by their own deadline say nothing against an endpoint that is as quick as ever."""
    scorer, [server] = await judges(late(0.15, verdict(10)))
    for _ in range(2 * FAILURES_TO_OPEN):
        [row] = await scores(scorer, "seven", deadline_s=0.08)
        assert row.status is Status.TIMEOUT
    [row] = await scores(scorer, "seven")
    assert row.value == 1.0


def test_the_budget_bounds_retries_over_any_run() -> None:
    """Of n questions at most burst + ratio * n retries, however they come."""
    budget = RetryBudget(ratio=0.1, burst=10)
    taken = 0
    for _ in range(1000):
        budget.deposit()
        taken += sum(budget.withdraw() for _ in range(4))
    assert 100 <= taken <= 110


async def test_requests_per_minute_are_kept(judges) -> None:
    """Ten seconds' worth goes at once, the rest at the stated rate; what cannot wait is told how long to."""
    scorer, [server] = await judges(verdict(10), requests_per_minute=120)
    started = time.monotonic()
    rows = await scores(scorer, *["seven"] * 22)
    assert {row.value for row in rows} == {1.0}
    assert 0.9 < time.monotonic() - started < 2.5
    [row] = await scores(scorer, "seven", deadline_s=0.2)
    assert (row.status, 0 < row.details["retry_after_s"] <= 0.6) == (Status.UNAVAILABLE, True)
    assert len(server.asks) == 22


async def test_tokens_per_minute_are_kept_as_the_endpoint_counts_them(judges) -> None:
    """The estimate before a call is settled with the endpoint's own count after it."""
    scorer, [server] = await judges(verdict(10), tokens_per_minute=6 * 2400)
    rows = [row for _ in range(10) for row in await scores(scorer, "seven", deadline_s=0.5)]
    assert {row.value for row in rows} == {1.0}
    spent = 10 * 120
    assert scorer.lane._tokens.level == pytest.approx(2400 - spent, abs=240)
    [row] = await scores(scorer, "long " * 4000, deadline_s=0.5)
    assert (row.status, row.details["retry_after_s"] > 5) == (Status.UNAVAILABLE, True)
    assert len(server.asks) == 10


def test_an_allowance_fills_at_its_rate() -> None:
    """No limit never waits; debt is paid at the rate, and what comes back counts."""
    assert Allowance(0).take(1e9) == 0.0
    allowance = Allowance(60)
    assert [allowance.take(1) for _ in range(10)] == [0.0] * 10
    assert allowance.take(5) == pytest.approx(5.0, abs=0.1)
    allowance.give_back(5)
    assert allowance.take(1) == pytest.approx(1.0, abs=0.1)


def test_the_breaker_opens_probes_and_doubles() -> None:
    """Many calls that fail together open the circuit once; each failed probe doubles the cooldown."""
    state = EndpointState("http://host", "m")
    probes = [state.begin() for _ in range(50)]
    assert not any(probes)
    for probe in probes:
        state.failed(probe)
        state.end(probe)
    now = time.monotonic()
    assert not state.closed(now)
    assert 0.9 < state.open_until - now <= 1.0
    assert state.closed(now + 1.1)
    assert state.begin()
    assert not state.closed(now + 1.1)
    state.failed(True)
    state.end(True)
    assert 1.9 < state.open_until - time.monotonic() <= 2.0
    state.succeeded(0.1, "m2")
    assert (state.closed(time.monotonic()), state.answering_model) == (True, "m2")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("0.5", 0.5), ("", 0), ("-3", 0), ("nan", 0), ("inf", 0), ("soon", 0), ("1e400", 3600), ("9999999", 3600),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 21 Oct 2915 07:28:00 GMT", 3600), ("Wed, 99 Oct", 0)],
)  # fmt: skip
def test_retry_after_in_every_spelling(header: str, seconds: float) -> None:
    """Numbers and dates are read, garbage is 0, and nobody can ask for more than an hour."""
    assert retry_after_s(header) == seconds
