"""Retries, deadlines, policies and typed errors."""

import asyncio
import gc
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from rewardhub.client import AsyncClient, Client
from rewardhub.client.settings import pause_s
from rewardhub.errors import (
    Forbidden,
    HubUnreachable,
    InvalidInput,
    PinMismatch,
    QuotaExceeded,
    ScoringFailed,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnknownName,
)
from rewardhub.types import Call, Group, Media, Response, Status
from tests.chaos.fault_proxy import FaultProxy

CALL = Call(recipe="math")


def group(name: str, size: int = 3) -> Group:
    return Group(name, "p", tuple(Response(f"{name}{k}") for k in range(size)))


@pytest.mark.parametrize("status", [s for s in Status if s.retryable])
def test_a_retryable_status_is_asked_again(url, fake, status):
    """Only the failed group is sent again, and the later answer counts."""
    fake.script = {"bad": [status, status]}
    with Client(url) as client:
        answers = client.score([group("good"), group("bad")], CALL)
        assert client.stats.retries == 2
    assert answers[1].values == [fake.value("p", r) for r in group("bad").responses]
    assert fake.seen == {"good": 1, "bad": 3}


@pytest.mark.parametrize("status", [Status.REFERENCE_UNPARSEABLE, Status.INTERNAL_ERROR, Status.INVALID_INPUT])
def test_a_final_status_is_not_asked_again(url, fake, status):
    """A caller's error and a fault of the hub are answered once."""
    fake.script = {"bad": [status]}
    with Client(url, on_failure="none") as client:
        (scores,) = client.score([group("bad")], CALL)
    assert scores[0].status is status and scores[0].value is None and fake.seen == {"bad": 1}


def test_retries_end(url, fake):
    """After the last try the status is returned as it is."""
    fake.script = {"bad": [Status.UNAVAILABLE] * 9}
    with Client(url, on_failure="none", retries=2) as client:
        (scores,) = client.score([group("bad")], CALL)
    assert scores[0].status == "unavailable" and fake.seen == {"bad": 3}
    assert client.stats.failures == {Status.UNAVAILABLE: 1} and client.stats.responses == 3


@pytest.mark.parametrize("error", [Unavailable("busy", retry_after_s=0.3), QuotaExceeded("used up", retry_after_s=0.3)])
def test_a_refused_call_waits_as_told(url, fake, error):
    """An overloaded hub says when to come back, and the client does."""
    fake.refusals = [error]
    start = time.monotonic()
    with Client(url) as client:
        client.score([group("a")], CALL)
        assert client.stats.retries == 1
    assert time.monotonic() - start >= 0.3 and fake.seen == {"a": 1}


def test_a_wait_beyond_the_deadline_is_not_begun(url, fake):
    """Retry-After of a minute with two seconds left raises at once."""
    fake.refusals = [Unavailable("busy", retry_after_s=60)]
    start = time.monotonic()
    with Client(url, timeout_s=2) as client, pytest.raises(Unavailable, match="busy") as caught:
        client.score([group("a")], CALL)
    assert time.monotonic() - start < 1 and caught.value.retry_after_s == 60


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput("no field", field="groups[0].x"),
        UnknownName("recipe", "mth", ["math"]),
        PinMismatch("pinned"),
        Unauthenticated("no key"),
        Forbidden("no scope"),
    ],
)
def test_an_error_of_the_whole_call_keeps_its_class(url, fake, error):
    """Code, message and field come back as the hub's error, without a second try."""
    fake.refusals = [error, error]
    with Client(url) as client, pytest.raises(type(error)) as caught:
        client.score([group("a")], CALL)
    assert caught.value.message == error.message and caught.value.field == error.field
    assert len(fake.refusals) == 1


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_no_hub_is_unreachable(scheme):
    """Nothing listens: a typed error within the bounded tries."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}://127.0.0.1:{free.getsockname()[1]}"
    for ask in (lambda c: c.score([group("a")], CALL), lambda c: c.scorers(), lambda c: list(c.stream([group("a")]))):
        with Client(address, retries=1) as client, pytest.raises(HubUnreachable):
            ask(client)


def test_a_deadline_is_a_status(url, fake):
    """What is not answered in time is a timeout; what was answered is kept, within 0.6 s of the deadline."""
    fake.delays = {"slow": 30.0}
    start = time.monotonic()
    with Client(url, on_failure="none") as client:
        answers = {
            each.id: each for each in client.stream([group("slow"), group("quick")], Call("math", deadline_ms=700))
        }
    assert time.monotonic() - start < 1.3
    assert answers["quick"].values.count(None) == 0
    assert [score.status for score in answers["slow"]] == [Status.TIMEOUT] * 3


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_a_far_hub_is_reached(doors, scheme):
    """A connection that takes half a second to make is made, also where nothing is tried again."""
    async with FaultProxy(doors.ports[scheme]) as proxy:
        proxy.faults.latency_s = 0.25
        async with AsyncClient(f"{scheme}://127.0.0.1:{proxy.port}", timeout_s=20, retries=0) as client:
            (scores,) = await client.score([group("far")], CALL)
    assert None not in scores.values


def test_an_upload_ends_with_those_that_wait_for_it(doors, url, caplog):
    """An image of a call that is over is asked for no longer, and how that would have ended is told to nobody."""
    image = Media.from_bytes(b"bytes")
    asked = Group("g", "p", (Response("r"),), media=(image,))
    with Client(url, timeout_s=2, on_failure="none") as client:
        client.scorers()
        doors.stop()
        try:
            (scores,) = client.score([asked], Call(recipe="math", deadline_ms=300))
            assert scores.total.statuses == [Status.TIMEOUT]
            time.sleep(2.5)
        finally:
            doors.start()
        gc.collect()
        assert client.score([asked], CALL)[0].values != [None]
    assert not caplog.records


def test_a_restarted_hub_is_found_again(doors, fake, url):
    """A call during a restart waits for the hub that answered before, whatever ``retries`` says."""
    with Client(url, timeout_s=30, retries=0) as client, ThreadPoolExecutor(1) as pool:
        client.score([group("before")], CALL)
        doors.stop()
        waiting = pool.submit(client.score, [group("after")], CALL)
        time.sleep(2.5)
        start = time.monotonic()
        doors.start()
        assert waiting.result(20)[0].id == "after"
        assert time.monotonic() - start < 6
    assert fake.seen == {"before": 1, "after": 1}


def test_waiting_for_a_restart_spends_no_tries(doors, fake, url):
    """A hub that refuses once it is back, because it goes away again or is full, is asked as often as ``retries`` says,
    however long it was away."""
    with Client(url, timeout_s=30, retries=1) as client, ThreadPoolExecutor(1) as pool:
        client.score([group("before")], CALL)
        doors.stop()
        waiting = pool.submit(client.score, [group("after")], CALL)
        time.sleep(1.5)
        fake.refusals = [Unavailable("the hub is shutting down")]
        doors.start()
        assert waiting.result(20)[0].id == "after"
    assert not fake.refusals


def test_an_answer_too_large_for_a_message_is_streamed(doors, fake):
    """A hub that cannot put its answer into one message gives it in parts on a stream."""
    fake.refusals = [TooLarge("the answer has 5 MB; use ScoreStream")]
    with Client(doors.url("grpc")) as client:
        (scores,) = client.score([group("a")], CALL)
    assert scores.values == [fake.value("p", r) for r in group("a").responses] and not fake.refusals


def test_a_call_too_large_is_an_error(url, fake):
    """What is too large on every way is raised with its class."""
    fake.refusals = [TooLarge("too large")] * 2
    with Client(url) as client, pytest.raises(TooLarge, match="too large"):
        client.score([group("a")], CALL)


def test_raise_names_group_index_status_and_reason(url, fake):
    """The default: a failed score raises, and says which and why."""
    fake.script = {"bad": [Status.INTERNAL_ERROR]}
    with Client(url) as client, pytest.raises(ScoringFailed) as caught:
        client.score([group("good"), group("bad")], CALL)
    assert str(caught.value) == "group 'bad', response 0: internal_error: scripted"


def test_a_number_stands_in_for_a_failure(url, fake):
    """The chosen value replaces None; the status and the parts stay."""
    fake.script = {"bad": [Status.INTERNAL_ERROR]}
    with Client(url, on_failure=-0.5) as client:
        (scores,) = client.score([group("bad")], CALL)
    assert scores[0].value == -0.5 and scores[0].status == "internal_error" and scores[1].value is not None


def test_neutral_is_the_mean_of_the_others(url, fake):
    """The failed member gets the mean of its group, so its advantage is zero; it is counted."""
    fake.script = {"bad": [Status.INTERNAL_ERROR]}
    with Client(url, on_failure="neutral") as client:
        (scores,) = client.score([group("bad")], CALL)
        assert client.stats.neutralised == 1 and client.stats.failures == {Status.INTERNAL_ERROR: 1}
    others = scores.values[1:]
    assert scores.values[0] == pytest.approx(sum(others) / 2) and scores[0].status == "internal_error"


def test_neutral_needs_a_member_with_a_value(url, fake):
    """A group of which nothing was scored has no mean."""
    fake.script = {"bad": [Status.INTERNAL_ERROR]}
    with Client(url, on_failure="neutral") as client:
        (scores,) = client.score([group("bad", size=1)], CALL)
        assert scores.values == [None] and client.stats.neutralised == 0


@pytest.mark.parametrize("policy", ["skip", True, float("nan"), None])
def test_an_unknown_policy_is_refused(policy):
    """The message lists what is allowed."""
    with pytest.raises(InvalidInput, match="raise, none, neutral or a number"):
        Client("http://localhost:1", on_failure=policy)


async def test_a_cancelled_call_ends_its_work(url, fake):
    """Cancelling the caller's task cancels the request; the client stays usable."""
    fake.delays = {"slow": 30.0}
    async with AsyncClient(url) as client:
        task = asyncio.create_task(client.score([group("slow")], CALL))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.score([group("quick")], CALL))[0].id == "quick"


@pytest.mark.parametrize("wait_s", [0.0, 0.05], ids=["not begun", "made"])
async def test_what_is_made_for_a_cancelled_caller_is_closed(doors, wait_s):
    """A stream or an open group whose caller is cancelled while it begins holds no task, thread or stream of the hub."""

    async def streamed(client):
        async for _ in client.stream([], CALL):
            pass

    async def others():
        return len(asyncio.all_tasks() - {asyncio.current_task()})

    async with AsyncClient(doors.url("grpc")) as client:
        await client.scorers()
        thread, _ = client._home.get()
        for begin in (streamed(client), client.open(Group("o", "p", (Response("a"),)), CALL)):
            task = asyncio.create_task(begin)
            await asyncio.sleep(0)
            time.sleep(wait_s)  # the client's own loop goes on, this one does not hear of it
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        async with asyncio.timeout(5):
            while await thread.call(others()):
                await asyncio.sleep(0.01)
    assert not [each for each in threading.enumerate() if each.name == "rewardhub-client-stream"]


def test_a_fragment_is_never_sent_twice_when_in_doubt(doors, fake):
    """A member of an open group whose connection breaks has a status instead of a second member."""
    fake.cut = {"f"}
    fragment = Group("f", "p", (Response("a"),), expected=4)

    def source():
        yield group("first")
        time.sleep(0.05)
        yield fragment

    with Client(doors.url("grpc"), on_failure="none") as client:
        answers = {each.id: each for each in client.stream(source(), CALL)}
    assert fake.seen["f"] == 1 and answers["f"][0].status == "unavailable"


def test_pauses_double_and_are_bounded():
    """Pauses grow from 0.1 s to 10 s, jittered by half, and never undercut Retry-After."""
    for attempt, most in [(1, 0.1), (2, 0.2), (4, 0.8), (20, 10.0)]:
        assert most / 2 <= pause_s(attempt) <= most
    assert pause_s(1, retry_after_s=3.0) == 3.0
