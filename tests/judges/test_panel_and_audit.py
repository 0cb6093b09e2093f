"""Panels of judges, and the audit that says how far a judge can be trusted."""

import time

import pytest
from pydantic import ValidationError
from scripted_judge import Ask, answers, says, verdict

from rewardhub.errors import ConfigError, UnknownName
from rewardhub.judges import JudgePool, JudgeSettings, PanelSettings, audit_judge, judge_scorers, panel_scorers
from rewardhub.scorer import Context
from rewardhub.types import Group, Response, Status


async def panel(judges, *scripts, rule: str, rubric: str = "equivalence"):
    made = [(await judges(script, name=f"judge{n}", rubric=rubric, attempts=1))[0] for n, script in enumerate(scripts)]
    names = tuple(judge.settings.name for judge in made)
    return panel_scorers([PanelSettings(name="panel", members=names, rule=rule)], made)[0]


async def score(scorer, *texts: str):
    group = Group("g", "What is 3 + 4?", tuple(map(Response, texts)), reference={"answer": "7"})
    column = await scorer.bind({}).score_remote(group, range(len(texts)), Context(deadline=time.monotonic() + 20))
    return [column.row(index) for index in range(len(column))]


DOWN, GARBLED, YES, NO = answers(400), says("?"), verdict(1), verdict(0)


@pytest.mark.parametrize(
    ("rule", "scripts", "value", "status"),
    [
        ("mean", (YES, YES, NO), 2 / 3, Status.OK),
        ("mean", (YES, GARBLED, YES), None, Status.JUDGE_UNPARSEABLE),
        ("majority", (YES, YES, NO), 1.0, Status.OK),
        ("majority", (YES, NO, NO), 0.0, Status.OK),
        ("majority", (YES, NO), 0.0, Status.OK),
        ("majority", (YES, DOWN, YES), 1.0, Status.OK),
        ("majority", (NO, DOWN, NO), 0.0, Status.OK),
        ("majority", (YES, DOWN, NO), None, Status.INTERNAL_ERROR),
        ("majority", (DOWN, GARBLED, YES), None, Status.INTERNAL_ERROR),
    ],
)
async def test_panels_decide_or_say_why_not(judges, rule, scripts, value, status) -> None:
    """The mean needs all members, a majority more than half of them; a missing member is never a vote."""
    [row] = await score(await panel(judges, *scripts, rule=rule), "seven")
    assert (row.value, row.status) == (pytest.approx(value) if value is not None else None, status)
    assert len(row.details["members"]) == len(scripts)


async def test_a_panel_reports_its_disagreement(judges) -> None:
    """Each member's value, the spread, and for a majority the share that carried it."""
    made = await panel(judges, YES, NO, YES, rule="majority")
    [row] = await score(made, "seven")
    assert row.details["members"] == {"judge0": 1.0, "judge1": 0.0, "judge2": 1.0}
    assert (row.details["disagreement"], row.confidence) == (1.0, pytest.approx(2 / 3))
    assert (made.info.name, made.info.family, made.info.lane) == ("panel", "judge", "judge")
    assert made.bind({}).fingerprint != made.bind({"samples": 2}).fingerprint


async def test_panels_are_checked_when_they_are_made(judges) -> None:
    """Unknown and doubled members, unlike rubrics and unknown keys are configuration errors."""
    url = {"endpoints": [{"url": "http://127.0.0.1:1/v1"}]}
    rubrics = {"a": "equivalence", "b": "percent"}
    made = judge_scorers(
        [JudgeSettings.model_validate({"name": name, "rubric": rubric} | url) for name, rubric in rubrics.items()],
        JudgePool(),
    )
    for members, error in ((("a", "c"), UnknownName), (("a", "a"), ConfigError), (("a", "b"), ConfigError)):
        with pytest.raises(error):
            panel_scorers([PanelSettings(name="p", members=members)], made)
    with pytest.raises(ValidationError):
        PanelSettings(name="p", members=("a", "b"), rules="mean")


def honest(ask: Ask):
    """A judge that compares the last line with the reference, and prefers the right one of two."""
    known = {"102", "60", "12", "carbon dioxide", "1914", "no"}
    if "RESPONSE A" in ask.text:
        return verdict("A" if ask.block("RESPONSE A") in known else "B")(ask)
    return verdict(int(ask.block() == ask.block("REFERENCE ANSWER")))(ask)


def gullible(ask: Ask):
    """A judge that says yes to everything and likes the first of two."""
    return verdict("A" if "RESPONSE A" in ask.text else 1)(ask)


def moody(ask: Ask):
    """A judge that changes its mind from call to call."""
    return verdict("TIE" if "RESPONSE A" in ask.text else ask.number % 2)(ask)


async def test_an_audit_tells_honest_from_gullible(judges) -> None:
    """The gate keeps the keys from both; everything else shows what the judge itself is worth."""
    rates = {}
    for script in (honest, gullible, moody):
        scorer, _ = await judges(script)
        rates[script] = {name: rate["rate"] for name, rate in (await audit_judge(scorer, Context())).as_json().items()}
    assert rates[honest] == dict.fromkeys(rates[honest], 0.0) | {"right_accepted": 1.0}
    assert rates[gullible] == dict.fromkeys(rates[gullible], 1.0) | {"keys_accepted": 0.0, "inconsistent": 0.0}
    assert (rates[moody]["keys_accepted"], rates[moody]["position_bias"]) == (0.0, 0.0)
    assert rates[moody]["inconsistent"] > 0.5


async def test_an_audit_counts_failures_apart(judges) -> None:
    """A judge that cannot be read has no rates, only failures."""
    scorer, _ = await judges(GARBLED, attempts=1)
    report = (await audit_judge(scorer, Context())).as_json()
    assert report["right_accepted"] == {
        "hits": 0, "valid": 0, "failed": 6, "rate": None, "reason": "the reply holds no verdict"
    }  # fmt: skip
    assert report["keys_accepted"]["reason"] == ""
    assert report["position_bias"]["failed"] == 6
    assert report["keys_accepted"]["rate"] == 0.0
