"""Writes that nobody waits for."""

import asyncio

from rewardhub.cache.background import LIMIT_BYTES, PIPELINE, PIPELINE_BYTES, Background

CHUNK = 100_000


async def test_order_bound_and_drain():
    """Commands go out in their order, one bounded pipeline at a time; what does not fit in is dropped as a whole."""
    sent, gate = [], asyncio.Event()

    async def send(commands):
        await gate.wait()
        assert len(commands) <= PIPELINE
        assert sum(map(len, commands)) < PIPELINE_BYTES + CHUNK
        sent.extend(commands)

    background = Background(send)
    small, large = [b"%d" % n for n in range(1000)], [bytes(CHUNK)] * (LIMIT_BYTES // CHUNK - 1)
    background.add([b"first"])
    await asyncio.sleep(0)
    background.add(small)
    background.add(large)
    held = background.bytes
    background.add([b"dropped", bytes(2 * CHUNK)])
    assert background.bytes == held <= LIMIT_BYTES
    waiting = asyncio.create_task(background.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    await waiting
    assert sent == [b"first", *small, *large]
    assert background.bytes == 0
    background.add([b"later"])
    await background.drained()
    assert sent[-1] == b"later"
