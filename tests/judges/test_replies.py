"""Replies of endpoints that think aloud, break off or report errors of their own."""

import json

import pytest
from scripted_judge import Ask, Reply, raw, says, verdict

from rewardhub.scorer import Context
from rewardhub.types import Group, Response, Status


async def score(scorer):
    column = await scorer.bind({}).score_remote(Group("g", "What is 3 + 4?", (Response("seven"),)), [0], Context())
    return column.row(0)


@pytest.mark.parametrize("finish", ["content_filter", "abort", "error", "max_tokens"])
@pytest.mark.parametrize("structured", [False, True])
async def test_replies_that_were_broken_off(judges, finish, structured) -> None:
    """Whatever ended a reply early, a filter or a server that gave up: the 1 of a 10 is no verdict."""
    said = '{"reasoning": "Fine.", "nonce": "{nonce}", "verdict": "1' if structured else "Fine.\nVERDICT[{nonce}]: 1"
    scorer, [server] = await judges(says(said, finish=finish), attempts=2, structured=structured)
    row = await score(scorer)
    assert (row.value, row.status, len(server.asks)) == (None, Status.JUDGE_UNPARSEABLE, 2)
    assert finish in row.details["reason"]


WHOLE = '{"reasoning": "Fine.", "nonce": "{nonce}", "verdict": "10"}'
DRAFT = '{"reasoning": "Bad.", "nonce": "{nonce}", "verdict": "1"}'


@pytest.mark.parametrize(("opened", "structured"), [("<think>\n", False), ("", False), ("<think>\n", True)])
async def test_thoughts_before_a_reply(judges, opened, structured) -> None:
    """A reasoning model's drafts are no verdicts; its thoughts are part of the reason."""
    draft, said = (DRAFT, WHOLE) if structured else ("VERDICT[{nonce}]: 1", "Fine.\nVERDICT[{nonce}]: 10")
    scorer, _ = await judges(says(f"{opened}Perhaps:\n{draft}\n</think>\n\n{said}"), structured=structured)
    row = await score(scorer)
    assert (row.value, row.status) == (1.0, Status.OK)
    assert "Perhaps" in row.details["reason"]
    assert row.details["reason"].endswith("Fine.")


@pytest.mark.parametrize("said", [
    "<think>\nPerhaps:\nVERDICT[{nonce}]: 1", "<think>\nPerhaps:\nVERDICT[{nonce}]: 1\n</think>",
    "<think>no</think>VERDICT[{nonce}]: 1\nVERDICT[{nonce}]: 2",
    "<think>no</think>VERDICT[{nonce}]: 1\n</think>\nVERDICT[{nonce}]: 2",
])  # fmt: skip
async def test_drafts_are_no_verdicts(judges, said) -> None:
    """What a model thinks that it may say is not what it says, and of two verdicts behind its thoughts none counts."""
    scorer, [server] = await judges(says(said), attempts=2)
    row = await score(scorer)
    assert (row.value, row.status, len(server.asks)) == (None, Status.JUDGE_UNPARSEABLE, 2)


def message(**fields):
    def act(ask: Ask) -> Reply:
        filled = json.loads(json.dumps(fields).replace("{nonce}", ask.nonce))
        return Reply(body=json.dumps({"choices": [{"message": filled, "finish_reason": "stop"}]}).encode())

    return act


LINE = "Fine.\nVERDICT[{nonce}]: 10"
CALL = {"id": "a", "type": "function", "function": {"name": "grade", "arguments": LINE}}


@pytest.mark.parametrize("fields", [
    {"content": None, "reasoning_content": LINE}, {"content": None, "tool_calls": [CALL]}, {"content": None},
    {"content": "", "tool_calls": [CALL]}, {"content": None, "refusal": LINE}, {},
])  # fmt: skip
async def test_a_verdict_that_stands_elsewhere(judges, fields) -> None:
    """Only what is said counts: not what was thought, called or refused."""
    scorer, [server] = await judges(message(**fields), attempts=2)
    row = await score(scorer)
    assert (row.value, row.status, len(server.asks)) == (None, Status.JUDGE_UNPARSEABLE, 2)


async def test_an_error_beside_choices_that_are_null(judges) -> None:
    """A gateway's own failure under status 200 fails over, however it writes that there is no choice."""
    scorer, [broken, well] = await judges(raw(b'{"choices": null, "error": {"code": 502}}'), verdict(10))
    assert {(await score(scorer)).value for _ in range(4)} == {1.0}
    assert broken.asks
    assert well.asks
    scorer, _ = await judges(raw(b'{"choices": null, "error": {"code": 502}}'), attempts=1)
    assert (await score(scorer)).status is Status.UNAVAILABLE
