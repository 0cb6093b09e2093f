"""A run keeps the recipe it began with, until it says repin."""

from rewardhub.types import Call, Group, Response, Status


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
