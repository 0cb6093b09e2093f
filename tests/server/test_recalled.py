"""Large requests that come again are known by their bytes, and answered as if they were not."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from rewardhub.cache.key import row_keys
from rewardhub.server import intake
from rewardhub.server.recalled import LEAST_BYTES, Recalled
from rewardhub.server.settings import Limits
from rewardhub.types import Call, Group, Response
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.wire import proto
from rewardhub.wire.packed import packed, score_request
from rewardhub.wire.plain import Kept

TEXTS = tuple(Response(f"{n} " + "é" * 40) for n in range(LEAST_BYTES // 80))
GROUP = Group("g", "p", TEXTS, {"answer": "4"})
RICH = Group("rich", "p", (Response("a", tokens=3), *TEXTS))


def body_of(*groups, **call):
    return score_request(proto.call_to_proto(Call("r", **call)), list(map(packed, groups)))


def read(recalled, body, tenant=""):
    call, items = recalled.read(body, pb.ScoreRequest.FromString(body), tenant, Limits())
    assert (call, items) == intake.from_proto(pb.ScoreRequest.FromString(body), Limits())
    return items


def test_read_twice():
    """Under other options too; each group has its own responses, and one that holds more is read anew."""
    recalled = Recalled()
    groups = (GROUP, RICH, replace(GROUP, id="h", responses=TEXTS[:3]))
    assert not isinstance(read(recalled, body_of(*groups))[0].responses, Kept)
    first, rich, last = read(recalled, body_of(*groups))
    again = read(recalled, body_of(*groups, deadline_ms=77, details=False))
    assert isinstance(first.responses, Kept)
    assert first.responses is again[0].responses
    assert last.responses is again[2].responses
    assert not isinstance(rich.responses, Kept)


@pytest.mark.parametrize(
    ("body", "tenant"),
    [
        (body_of(GROUP), "other"),
        (body_of(replace(GROUP, prompt="q")), ""),
        (body_of(replace(GROUP, responses=(*TEXTS[:-1], Response("new")))), ""),
        (body_of(replace(GROUP, responses=(*TEXTS[:400], Response("400 " + "e" * 80), *TEXTS[401:]))), ""),
        (body_of(replace(GROUP, responses=TEXTS[:3])), ""),
        (pb.ScoreRequest(groups=[proto.group_to_proto(GROUP)]).SerializeToString() + body_of(), ""),
    ],
    ids=["tenant", "prompt", "last_response", "response_of_equal_size", "small", "options_last"],
)
def test_anything_else_is_another_request(body, tenant):
    """A tenant does not share with others, nor a request with one that differs in a byte."""
    recalled = Recalled()
    for _ in range(3):
        (known,) = read(recalled, body_of(GROUP))
    for _ in range(3):
        (item,) = read(recalled, body, tenant)
        assert item.responses is not known.responses


def test_bounded():
    """The least recently used request leaves; a request above all room is not held."""
    one, two = body_of(GROUP), body_of(replace(GROUP, id="h"))
    recalled = Recalled(len(one))
    for body in (one, two):
        read(recalled, body)
    (first,), _, (again,), (last,) = (read(recalled, body) for body in (one, two, one, one))
    assert again.responses is not first.responses
    assert last.responses is again.responses
    none = Recalled(10)
    assert len({id(items[0].responses) for items in [read(none, one) for _ in range(4)]}) == 4


@pytest.mark.parametrize("scope", ["response", "group"])
def test_keys_are_the_same(scope):
    """Of all rows and of some, at first and later, for several scorers; kept responses or not."""
    kept = replace(GROUP, responses=Kept(GROUP.responses))
    for fingerprint in ("a", "b", "a"):
        bound = SimpleNamespace(fingerprint=fingerprint, info=SimpleNamespace(scope=scope))
        for rows in (list(range(len(TEXTS))), [1, 2], [], list(reversed(range(len(TEXTS))))):
            for tenant in ("", "t", ""):
                assert row_keys(bound, kept, rows, tenant) == row_keys(bound, GROUP, rows, tenant)
