"""Streams and open groups."""

import asyncio
import threading
import time
from concurrent import futures

import pytest

from rewardhub.client import AsyncClient, Client
from rewardhub.errors import Cancelled, DeadlineExceeded, InvalidInput, PinMismatch
from rewardhub.types import Call, Group, Media, Response

CALL = Call(recipe="math")


def group(name: str, size: int = 2, **fields) -> Group:
    return Group(name, f"prompt {name}", tuple(Response(f"{name} {k}") for k in range(size)), **fields)


def right(fake, scores) -> bool:
    return scores.values == [fake.value(each.prompt, r) for each in [group(scores.id)] for r in each.responses]


def test_a_stream_answers_every_group_once(url, fake):
    """Five hundred groups through a narrow window: each answered once, with its own values."""
    with Client(url, in_flight=16) as client:
        answers = list(client.stream((group(f"g{n}") for n in range(500)), CALL))
    assert sorted(scores.id for scores in answers) == sorted(f"g{n}" for n in range(500))
    assert all(right(fake, scores) for scores in answers)


def test_scores_come_while_the_source_blocks(url, fake):
    """The first score is there before the source gives its second group."""
    go_on = threading.Event()

    def source():
        yield group("first")
        assert go_on.wait(20)
        yield group("second")

    with Client(url) as client:
        answers = client.stream(source(), CALL)
        assert next(answers).id == "first"
        go_on.set()
        assert [scores.id for scores in answers] == ["second"]


def test_a_slow_group_holds_nobody(url, fake):
    """Scores come in the order in which they are ready."""
    fake.delays = {"slow": 0.5}
    with Client(url) as client:
        assert [each.id for each in client.stream([group("slow"), group("quick")], CALL)][-1] == "slow"


def test_the_window_bounds_what_is_read_ahead(url, fake):
    """No more groups are read from the source than the window allows."""
    read = []

    def source():
        for n in range(100):
            read.append(n)
            yield group(f"g{n}")

    with Client(url, in_flight=4) as client:
        answers = client.stream(source(), CALL)
        next(answers)
        time.sleep(0.3)
        assert len(read) <= 4 + 2
        assert len(list(answers)) == 99


def test_an_error_of_the_source_is_raised(url):
    """What the caller's own iterable raises comes out of the stream."""

    def source():
        yield group("a")
        raise ZeroDivisionError("mine")

    with Client(url) as client, pytest.raises(ZeroDivisionError, match="mine"):
        list(client.stream(source(), CALL))


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, futures.CancelledError])
def test_whatever_ends_a_source_ends_its_stream_alone(url, fake, error):
    """What would end a thread ends the caller's, not the client's own: it scores on."""
    raised = []

    def source():
        yield group("a")
        raise error("mine")

    def read():
        try:
            list(client.stream(source(), CALL))
        except BaseException as caught:
            raised.append(caught)

    with Client(url) as client:
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(10)
        assert [type(each) for each in raised] == [error]
        assert right(fake, client.score([group("b")], CALL)[0])


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, ValueError])
async def test_whatever_ends_an_async_source_ends_its_stream(url, error):
    """Rollouts that were cancelled, too: the stream waited for their groups for ever."""

    async def source():
        yield group("a")
        raise error

    expected = Cancelled if error is asyncio.CancelledError else error
    async with AsyncClient(url) as client, asyncio.timeout(10):
        with pytest.raises(expected):
            _ = [scores async for scores in client.stream(source(), CALL)]


def test_a_stream_left_early_lets_its_source_go(url):
    """A consumer that breaks off ends the reading of the source."""
    gone = threading.Event()

    def source():
        try:
            for n in range(10_000):
                yield group(f"g{n}")
        finally:
            gone.set()

    with Client(url, in_flight=4) as client:
        for _ in client.stream(source(), CALL):
            break
        assert gone.wait(10)
        assert client.score([group("after")], CALL)[0].id == "after"


async def test_async_stream_reads_an_async_source(url, fake):
    """An async generator on the caller's loop feeds the stream while scores come out."""
    answered = asyncio.Event()

    async def source():
        yield group("first")
        await answered.wait()
        yield group("second")

    async with AsyncClient(url) as client:
        seen = []
        async for scores in client.stream(source(), CALL):
            assert right(fake, scores)
            seen.append(scores.id)
            answered.set()
    assert seen == ["first", "second"]


async def test_async_stream_reads_a_blocking_source_on_a_thread(url):
    """A plain iterator that blocks does not block the caller's loop."""
    go_on = threading.Event()

    def source():
        yield group("first")
        assert go_on.wait(20)
        yield group("second")

    async with AsyncClient(url) as client:
        answers = client.stream(source(), CALL)
        assert (await anext(answers)).id == "first"
        go_on.set()
        assert [each.id async for each in answers] == ["second"]


def test_a_refused_stream_raises_the_hubs_error(url, fake):
    """What concerns the whole call is raised with its class."""
    fake.refusals = [PinMismatch("run r pinned another fingerprint")]
    with Client(url) as client, pytest.raises(PinMismatch, match="pinned another"):
        list(client.stream([group("a")], CALL))


def test_a_broken_stream_resends_only_what_is_unanswered(url, fake):
    """The connection breaks after one answer: the rest is sent again, the answered group is not."""
    fake.delays = {"b": 0.2, "c": 0.3}
    fake.cut = {"b"}

    def source():
        yield from (group("a"), group("b"))
        time.sleep(0.1)
        yield group("c")

    with Client(url) as client:
        answers = list(client.stream(source(), CALL))
    assert sorted(each.id for each in answers) == ["a", "b", "c"]
    assert all(right(fake, scores) for scores in answers)
    assert fake.seen["a"] == 1 and fake.seen["b"] == 2 and client.stats.retries >= 1


@pytest.mark.parametrize("ask", [True, False])
def test_media_lost_while_streaming_are_sent_again(url, fake, ask):
    """The hub names a missing media, or answers invalid_input: the bytes are sent once more."""
    fake.ask_for_media = ask
    image = Media.from_bytes(b"bytes")
    with Client(url) as client:
        client.score([group("warm", media=(image,))], CALL)
        fake.media.clear()
        answers = list(client.stream((group(f"g{n}", media=(image,)) for n in range(3)), CALL))
    assert sorted(scores.values for scores in answers) == sorted(
        [fake.value(f"prompt g{n}", Response(f"g{n} {k}")) for k in range(2)] for n in range(3)
    )
    assert fake.media == {image.sha256: b"bytes"}


class Bytes(bytes):
    """Of which it is known how many there are."""

    alive = 0

    def __init__(self, _: bytes) -> None:
        Bytes.alive += 1

    def __del__(self) -> None:
        Bytes.alive -= 1


def test_a_stream_lets_go_of_the_media_of_answered_groups(url):
    """A client holds the images of the groups under way, not of all that a stream has sent."""

    def source():
        for n in range(200):
            data = Bytes(b"image %d" % n)
            yield group(f"g{n}", media=(Media(Media.from_bytes(data).sha256, data=data),))

    with Client(url, in_flight=8) as client:
        most = max(Bytes.alive for _ in client.stream(source(), CALL))
    assert most < 40


def test_a_group_larger_than_a_message_is_streamed(doors, fake):
    """Over gRPC a large group becomes Open, several Adds and Close."""
    big = Group("big", "p", tuple(Response(str(k) * 1_000_000) for k in range(9)))
    with Client(doors.url("grpc")) as client:
        (scores,) = client.stream([big], CALL)
    assert scores.values == [fake.value("p", response) for response in big.responses]
    assert scores.parts["hash"].values == scores.values


def test_an_open_group_is_filled_and_scored(doors, fake):
    """Parts come after each add, the total after the end."""
    with Client(doors.url("grpc")) as client, client.open(Group("o", "p", (Response("a"),)), CALL) as opened:
        opened.add("b", Response("c"))
        rows = iter(opened)
        first, second = next(rows), next(rows)
        assert (first.indices, second.indices) == ([0], [1, 2]) and not second.complete
        assert second.parts["hash"].values == [fake.value("p", Response(text)) for text in "bc"]
        result = opened.result()
    assert result.values == [fake.value("p", Response(text)) for text in "abc"] and result.complete


async def test_the_async_twin_of_an_open_group(doors, fake):
    """The same with awaits."""
    async with (
        AsyncClient(doors.url("grpc")) as client,
        await client.open(Group("o", "p"), CALL) as opened,
    ):
        await opened.add("a")
        await opened.end()
        rows = [scores async for scores in opened]
        assert [scores.complete for scores in rows] == [False, True]
        assert (await opened.result()).values == [fake.value("p", Response("a"))]


def test_an_open_group_that_is_late_has_a_status(doors, fake):
    """At the deadline what is not scored is a timeout."""
    fake.delays = {"o": 5.0}
    with (
        Client(doors.url("grpc"), timeout_s=0.5, on_failure="none") as client,
        client.open(Group("o", "p"), CALL) as opened,
    ):
        opened.add("a")
        result = opened.result()
    assert result.values == [None] and result.complete


def test_an_open_group_waits_for_uploads_until_its_deadline(doors):
    """Its own, not the client's: where the hub has gone, media neither open a group nor join one for longer."""
    first, second = (Media.from_bytes(each) for each in (b"first", b"second"))
    with Client(doors.url("grpc"), timeout_s=20) as client:
        client.scorers()
        opened = client.open(group("o"), Call(recipe="math", deadline_ms=1_500))
        doors.stop()
        started = time.monotonic()
        try:
            with pytest.raises(DeadlineExceeded, match="group 'p' were not uploaded within 0.5 s"):
                client.open(group("p", media=(first,)), Call(recipe="math", deadline_ms=500))
            with pytest.raises(DeadlineExceeded):
                opened.add(Response("r", media=(second,)))
            assert time.monotonic() - started < 5
        finally:
            doors.start()


def test_open_groups_need_grpc(doors):
    """REST has no open groups; the message says which address has."""
    with Client(doors.url("http")) as client, pytest.raises(InvalidInput, match="grpc://"):
        client.open(Group("o", "p"), CALL)
