"""`LocalHub`: streams for blocking callers. What is read ahead is bounded, nothing is lost, no thread is left."""

import itertools
import threading
import time
from pathlib import Path

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import Cancelled, ConfigError
from rewardhub.hub import IN_FLIGHT
from rewardhub.local import LocalHub
from rewardhub.types import Call, Group, Response

from .conftest import oracle

CHEAP, DEAR = Call(recipe="oracle"), Call(recipe="dear")


@pytest.fixture
def local(registry, monkeypatch):
    monkeypatch.setattr("rewardhub.recipe_book.CATALOGUE", Path("/nonexistent"))
    with LocalHub(lambda: make_hub(HubConfig(workers=1), registry)) as hub:
        yield hub


def group(n):
    return Group(f"g{n}", f"p{n}", (Response(str(n)), Response(f"-{n}")))


def values(n):
    return [oracle(f"p{n}", str(n)), oracle(f"p{n}", f"-{n}")]


def reading():
    return [thread for thread in threading.enumerate() if thread.name == "rewardhub-feed"]


def eventually(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


class Endless:
    """Groups without end; ``read`` counts them, ``closed`` is set when nobody holds them any more."""

    def __init__(self):
        self.read = 0
        self.closed = threading.Event()

    def __iter__(self):
        try:
            while True:
                self.read += 1
                yield group(self.read - 1)
        finally:
            self.closed.set()


@pytest.mark.parametrize("call", [CHEAP, DEAR], ids=["cheap", "dear"])
def test_every_group_is_answered_once(local, call):
    """Several streams at once, longer than what may be under way: each gets the scores of its own groups."""
    found = {}

    def work(k):
        numbers = range(k * 10_000, k * 10_000 + 3 * IN_FLIGHT + k)
        answers = [(scores.id, scores.values) for scores in local.stream(map(group, numbers), call)]
        found[k] = sorted(answers) == sorted((f"g{n}", values(n)) for n in numbers)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), True)
    assert eventually(lambda: not reading())


def test_a_group_is_scored_as_it_comes(local):
    """The answer to each group is there before the next group is."""
    answered = threading.Event()
    answered.set()

    def produce():
        for n in range(40):
            assert answered.wait(10)
            answered.clear()
            yield group(n)

    for n, scores in enumerate(local.stream(produce(), CHEAP)):
        assert (scores.id, scores.values) == (f"g{n}", values(n))
        answered.set()


@pytest.mark.parametrize("call", [CHEAP, DEAR], ids=["cheap", "dear"])
def test_what_is_read_ahead_is_bounded(local, dear, call):
    """A caller that takes its time holds the reading back, whether the scores are ready or not."""
    endless = Endless()
    scores = local.stream(endless, call)
    for taken in range(1, 4):
        next(scores)
        assert eventually(lambda taken=taken: endless.read == IN_FLIGHT + taken)
        time.sleep(0.05)
        assert endless.read == IN_FLIGHT + taken
    scores.close()


def test_an_error_comes_after_all_that_was_read_before(local):
    """It is the iterable's own, and the hub goes on."""

    class Broken(BaseException):
        pass

    def produce(count):
        yield from map(group, range(count))
        raise Broken("the generator broke")

    for count in (0, 1, 5, 2 * IN_FLIGHT):
        found = []
        with pytest.raises(Broken, match="the generator broke"):
            for scores in local.stream(produce(count), CHEAP):
                found.append(scores.id)
        assert sorted(found) == sorted(f"g{n}" for n in range(count))
    assert local.score([group(1)], CHEAP)[0].values == values(1)
    assert eventually(lambda: not reading())


def test_what_is_no_iterable_is_an_error(local):
    """It is raised where the stream is read."""
    with pytest.raises(TypeError, match="not iterable"):
        list(local.stream(3, CHEAP))


@pytest.mark.parametrize("call", [CHEAP, DEAR], ids=["cheap", "dear"])
def test_a_stream_that_is_given_up_reads_no_more(local, call):
    """Its thread ends and lets the iterable go, though it waited for room."""
    endless = Endless()
    for _ in local.stream(endless, call):
        if eventually(lambda: endless.read > IN_FLIGHT):
            break
    assert endless.closed.wait(10)
    assert eventually(lambda: not reading())
    assert local.score([group(1)], CHEAP)[0].values == values(1)


def test_a_thread_that_waits_for_a_group_ends_with_it(local):
    """Nobody can interrupt the iterable; what it still gives is not scored."""
    more = threading.Event()
    asked = []

    def produce():
        for n in itertools.count():
            asked.append(n)
            yield group(n)
            assert more.wait(10)

    scores = local.stream(produce(), CHEAP)
    assert next(scores).values == values(0)
    scores.close()
    assert reading()
    more.set()
    assert eventually(lambda: not reading())
    assert asked == [0, 1]


def test_a_stream_that_nobody_reads_does_not_begin(local):
    """No thread and no group is asked for."""
    endless = Endless()
    local.stream(endless, CHEAP)
    assert not endless.read and not reading()


def test_streams_end_with_the_hub(registry, dear, monkeypatch):
    """Whoever waits for scores in another thread is told."""
    monkeypatch.setattr("rewardhub.recipe_book.CATALOGUE", Path("/nonexistent"))
    dear.delay_s = 60.0
    endless, found = Endless(), []

    def work(hub):
        try:
            list(hub.stream(endless, DEAR))
        except Cancelled as error:
            found.append(error.message)

    with LocalHub(lambda: make_hub(HubConfig(workers=1), registry)) as hub:
        thread = threading.Thread(target=work, args=(hub,))
        thread.start()
        assert eventually(lambda: endless.read == IN_FLIGHT)
    thread.join(10)
    assert found == ["the hub was closed"]
    assert endless.closed.wait(10) and eventually(lambda: not reading())


def test_a_score_under_way_ends_with_its_hub():
    """A thread that scores while the hub is closed gets ``Cancelled`` and does not hang."""
    raised: list[Exception] = []
    waiting = threading.Event()
    text = "name: r\nterms: {t: {scorer: length, with: {unit: chars}}}\nvalue: g_mean(t)"

    def score(hub):
        waiting.set()
        try:
            hub.score([Group("g", "p", (Response("a"),), expected=2)], Call(recipe_text=text, deadline_ms=60_000))
        except Exception as error:
            raised.append(error)

    with LocalHub(lambda: make_hub(HubConfig(workers=1))) as hub:
        thread = threading.Thread(target=score, args=(hub,), daemon=True)
        thread.start()
        waiting.wait(5)
        time.sleep(0.2)
    thread.join(5)
    assert not thread.is_alive()
    assert [type(error) for error in raised] == [Cancelled]


def test_a_hub_that_does_not_start_leaves_nothing(registry, monkeypatch):
    """What was started before the fault is ended: no process is left, and no thread of the hub."""
    monkeypatch.setattr("rewardhub.recipe_book.CATALOGUE", Path("/nonexistent"))
    made = []

    class Odd:
        async def start(self):
            raise ConfigError("it does not start")

        async def aclose(self):
            pass

    def make():
        made.append(make_hub(HubConfig(workers=1), registry))
        made[0].scheduler.services.append(Odd())
        return made[0]

    with pytest.raises(ConfigError), LocalHub(make):
        pass
    assert not made[0].scheduler.pool._zygote.alive
    assert "rewardhub" not in [thread.name for thread in threading.enumerate()]
