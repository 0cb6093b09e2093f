"""Requests written as bytes say what the message objects would."""

import pytest

from rewardhub.types import Call, Group, Media, Response
from rewardhub.v1 import reward_service_pb2 as service
from rewardhub.wire import proto
from rewardhub.wire.packed import packed, score_request

TEXTS = ["", "a", "é" * 300, "line\n\0", "x" * 127, "x" * 128, "漢" * 6_000, "x" * 70_000]
PLAIN = Group("plain", "p", tuple(map(Response, TEXTS)), {"answer": "4"}, metadata={"n": 1})
RICH = Group("rich", "p", (Response("a", tokens=0), Response("b", signals={"s": 1.0}), Response("c")))
SHOWN = Group("shown", [{"role": "user", "content": "é"}], (Response("a"),), media=(Media("a" * 64),), expected=3)
OPTIONS = proto.call_to_proto(Call("r", inputs={"stage": 1.0}))


def test_read_as_messages():
    """Plain texts of every length of a length, others, and none."""
    groups = [PLAIN, RICH, SHOWN, Group("empty"), Group("")]
    messages = [packed(group) for group in groups]
    read = service.ScoreRequest.FromString(score_request(OPTIONS, messages))
    assert read == service.ScoreRequest(options=OPTIONS, groups=map(proto.group_to_proto, groups))
    assert [each.ByteSize() for each in read.groups][1:] == [each.size for each in messages][1:]
    assert [each.text for each in read.groups[0].responses] == TEXTS


@pytest.mark.parametrize("text", ["\ud800", 3, None, b"\xff", ["a"]])
def test_what_cannot_be_sent(text):
    """Half of a surrogate pair, and what is no text."""
    with pytest.raises((TypeError, ValueError, AttributeError)):
        packed(Group("g", responses=(Response("a"), Response(text))))
