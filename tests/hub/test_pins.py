"""A run keeps the recipe it began with, until it says repin."""

import pytest

from rewardhub.errors import InvalidInput
from rewardhub.types import Call, Group, Response, Status
from rewardhub.v1 import types_pb2
from rewardhub.wire.lines import call_from_json
from rewardhub.wire.proto import call_from_proto


async def test_a_changed_model_is_refused_for_a_run(hub, dear):
    """The refusal names both fingerprints; other runs go on; repin accepts the change."""
    group = Group("g", "p", (Response("x"),))
    call = Call(recipe="dear", run="r1")
    assert (await hub.score([group], call))[0][0].status is Status.OK
    before = hub.book.plan("dear").fingerprint
    dear.version = "2"
    after = hub.book.plan("dear").fingerprint
    (scores,) = await hub.score([group], call)
    assert scores[0].status is Status.INVALID_INPUT
    assert scores[0].details["code"] == "pin_mismatch"
    assert before in scores[0].details["reason"]
    assert after in scores[0].details["reason"]
    assert (await hub.score([group], Call(recipe="dear", run="r2")))[0][0].status is Status.OK
    assert (await hub.score([group], Call(recipe="dear", run="r1", repin=True)))[0][0].status is Status.OK
    assert (await hub.score([group], call))[0][0].status is Status.OK


async def test_no_tenant_evicts_the_pins_of_another(hub, dear, monkeypatch):
    """Whoever names many runs loses the pins of its own oldest ones."""
    monkeypatch.setattr("rewardhub.pins.PINS_KEPT", 3)
    group = Group("g", "p", (Response("x"),))
    await hub.score([group], Call(recipe="dear", run="r1"), tenant="one")
    for number in range(5):
        await hub.score([group], Call(recipe="dear", run=f"r{number}"), tenant="two")
    dear.version = "2"
    (kept,) = await hub.score([group], Call(recipe="dear", run="r1"), tenant="one")
    assert kept[0].details["code"] == "pin_mismatch"
    runs = [(await hub.score([group], Call(recipe="dear", run=f"r{n}"), tenant="two"))[0][0].status for n in (4, 0)]
    assert runs == [Status.INVALID_INPUT, Status.OK]


def test_the_name_of_a_run_is_bounded_at_the_doors():
    """The hub keeps it: over 256 characters are refused, which names the field."""
    assert call_from_json({"run": "r" * 256}).run == "r" * 256
    for read in (
        lambda: call_from_json({"run": "r" * 257}),
        lambda: call_from_proto(types_pb2.CallOptions(run="r" * 257)),
    ):
        with pytest.raises(InvalidInput, match="run has 257 characters, at most 256") as refused:
            read()
        assert refused.value.field.endswith("run")
