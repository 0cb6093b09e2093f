"""What is refused is refused in little time and in few words."""

import asyncio
import time

import pytest

from rewardhub.errors import ConfigError, RewardHubError, UnknownName, _Allowance, nearest
from rewardhub.registry import builtin_registry
from rewardhub.types import Call, Group, Response
from rewardhub.wire.fields import known_only


async def test_a_long_name_is_not_told_to_every_row(hub):
    """A name of any length costs a refusal of a few hundred characters per row, and no comparing."""
    group = Group("g", "p", (Response("x"),) * 100)
    begun = time.process_time()
    (scores,) = await hub.score([group], Call(recipe="oracle" * 100_000))
    assert time.process_time() - begun < 1.0
    assert {len(score.details["reason"]) < 700 for score in scores} == {True}
    assert scores[0].details["reason"].startswith("unknown recipe 'oracleoracle")


@pytest.mark.parametrize("name", ["q" * 500_000, "oracle\n" * 50_000])
def test_messages_in_details_are_cut(name):
    """Whatever an error's message and field repeat of the caller's words, a row's details hold little of it."""
    errors = [UnknownName("scorer", name, ["oracle"]), RewardHubError(f"no {name}, expected text", field=name)]
    for error in errors:
        assert len(str(error.details)) < 1_000
    assert errors[1].details["reason"].endswith("expected text")
    with pytest.raises(RewardHubError) as raised:
        known_only({name: 1}, ["oracle"], "groups[0]")
    assert raised.value.details["field"].startswith("groups[0].")


async def test_a_broken_recipe_is_compiled_once(hub):
    """Many groups with one broken inline recipe take the time of one; a text that is too long is not kept."""
    lets = "".join(f"  l{i}: t0 + 1\n" for i in range(60))
    text = f"name: x\nterms:\n  t0: {{scorer: oracle}}\nlet:\n{lets}value: t9\n"
    groups = [Group(str(number), "p", (Response("x"),)) for number in range(200)]
    begun = time.process_time()
    answers = await hub.score(groups, Call(recipe_text=text))
    assert time.process_time() - begun < 5.0
    assert {scores[0].details["reason"] for scores in answers} == {answers[0][0].details["reason"]}
    assert "unknown name 't9'" in answers[0][0].details["reason"]
    await hub.score(groups, Call(recipe_text=text * 30))
    assert len(hub.book._inline) == 1


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_parameters_are_finite(value):
    """No worker could be told another number; the refusal names the parameter."""
    with pytest.raises(ConfigError, match="parameter 'abs_tol' is not finite") as refused:
        builtin_registry().get("math").bind({"abs_tol": value})
    assert refused.value.field == "abs_tol"
    with pytest.raises(ConfigError, match="not finite"):
        builtin_registry().get("json_schema").bind({"default_schema": {"maximum": [value]}})


async def test_many_groups_leave_turns_to_others(hub):
    """Law 6: one call with thousands of groups, each of an unknown recipe or a known one, does not hold the loop up."""
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    for recipes in (("oracle",), tuple(f"oracle_{n}" for n in range(3_000))):
        groups = [Group(str(n), "p", (Response("x"),), recipe=recipes[n % len(recipes)]) for n in range(3_000)]
        turns, started = 0, time.thread_time()
        answers = await hub.score(groups, Call())
        took_s = time.thread_time() - started
        assert len(answers) == 3_000
        assert turns > took_s / 0.05
    task.cancel()


def test_names_are_compared_within_an_allowance(monkeypatch):
    """Thousands of unknown names in a row, which a caller may send, cost little; a while later they are compared again."""
    now = [1_000.0]
    monkeypatch.setattr("rewardhub.errors._ALLOWANCE", _Allowance(20_000, 10_000))
    monkeypatch.setattr("rewardhub.errors.time.monotonic", lambda: now[0])
    known = [f"recipe_{n:04}" for n in range(200)]
    nearest("x", known)
    messages = [nearest(f"recipe_{n:04}x", known) for n in range(1_000)]
    assert messages[0] == "; did you mean 'recipe_0000'?"
    assert 50 < sum("did you mean" in each for each in messages) < 101
    assert messages[-1].startswith("; known: recipe_0000, recipe_0001")
    now[0] += 1
    assert nearest("recipe_0007x", known) == "; did you mean 'recipe_0007'?"
