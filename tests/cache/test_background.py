"""Writes that nobody waits for."""

import asyncio

from rewardhub.cache.background import LIMIT, PIPELINE, Background


async def test_order_bound_and_drain():
    """Commands go out in their order, one pipeline at a time; what does not fit in is dropped as a whole."""
    sent, gate = [], asyncio.Event()

    async def send(commands):
        await gate.wait()
        assert len(commands) <= PIPELINE
        sent.extend(commands)

    background = Background(send)
    background.add([0, 1])
    await asyncio.sleep(0)
    background.add(range(2, LIMIT + 2))
    background.add(["dropped", "dropped"])
    waiting = asyncio.create_task(background.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    await waiting
    assert sent == [*range(LIMIT + 2)]
    background.add(["later"])
    await background.drained()
    assert sent[-1] == "later"
