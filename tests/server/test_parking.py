"""Events that wait for media: what they may hold, and that all of it is given back."""

import pytest

from rewardhub.errors import QuotaExceeded, Unavailable
from rewardhub.server.inflight import Inflight
from rewardhub.server.parking import MAX_MISSING, Parked, Parking


def event(name: str, missing: set[str], told: list, size: int = 10) -> Parked:
    async def run() -> None:
        told.append(name)

    return Parked(name, missing, 1e9, run, lambda error: told.append((name, type(error))), size)


async def test_bytes_and_media_are_bounded():
    """Over either the next event is refused, and nothing of it is counted."""
    inflight, told = Inflight(1, 25).of("a"), []
    parking = Parking(inflight)
    for name in "ab":
        parking.park(event(name, {name}, told))
    with pytest.raises(Unavailable):
        parking.park(event("c", {"c"}, told))
    with pytest.raises(QuotaExceeded, match="media are missing"):
        parking.park(event("d", {str(n) for n in range(MAX_MISSING)}, told, 0))
    parking.wait_no_more("a")
    await parking.release()
    parking.park(event("c", {"c"}, told))
    assert (told, parking.wanted()) == (["a"], {"b", "c"})
    parking.clear()
    inflight.take(25)


async def test_events_that_want_what_has_no_room_are_answered():
    """Each that waits for the media, and no other; what follows of the group runs."""
    inflight, told = Inflight(1, 40).of("a"), []
    parking = Parking(inflight)
    for name, missing in (("a", {"x"}), ("a", set()), ("b", {"y"}), ("c", {"x", "y"})):
        parking.park(event(name, missing, told))
    parking.refuse("x", Unavailable("full"))
    await parking.release()
    assert told == [("a", Unavailable), ("c", Unavailable), "a"]
    parking.lacks_only(set())
    await parking.release()
    assert told[-1] == "b"
    inflight.take(40)
