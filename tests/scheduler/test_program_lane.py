"""The lane of programs: who is next, and what a program holds until it ends."""

import asyncio
import threading

import pytest

from rewardhub.errors import QuotaExceeded, Unavailable
from rewardhub.scheduler.program_lane import ProgramLane
from rewardhub.scheduler.tenant_slots import TenantSlots


class Programs:
    """Work that waits until it is let go, and remembers what began."""

    def __init__(self):
        self.begun = []
        self.go = threading.Event()

    def named(self, *names):
        def work(name):
            self.begun.append(name)
            assert self.go.wait(20)
            return name

        return [lambda name=name: work(name) for name in names]


@pytest.fixture
async def lane():
    lane = ProgramLane(1)
    yield lane
    lane.close()


async def until(held):
    for _ in range(1_000):
        if held():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never held")


async def test_results_come_in_order():
    """Of many programs on a few slots, as of none."""
    lane = ProgramLane(3)
    assert await lane.run([lambda n=n: n for n in range(50)], "a") == list(range(50))
    assert await lane.run([], "a") == []
    assert lane.count == 0
    lane.close()


async def test_an_error_is_raised_and_holds_nothing(lane):
    """The first error of a program is the call's; the slot is free again."""

    def broken():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await lane.run([broken, lambda: 1], "a")
    assert await lane.run([lambda: 2], "a") == [2]
    await until(lambda: lane.count == 0)


async def test_a_flood_of_bulk_programs_lets_online_ones_through(lane):
    """T06: a program of an online call waits for the one that runs and not for the two hundred that were there before."""
    programs = Programs()
    flood = asyncio.create_task(lane.run(programs.named(*["bulk"] * 200), "a", "one", "bulk"))
    await until(lambda: programs.begun)
    online = asyncio.create_task(lane.run(programs.named("online"), "b", "two", "online"))
    await asyncio.sleep(0)
    programs.go.set()
    assert await online == ["online"]
    assert programs.begun.index("online") <= 2
    assert await flood == ["bulk"] * 200


async def test_a_program_keeps_its_slots_until_it_ends(lane):
    """T07: a call that is given up leaves its running program behind, which holds the tenant's quota and the lane's slot;
    those that waited are gone at once and are never begun."""
    lane.tenants = TenantSlots({"greedy": 2})
    programs = Programs()
    call = asyncio.create_task(lane.run(programs.named("first", "second", "third"), "a", "greedy"))
    await until(lambda: programs.begun)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert lane.count == 1
    assert free_slots(lane, "greedy") == 1
    other = asyncio.create_task(lane.run(programs.named("other"), "a", "modest"))
    await asyncio.sleep(0.05)
    assert programs.begun == ["first"]
    programs.go.set()
    assert await other == ["other"]
    assert programs.begun == ["first", "other"]
    assert lane.count == 0
    assert free_slots(lane, "greedy") == 2


def free_slots(lane, tenant):
    """How many more programs of a tenant with two slots are let in."""
    free = 0
    try:
        while free < 3:
            lane.tenants.enter(tenant)
            free += 1
    except QuotaExceeded as error:
        assert error.field == "sandboxes"
    for _ in range(free):
        lane.tenants.leave(tenant)
    return free


async def test_what_does_not_fit_is_refused_before_it_counts():
    """T05: a full queue and a full quota refuse with the time to come back, and hold nothing for it."""
    lane = ProgramLane(1, queue_per_slot=2)
    lane.tenants = TenantSlots({"greedy": 1})
    programs = Programs()
    call = asyncio.create_task(lane.run(programs.named("a"), "a", "greedy"))
    await until(lambda: programs.begun)
    with pytest.raises(Unavailable) as full:
        await lane.run(programs.named("b", "c"), "a")
    with pytest.raises(QuotaExceeded):
        await lane.run(programs.named("b"), "a", "greedy")
    assert full.value.retry_after_s > 0
    assert lane.count == 1
    programs.go.set()
    assert await call == ["a"]
    lane.close()


async def test_a_closed_lane_begins_nothing(lane):
    """What waits when the hub ends is not begun, and its caller told; what runs ends by itself."""
    programs = Programs()
    call = asyncio.create_task(lane.run(programs.named("first", "second"), "a"))
    await until(lambda: programs.begun)
    lane.close()
    with pytest.raises(Unavailable):
        await call
    with pytest.raises(Unavailable):
        await lane.run(programs.named("third"), "a")
    assert lane.count == 1
    programs.go.set()
    await until(lambda: lane.count == 0)
    assert programs.begun == ["first"]
