"""Judges inside recipes: rule first and judge only where it cannot decide; a judge that is down."""

import time
from contextlib import asynccontextmanager

import pytest
from scripted_judge import ScriptedJudge, answers, verdict

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.judges.endpoint import FAILURES_TO_OPEN
from rewardhub.types import Call, Group, Response, Status

CASCADE = """\
name: cascade
terms:
  exact: {scorer: math}
  judged: {scorer: judge, with: {rubric: equivalence}, when: exact == 0}
value: if_skipped(judged, exact)
"""
SUM = """\
name: sum
terms:
  exact: {scorer: math}
  format: {scorer: tags}
  judged: {scorer: judge}
value: exact + judged
"""


def group(*texts: str) -> Group:
    return Group("g", "What is 3 + 4?", tuple(map(Response, texts)), {"answer": "7"})


@asynccontextmanager
async def hub_with(script):
    """A hub with one judge, and the judge's server."""
    async with ScriptedJudge(script) as server:
        judge = {"name": "judge", "endpoints": [{"url": server.url}], "retry_burst": 0}
        hub = make_hub(HubConfig(workers=1, judges=(judge,)))
        await hub.start()
        try:
            yield hub, server
        finally:
            await hub.aclose()


async def test_the_judge_is_asked_only_where_the_rule_cannot_decide() -> None:
    """Cascade: the rule's yes is final, its no goes to the judge, and both verdicts stand in the parts."""
    async with hub_with(verdict(1)) as (hub, server):
        (scores,) = await hub.score([group("7", "\\boxed{7}", "the sum is seven", "")], Call(recipe_text=CASCADE))
        assert scores.values == [1.0, 1.0, 1.0, 0.0]
        assert [ask.block() for ask in server.asks] == ["the sum is seven"]
        assert scores.parts["exact"].values == [1.0, 1.0, 0.0, 0.0]
        skipped, judged, gated = (scores[row].parts["judged"] for row in (0, 2, 3))
        assert (skipped.status, judged.value, gated.value) == (Status.SKIPPED, 1.0, 0.0)
        assert (judged.details["verdict"], judged.details["reason"]) == (1, "It was checked.")
        assert gated.details["gate"]


async def test_a_cascade_whose_judge_is_down_keeps_what_the_rule_decided() -> None:
    """The rule's yes keeps its value; what only the judge could say has none, with its status."""
    async with hub_with(answers(503)) as (hub, _):
        (scores,) = await hub.score([group("7", "seven, I think")], Call(recipe_text=CASCADE))
        assert scores.values == [1.0, None]
        assert [score.status for score in scores] == [Status.OK, Status.UNAVAILABLE]


async def test_all_judges_down_leaves_the_other_terms_within_50_ms() -> None:
    """T38: once the circuits are open a composite answers within 50 ms: its other parts, and the missing one marked."""
    async with hub_with(answers(503)) as (hub, server):
        call = Call(recipe_text=SUM)
        await hub.score([group(*map(str, range(2 * FAILURES_TO_OPEN)))], call)
        asked = len(server.asks)
        took = []
        for _ in range(5):
            started = time.monotonic()
            (scores,) = await hub.score([group("7", "<think>t</think><answer>8</answer>")], call)
            took.append(time.monotonic() - started)
        assert min(took) < 0.05
        assert len(server.asks) == asked
        assert scores.values == [None, None]
        assert scores.parts["exact"].values == [1.0, 0.0]
        assert scores.parts["format"].values == [0.0, 1.0]
        for score in scores:
            assert (score.status, score.retryable, score.parts["judged"].status) == (
                Status.UNAVAILABLE, True, Status.UNAVAILABLE,
            )  # fmt: skip
            assert score.parts["judged"].details["reason"] == "no judge endpoint is up"
            assert 0 < score.parts["judged"].details["retry_after_s"] == pytest.approx(score.details["retry_after_s"])
