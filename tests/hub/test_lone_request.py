"""A request when nothing else runs waits for nothing."""

import pytest

from rewardhub.types import Call, Group, Response, Status

from .conftest import oracle


async def test_a_lone_request_is_answered_without_waiting(hub):
    """T10: a cheap verifier's scores come in one go: not once does the call give control away."""
    group = Group("g", "p", (Response("a"), Response("b")))
    scoring = hub.score([group], Call(recipe="oracle"))
    with pytest.raises(StopIteration) as done:
        scoring.send(None)
    (scores,) = done.value.value
    assert scores.values == [oracle("p", "a"), oracle("p", "b")]


async def test_a_known_score_is_answered_without_waiting(hub, dear):
    """T10: the same for a dear score that is in memory."""
    group = Group("g", "p", (Response("a"),))
    await hub.score([group], Call(recipe="dear"))
    scoring = hub.score([group], Call(recipe="dear"))
    with pytest.raises(StopIteration) as done:
        scoring.send(None)
    assert done.value.value[0][0].cached
    assert dear.computed == ["a"]


async def test_a_model_that_gives_no_number_is_not_cached(hub, dear, monkeypatch):
    """T24: NaN and infinities of a remote scorer are internal errors without a value, and are computed again."""
    from rewardhub.types import Column

    given = [float("nan"), float("inf"), 0.5]

    async def broken(group, indices, context):
        dear.computed.append("computed")
        return Column([given.pop(0)], [Status.OK], dear.fingerprint)

    monkeypatch.setattr(type(dear), "score_remote", lambda self, *arguments: broken(*arguments))
    group = Group("g", "p", (Response("a"),))
    for expected in (None, None, 0.5, 0.5):
        (scores,) = await hub.score([group], Call(recipe="dear"))
        assert scores.values == [expected]
        assert scores[0].status is (Status.OK if expected else Status.INTERNAL_ERROR)
    assert len(dear.computed) == 3
