"""Law 1 for an operator's own scorers: what they give that is no score becomes an error of theirs."""

import itertools
import json
import math

import numpy as np
import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import ConfigError
from rewardhub.flaws import json_details
from rewardhub.local import LocalHub
from rewardhub.registry import default_registry, verifier
from rewardhub.reload import Reload
from rewardhub.scheduler.scheduler import checked
from rewardhub.types import Call, Column, Group, Response, Score, Status
from rewardhub.wire import score_text

NAN = math.nan
GROUP = Group("g", "p", (Response("x"),))
CYCLE = {}
CYCLE["again"] = [CYCLE]
WRONG = [
    (Score(None), "no value with the status ok"),
    (Score(0.0, Status.TIMEOUT), "a value with the status timeout"),
    (Score(1.0, Status.SKIPPED), "a value with the status skipped"),
    (Score(NAN), "no finite number"),
    (Score(10**400), "no finite number"),
    (Score("1"), "no finite number"),
    (Score(1.0, steps=(NAN, 1.0)), "steps that are no list"),
    (Score(1.0, confidence=math.inf), "a confidence that is no number"),
    (Score(1.0, details={"a": {1, 2}}), "details that are not JSON"),
    (Score(1.0, details={(1, 2): 3}), "details that are not JSON"),
    (Score(1.0, details={"a": 10**5_000}), "details that are not JSON"),
    (Score(1.0, details="a"), "details that are not JSON"),
    (Score(1.0, details=CYCLE), "details that are not JSON"),
    (Score(1.0, details={"found": [object()]}), "details that are not JSON"),
]
RIGHT = [
    Score(1.0, steps=(None, 0.5), confidence=0.5),
    Score(0.0, Status.NO_ANSWER),
    Score(None, Status.NO_ANSWER),
    Score(None, Status.TIMEOUT),
    Score(1.0, details={"found": ["a", {"b": 1}]}),
]


@pytest.mark.parametrize(("score", "reason"), WRONG)
def test_what_is_no_score(score, reason):
    """Law 1, R2: no value beside a failure, no success without one, no number that is none; by any lane."""

    @verifier("wrong")
    def wrong(response, reference):
        return score

    (own,) = [wrong.bind({}).score(Group("g", "p", (Response("x"),)), [0]).row(0)]
    remote = checked(Column.of([Score(0.5), score], "f"))
    assert remote.row(0) == Score(0.5, fingerprint="f")
    for each in (own, remote.row(1)):
        assert (each.value, each.status, each.steps, each.confidence) == (None, Status.INTERNAL_ERROR, (), None)
        assert reason in each.details["reason"]


@pytest.mark.parametrize("score", RIGHT)
def test_what_is_a_score(score):
    """Verdicts and failures of a scorer's own pass unchanged."""
    assert checked(Column.of([score])).row(0) == score


ODD = {
    "nan": NAN, "list": [math.inf, 1.0, (-math.inf, None)], "inner": {"a": {"b": NAN}}, "array": np.array([1.0, NAN]),
    "number": np.float64(NAN), "single": np.float32(0.5), "whole": np.int64(3), "big": 10**400, 1: "one",
}  # fmt: skip
EVEN = {
    "nan": None, "list": [None, 1.0, [None, None]], "inner": {"a": {"b": None}}, "array": [1.0, None],
    "number": None, "single": 0.5, "whole": 3, "big": 10**400, "1": "one",
}  # fmt: skip


PLUGIN = """
import numpy as np
from math import inf, nan
from rewardhub.registry import verifier
from rewardhub.types import Score

def odd(response, reference):
    return Score(1.0, details=ODD)

odd_inline = verifier("odd_inline", lane="inline")(odd)
odd_pool = verifier("odd_pool", lane="pool")(odd)
"""


@pytest.mark.parametrize("lane", ["inline", "pool"])
async def test_details_are_json_on_every_lane(lane, tmp_path):
    """A number in details that is not finite is null, whatever lane the scorer is on, for recipes and for the doors."""
    plugin = tmp_path / "odd.py"
    plugin.write_text(f"{PLUGIN}\narray = np.array\nODD = {ODD!r}\n")
    config = HubConfig(workers=1, plugins=(str(plugin),))
    hub = make_hub(config, default_registry(config.plugins))
    await hub.start()
    value = "detail(t, 'nan', 2) + detail(t, 'big', 3) + detail(t, 'single', 9)"
    try:
        call = Call(recipe_text=f"name: x\nterms: {{t: {{scorer: odd_{lane}}}}}\nvalue: {value}")
        (scores,) = await hub.score([GROUP], call)
    finally:
        await hub.aclose()
    assert (scores[0].value, scores[0].parts["t"].details) == (5.5, EVEN)
    assert json.loads(score_text.scores_text(scores, details=True))["scores"][0]["parts"]["t"]["details"] == EVEN
    assert checked(Column.of([Score(1.0, details=ODD)])).row(0).details == EVEN


def test_details_of_json_are_the_same_object():
    """What needs no change costs no copy."""
    for details in ({}, {"reason": "no", "a": None, "b": True}, {"a": [1, 2.5, {"b": ["c"]}]}):
        assert json_details(details) is details


class Panic(BaseException):
    """What libraries in Rust raise where they panic."""


@pytest.mark.parametrize("scope", ["response", "group"])
def test_a_panic_costs_its_own_score(scope):
    """What is no Exception is a fault of the scorer too, and no end of the call."""

    @verifier("panics", scope=scope)
    def panics(response, reference):
        raise Panic("a secret response")

    column = panics.bind({}).score(Group("g", "p", (Response("x"), Response("y"))), [0, 1])
    assert column.statuses == [Status.INTERNAL_ERROR] * 2
    assert column.details == [{"reason": "Panic in the scorer"}] * 2


@pytest.mark.parametrize("given", [{0: 1.0, 1: 1.0}, {0.0, 1.0}, itertools.repeat(1.0), [1.0], 1.0])
def test_what_is_no_list_of_verdicts(given):
    """The keys of a mapping are no scores, nor is what has no order or no end."""

    @verifier("wrong", scope="group")
    def wrong(responses, reference):
        return given

    column = wrong.bind({}).score(Group("g", "p", (Response("x"), Response("y"))), [0, 1])
    assert (column.values, column.statuses) == ([None] * 2, [Status.INTERNAL_ERROR] * 2)


def test_numbers_are_floats_in_any_company():
    """What other rows of a column are changes no value's type; whether a score was cached is not its scorer's to say."""

    @verifier("mixed")
    def mixed(response, reference):
        return Score(1.0, details={"a": 1}, cached=True) if response.text == "score" else np.float64(0.5)

    column = mixed.bind({}).score(Group("g", "p", (Response("x"), Response("score"))), [0, 1])
    assert [type(value) for value in column.values] == [float, float] and not column.cached


RAISES = """
import asyncio
from rewardhub.registry import verifier
from rewardhub.types import Score

class More(Score):
    pass

def raising(response, reference):
    if response.text == "status":
        return Score(1.0, "fine")
    if response.text == "steps":
        return Score(1.0, steps=None)
    if response.text == "none":
        return More(None, Score(0.5).status.__class__("no_answer"))
    if response.text != "well":
        raise {"interrupt": KeyboardInterrupt, "exit": SystemExit, "cancelled": asyncio.CancelledError,
               "closed": GeneratorExit, "stop": StopIteration, "deep": RecursionError}[response.text]
    return 1.0

raising_inline = verifier("raising_inline", lane="inline")(raising)
raising_pool = verifier("raising_pool", lane="pool")(raising)
raising_fast = verifier("raising_fast", lane="pool", fast=raising)(raising)
raising_sandbox = verifier("raising_sandbox", lane="sandbox")(raising)
"""
RAISED = ("interrupt", "exit", "cancelled", "closed", "stop", "deep", "status", "steps")


def test_what_ends_a_process_ends_no_call(tmp_path):
    """Law 1, T17: Ctrl-C, an exit and whatever else a scorer raises, or gives in place of a score, costs its response
    alone, on every lane; nothing of it reaches the loop that serves."""
    plugin = tmp_path / "raises.py"
    plugin.write_text(RAISES)
    config = HubConfig(workers=1, plugins=(str(plugin),))
    texts = ("well", *RAISED, "none", "well")
    with LocalHub(lambda: make_hub(config)) as hub:
        for lane in ("inline", "pool", "fast", "sandbox"):
            group = Group("g", "p", tuple(map(Response, texts)))
            scores, other = hub.score([group, GROUP], Call(recipe=f"raising_{lane}"))
            found = dict(zip(texts, scores.total.statuses, strict=True))
            assert found == {
                "well": Status.OK, "none": Status.NO_ANSWER, **dict.fromkeys(RAISED, Status.INTERNAL_ERROR)
            }, lane  # fmt: skip
            assert scores.values[0] == scores.values[-1] == 1.0 and len(other) == 1


def test_a_plugin_that_interrupts_is_refused(tmp_path):
    """A file that raises what Ctrl-C raises is a file with a fault, and no end of the hub that reads it again."""
    plugin, config = tmp_path / "raises.py", HubConfig(workers=1)
    plugin.write_text("raise KeyboardInterrupt")
    with LocalHub(lambda: make_hub(config)) as local:
        local.hub.reloader = Reload(local.hub, config, lambda: HubConfig(workers=1, plugins=(plugin,)))
        with pytest.raises(ConfigError, match=r"raises\.py"):
            local._await(local.hub.reload())
        assert local.hub.ready() == []
