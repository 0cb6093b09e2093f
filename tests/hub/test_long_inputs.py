"""What takes long to read is not read on the event loop."""

import pytest

from rewardhub.types import Call, Column, Group, Response, Status

LONG = {
    "texts": Group("g", "p", (Response("x" * 7_000),) * 10),
    "reference": Group("g", "p", (Response("x"),) * 10, {"answer": "y" * 7_000}),
    "nested": Group("g", "p", (Response("x"),) * 10, {"answer": "y", "more": [{"words": ["z" * 100] * 70}]}),
    "numbers": Group("g", "p", (Response("x"),) * 10, {"answer": "y", "more": [[1, 2, 3]] * 300}),
    "messages": Group("g", "p", (Response(messages=({"role": "assistant", "content": "x" * 7_000},)),) * 10),
}


@pytest.mark.parametrize("what", LONG)
async def test_long_inputs_leave_the_event_loop(hub, monkeypatch, what):
    """Texts and messages count, and the reference once for each row that reads it."""
    sent = []

    async def run(bound, group, rows, context):
        sent.extend(rows)
        return Column([1.0] * len(rows), [Status.OK] * len(rows), bound.fingerprint)

    monkeypatch.setattr(hub.scheduler.pool, "run", run)
    group = LONG[what]
    await hub.score([Group("s", "p", group.responses[:1], group.reference)], Call(recipe="oracle"))
    assert not sent
    await hub.score([group], Call(recipe="oracle"))
    assert sent
