"""Streams: groups in as they come, scores out as they are ready."""

import asyncio
import threading
import time

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import Cancelled
from rewardhub.hub import IN_FLIGHT
from rewardhub.local import LocalHub
from rewardhub.types import Call, Group, Response

from .conftest import oracle


def group(n):
    return Group(f"g{n}", f"p{n}", (Response(str(n)),))


async def test_scores_come_before_the_input_ends(hub):
    """A slow producer sees its first score while the second group is not there yet."""
    more = asyncio.Event()

    async def produce():
        yield group(0)
        await more.wait()
        yield group(1)

    stream = hub.stream(produce(), Call(recipe="oracle"))
    first = await asyncio.wait_for(anext(stream), 5)
    assert first.values == [oracle("p0", "0")]
    more.set()
    assert [scores.id async for scores in stream] == ["g1"]


async def test_a_fast_producer_is_held_back(hub, dear):
    """No more than the stated number of groups is read ahead."""
    dear.gate = asyncio.Event()
    read = []

    def produce():
        for n in range(1000):
            read.append(n)
            yield group(n)

    stream = hub.stream(produce(), Call(recipe="dear"))
    pending = asyncio.create_task(anext(stream))
    await asyncio.sleep(0.2)
    assert len(read) <= IN_FLIGHT + 1
    dear.gate.set()
    await pending
    assert len([scores async for scores in stream]) == 999


async def test_an_error_of_the_producer_is_raised(hub):
    """The consumer gets what was scored, then the error."""

    async def produce():
        yield group(0)
        await asyncio.sleep(0.05)
        raise RuntimeError("the generator broke")

    stream = hub.stream(produce(), Call(recipe="oracle"))
    assert (await anext(stream)).id == "g0"
    with pytest.raises(RuntimeError, match="the generator broke"):
        await anext(stream)


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit])
async def test_a_producer_that_was_cancelled_ends_its_stream(hub, error):
    """Its consumer waited for ever."""

    async def produce():
        yield group(0)
        await asyncio.sleep(0.05)
        raise error

    expected = Cancelled if error is asyncio.CancelledError else error
    async with asyncio.timeout(5):
        with pytest.raises(expected):
            _ = [scores async for scores in hub.stream(produce(), Call(recipe="oracle"))]


def test_a_hub_in_process_for_blocking_callers(registry, monkeypatch):
    """`LocalHub` streams from a blocking iterable and scores from several threads."""
    monkeypatch.setattr("rewardhub.recipe_book.CATALOGUE", __import__("pathlib").Path("/nonexistent"))
    with LocalHub(lambda: make_hub(HubConfig(workers=1), registry)) as hub:

        def produce():
            for n in range(20):
                time.sleep(0.002)
                yield group(n)

        found = {scores.id: scores.values for scores in hub.stream(produce(), Call(recipe="oracle"))}
        assert found == {f"g{n}": [oracle(f"p{n}", str(n))] for n in range(20)}
        answers = {}

        def work(k):
            answers[k] = [hub.score([group(k)], Call(recipe="oracle"))[0].values for _ in range(20)]

        threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {k: [[oracle(f"p{k}", str(k))]] * 20 for k in range(8)}
