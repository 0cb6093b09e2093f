"""Weighted fair queueing: a flood neither delays a trickle nor is starved by it."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from rewardhub.scheduler.fair_queue import FairQueue


def drain(queue):
    items = []
    while (item := queue.pop()) is not None:
        items.append(item)
    return items


def test_a_lone_item_passes_a_flood():
    """T06: an online item of a quiet tenant is served next, though a thousand wait."""
    queue = FairQueue()
    for n in range(1000):
        queue.put(("bulk", n), priority="bulk", tenant="a", cost=1)
    for _ in range(10):
        queue.pop()
    queue.put("online", priority="online", tenant="b", cost=1)
    assert "online" in [queue.pop() for _ in range(2)]


def test_weights_share_the_lane():
    """Sixteen online items are served for each bulk item while both wait; bulk is never starved."""
    queue = FairQueue()
    for n in range(400):
        queue.put(("online", n), priority="online", tenant="a", cost=1)
        queue.put(("bulk", n), priority="bulk", tenant="a", cost=1)
    first = [queue.pop()[0] for _ in range(340)]
    assert 15 <= first.count("bulk") <= 25


def test_tenants_are_equal():
    """Two tenants of one class alternate, whoever sent more."""
    queue = FairQueue()
    for n in range(100):
        queue.put(("a", n), priority="online", tenant="a", cost=1)
    for n in range(10):
        queue.put(("b", n), priority="online", tenant="b", cost=1)
    assert [queue.pop()[0] for _ in range(20)].count("b") >= 9


def test_cost_counts():
    """A tenant of large items gets as many tokens as one of small items, not as many turns."""
    queue = FairQueue()
    for n in range(100):
        queue.put(("large", n), priority="online", tenant="a", cost=10)
        queue.put(("small", n), priority="online", tenant="b", cost=1)
    assert [queue.pop()[0] for _ in range(55)].count("large") <= 6


def test_what_is_put_back_comes_first():
    """A job whose worker was lost does not queue again."""
    queue = FairQueue()
    for n in range(3):
        queue.put(n, priority="online", tenant="", cost=1)
    first = queue.pop()
    queue.put_back(first, priority="online", tenant="", cost=1)
    assert drain(queue) == [0, 1, 2]


def test_what_is_put_back_passes_its_kind_alone():
    """T06: parts of a bulk item wait as bulk does, in turn with online items, and before the rest of their own flow."""
    queue = FairQueue()
    for n in range(4):
        queue.put(("bulk", n), priority="bulk", tenant="a", cost=16)
    assert queue.pop() == ("bulk", 0)
    for n in range(40):
        queue.put(("online", n), priority="online", tenant="b", cost=1)
    for n in range(4):
        queue.put_back(("part", n), priority="bulk", tenant="a", cost=4)
    assert queue.first == ("online", 0)
    served = drain(queue)
    places = [served.index(("part", n)) for n in range(4)]
    assert (
        places == sorted(places)
        and places[0] < 3
        and all(later - first > 8 for first, later in zip(places, places[1:]) if later < 40)
    )
    assert all(served.index(("part", n)) < served.index(("bulk", 2)) for n in range(4))


@given(st.lists(st.tuples(st.sampled_from(["online", "bulk"]), st.sampled_from("abc"), st.integers(0, 50))))
def test_each_item_comes_out_once_and_flows_keep_their_order(items):
    """Property: nothing is lost or doubled, and within a flow the order of arrival holds."""
    queue = FairQueue()
    for n, (priority, tenant, cost) in enumerate(items):
        queue.put((priority, tenant, n), priority=priority, tenant=tenant, cost=cost)
    out = drain(queue)
    assert sorted(n for *_, n in out) == list(range(len(items)))
    for flow in {(priority, tenant) for priority, tenant, _ in out}:
        order = [n for priority, tenant, n in out if (priority, tenant) == flow]
        assert order == sorted(order)


async def test_waiting_ends_with_an_item():
    """`get` and `wait` return when something arrives."""
    queue = FairQueue()
    getting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put("x", priority="online", tenant="", cost=1)
    assert await getting == "x"
    assert len(queue) == 0


def test_what_nobody_waits_for_is_swept_out():
    """T05: callers who give up while a lane is held up leave a bounded queue, in which what is left keeps its order."""
    given_up = set()
    queue = FairQueue(given_up.__contains__)
    for n in range(100_000):
        queue.put(n, priority="online", tenant="t", cost=1)
        if n % 1_000:
            given_up.add(n)
    assert len(queue) < 2_000
    assert [n for n in drain(queue) if n not in given_up] == list(range(0, 100_000, 1_000))


def test_what_is_given_up_is_not_charged():
    """T05: a tenant whose callers went away before their turn is served next as if they had never asked."""
    given_up = {("a", n) for n in range(50)}
    queue = FairQueue(given_up.__contains__)
    for n in range(100):
        queue.put(("a", n), priority="online", tenant="a", cost=1)
        queue.put(("b", n), priority="online", tenant="b", cost=1)
    served = [item for item in drain(queue) if item not in given_up]
    assert 9 <= [tenant for tenant, _ in served[:20]].count("a") <= 11
