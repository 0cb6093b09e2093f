"""Responses that are nothing but a text are made together, and are like those that are made one by one."""

import pickle
from dataclasses import FrozenInstanceError

import pytest

from rewardhub.types import Response
from rewardhub.wire.plain import plain_responses
from rewardhub.wire.proto import response_to_proto, responses_from_proto

TEXTS = ["", "a", "é" * 300, "line\n\0"]


def test_made_together():
    """Equal to single ones in every field, no two of which share a mapping, and frozen."""
    made = plain_responses(TEXTS)
    assert made == tuple(map(Response, TEXTS))
    assert repr(made) == repr(tuple(map(Response, TEXTS)))
    assert pickle.loads(pickle.dumps(made)) == made
    assert made[0].signals is not made[1].signals
    with pytest.raises(FrozenInstanceError):
        made[0].text = "other"
    assert plain_responses([]) == ()


def test_read_from_messages():
    """Texts alone, and texts among responses that hold more."""
    plain = [*map(Response, TEXTS)]
    rich = [Response("b", tokens=0), Response("", signals={"a": 1.0}), Response(steps=((0, 1),))]
    for responses in (plain, plain + rich, rich + plain, []):
        assert responses_from_proto([*map(response_to_proto, responses)], "group") == tuple(responses)
