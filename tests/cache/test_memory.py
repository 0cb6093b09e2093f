"""The memory tier: bounded by the bytes that it really holds."""

import gc
import os
import tracemalloc

import pytest

from rewardhub.cache.memory import MemoryStore
from rewardhub.types import Status

KINDS = {
    "plain": lambda n: ((), None),
    "steps": lambda n: (tuple(n + 0.5 + step for step in range(50)), None),
    "reason": lambda n: ((), {"reason": f"because of {n}"}),
    "numbers": lambda n: ((), {"a": [n + 0.5 + each for each in range(200)]}),
    "nested": lambda n: ((), {"t": [{"name": f"n{n} {each}", "ok": True, "v": each + n + 0.5} for each in range(20)]}),
    "wide text": lambda n: ((), {"s": "字" * 5000 + str(n)}),
    "escapes": lambda n: ((), {"s": "\n" * 5000 + str(n)}),
}


def row(value, steps=(), details=None):
    return (value, Status.OK, None, steps, details)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_counted_as_they_are(kind):
    """What the metrics show and the capacity bounds is what Python allocates, within a quarter."""
    memory, make = MemoryStore(1 << 40), KINDS[kind]
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for n in range(1000):
        memory.put([(os.urandom(32), row(n + 0.5, *make(n)))])
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.8 < memory.bytes / (after - before) < 1.25


def test_memory_is_bounded():
    """The least recently used rows leave when the capacity is reached, and the count of bytes stays right."""
    memory = MemoryStore(4000)
    for n in range(10_000):
        memory.put([(b"%d" % n, row(float(n)))])
        memory.put([(b"%d" % n, row(float(n), (), {"reason": str(n)}))])
        assert memory.get([b"0"]) == [row(0.0, (), {"reason": "0"})]
        assert 0 < memory.bytes <= 4000
    assert memory.get([b"1"]) == [None]
    assert memory.get([b"9999"]) == [row(9999.0, (), {"reason": "9999"})]
    assert 9_990 < memory.evictions < 10_000
    kept = [key for key in (b"%d" % n for n in range(10_000)) if memory.get([key]) != [None]]
    assert len(kept) + memory.evictions == 10_000


def test_a_row_larger_than_the_store_costs_no_other_its_place():
    memory = MemoryStore(4000)
    memory.put([(b"a", row(1.0)), (b"b", row(2.0))])
    memory.put([(b"b", row(3.0, (), {"s": "x" * 5000}))])
    assert memory.get([b"a", b"b"]) == [row(1.0), None]
    assert memory.evictions == 0
