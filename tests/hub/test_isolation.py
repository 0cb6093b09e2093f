"""What one scorer or caller changes is its own: nobody else's input, score or cached row changes with it."""

import copy
import json

import numpy as np
import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.errors import NoAnswer, RewardHubError, Unavailable
from rewardhub.registry import builtin_registry, default_registry, verifier
from rewardhub.types import Call, Column, Group, Response, Score, Status

PLUGIN = """
from rewardhub.errors import NoAnswer
from rewardhub.registry import verifier
from rewardhub.types import Score

KEPT = {"seen": [1]}


def spoils(response, reference, group, *, words: list[str] = []):
    "How many things are as they were sent; changes all of them."
    options, turn = reference["options"], group.prompt[0]
    found = [len(options), len(words), len(turn) - 1, len(group.metadata), len(response.signals), len(response.messages[0])]
    options.append("x")
    words.append("x")
    turn["x"] = 1
    group.metadata["x"] = group.reference["x"] = response.signals["x"] = response.messages[0]["x"] = 1
    return Score(sum(found) / 100, details={"options": options})


def spoils_all(responses, reference):
    found = [len(reference["options"]) / 100] * len(responses)
    reference["options"].append("x")
    for response in responses:
        response.signals["x"] = 1
    responses.pop()
    return found


def keeps(response, reference):
    "Gives the same object as details each time, and changes it."
    KEPT["seen"].append(len(KEPT["seen"]) + 1)
    return Score(1.0, details=KEPT)


for lane in ("inline", "pool", "sandbox"):
    globals()[lane] = verifier(f"spoils_{lane}", lane=lane)(spoils)
    globals()[lane + "_all"] = verifier(f"spoils_all_{lane}", lane=lane, scope="group")(spoils_all)
    globals()[lane + "_keeps"] = verifier(f"keeps_{lane}", lane=lane)(keeps)
fast = verifier("spoils_fast", lane="pool", fast=spoils)(spoils)
"""


@pytest.fixture
async def spoiled(tmp_path):
    """A hub with verifiers that change whatever they are given."""
    plugin = tmp_path / "spoils.py"
    plugin.write_text(PLUGIN)
    config = HubConfig(workers=1, plugins=(str(plugin),))
    hub = make_hub(config, default_registry(config.plugins))
    await hub.start()
    yield hub
    await hub.aclose()


def group(name, size=3):
    """Two options, a prompt of one part, one item of metadata, and of each response a signal and a turn of two."""
    turns = ({"role": "user", "content": [{"type": "text", "text": "p"}]},)
    responses = [
        Response(f"{name} {k}", ({"role": "assistant", "content": "a"},), signals={"entropy": 1.0}) for k in range(size)
    ]
    return Group(name, turns, tuple(responses), {"options": ["a", "b"]}, metadata={"source": "x"})


@pytest.mark.parametrize("lane", ["inline", "pool", "fast", "sandbox"])
async def test_what_a_scorer_changes_is_its_own(spoiled, lane):
    """Law 7: reference, prompt, metadata, parameters and responses are for each response as they were sent, and stay so
    for the caller, for other terms and for the cache's key."""
    text = f"name: s\nterms: {{a: {{scorer: spoils_{lane}, with: {{words: [w]}}}}, b: {{scorer: spoils_{lane}}}}}"
    call = Call(recipe_text=text + "\nvalue: a + b")
    sent = [group("one"), group("two")]
    before = copy.deepcopy(sent)
    for again in (False, True):
        for scores in await spoiled.score(sent, call):
            assert scores.parts["a"].values == [0.08] * 3
            assert scores.parts["b"].values == [0.07] * 3
            assert bool(scores.parts["a"].cached) == (again and lane == "sandbox")
    assert sent == before


@pytest.mark.parametrize("lane", ["inline", "pool", "sandbox"])
async def test_what_a_scorer_of_groups_changes_is_its_own(spoiled, lane):
    """The same of a scorer that sees all responses at once."""
    sent = group("one")
    before = copy.deepcopy(sent)
    for _ in range(2):
        (scores,) = await spoiled.score([sent], Call(recipe=f"spoils_all_{lane}"))
        assert scores.values == [0.02] * 3
    assert sent == before


@pytest.mark.parametrize("lane", ["inline", "pool", "sandbox"])
async def test_details_that_a_scorer_keeps_are_its_own(spoiled, lane):
    """What a scorer changes of details that it gave before changes no score."""
    call = Call(recipe=f"keeps_{lane}", cache="bypass")
    first = (await spoiled.score([group("one")], call))[0]
    seen = [copy.deepcopy(score.details) for score in first]
    await spoiled.score([group("two")], call)
    assert [score.details for score in first] == seen
    if lane != "sandbox":  # programs of one group run side by side
        assert [each["seen"][-1] for each in seen] == [2, 3, 4]


def changed(scores):
    """Changes all that a caller can reach of some scores' details, and gives them as they were."""
    before = [json.dumps(score.details, sort_keys=True) for score in scores]
    for column in (scores.total, *scores.parts.values()):
        for details in column.details or ():
            if details is not None:
                details["mine"] = 1
                [each.append("mine") for each in details.values() if isinstance(each, list)]
                break  # of the first row that has any
    return before


@verifier("explains", lane="sandbox")
def explains(response, reference) -> Score:
    """Says why; fails on the word bad."""
    if response.text == "bad":
        raise ValueError
    return Score(1.0, details={"why": ["because"]})


@pytest.mark.parametrize("texts", ["aaa", ("bad", "bad"), "abc"])
@pytest.mark.parametrize("value", ["t", "t - g_mean(t)"])
async def test_what_a_caller_changes_is_its_own(hub, registry, texts, value):
    """Details of equal responses, of failures and of what the cache knows are objects of each response's own."""
    registry.add(explains)
    sent = Group("g", "p", tuple(map(Response, texts)))
    call = Call(recipe_text=f"name: e\nterms: {{t: {{scorer: explains}}}}\nvalue: '{value}'")
    (first,) = await hub.score([sent], call)
    known = changed(first)
    assert [json.dumps(score.details, sort_keys=True) for score in first][1:] == known[1:]
    assert [json.dumps(score.details, sort_keys=True) for score in (await hub.score([sent], call))[0]] == known
    parts = first.parts["t"].details
    assert ["mine" in each for each in parts] == [True] + [False] * (len(texts) - 1)


async def test_refusals_are_of_each_response_by_itself(hub):
    """The reason of a group that cannot be scored is not one object for all of its rows."""
    (scores,) = await hub.score([Group("g", "p", (Response("a"), Response("b")))], Call(recipe="none"))
    scores[0].details["mine"] = 1
    assert "mine" not in scores[1].details
    assert "mine" not in Column.failed(2, Status.TIMEOUT, "x").details[1]


def containers(value):
    """The lists and objects within a JSON value, by their identity."""
    if isinstance(value, dict):
        return {id(value)}.union(*map(containers, value.values()))
    return {id(value)}.union(*map(containers, value)) if isinstance(value, list) else set()


def test_builtins_change_nothing():
    """They are given the caller's own objects, and no copies: they leave all as it was, and what they give as details
    is neither a part of it nor what they gave before."""
    tried = 0
    for each in builtin_registry():
        assert each.builtin
        for example in each.examples:
            bound, sent = each.bind(example.params), example.as_group()
            if bound.info.lane == "sandbox":
                continue  # whose scores are copied: they are cached
            before, given = copy.deepcopy(sent), copy.deepcopy(dict(bound.arguments))
            scores = [bound.score(sent, range(len(sent.responses))) for _ in range(2)]
            assert (sent, dict(bound.arguments)) == (before, given), each.info.name
            first, second = (set().union(*map(containers, each.details or [])) for each in scores)
            held = containers(dict(sent.reference)) | containers(dict(sent.metadata)) | containers(dict(bound.params))
            assert not first & (second | held) and not second & held, each.info.name
            tried += 1
    assert tried > 300


class Two(float):
    """A float whose own number is another one."""

    def __float__(self):
        return float("nan")


class Raises(float):
    def __float__(self):
        raise ValueError("no")


ODD = [
    (Two(1.0), "non-finite"),
    (Raises(1.0), "ValueError"),
    (Score(Two(1.0)), "no finite number"),
    (Score(None, "timeout"), "a status that is none"),
    (Score(None, "nonsense"), "a status that is none"),
    (Score(1.0, "ok"), "a status that is none"),
    (Score(1.0, confidence=1.5), r"no number in [0, 1]"),
    (Score(1.0, confidence=-0.1), r"no number in [0, 1]"),
    (Score(1.0, confidence=float("nan")), r"no number in [0, 1]"),
    (Score(1.0, confidence="1"), r"no number in [0, 1]"),
    (Score(1.0, steps=(each for each in (0.5, 1.0))), "no list of finite numbers"),
    (Score(1.0, steps="01"), "no list of finite numbers"),
    (Score(1.0, steps=None), "no list of finite numbers"),
]


@pytest.mark.parametrize(("given", "reason"), ODD)
@pytest.mark.parametrize("scope", ["response", "group"])
def test_what_is_no_score_costs_its_own_response(given, reason, scope):
    """Law 1: the number that is told is the one that was looked at, and neighbours are scored."""

    def odd(response, reference):
        return given if response.text == "odd" else 0.5

    def odds(responses, reference):
        return [odd(each, reference) for each in responses]

    made = verifier("odd", scope=scope)(odd if scope == "response" else odds)
    column = made.bind({}).score(Group("g", "p", (Response("a"), Response("odd"), Response("b"))), range(3))
    assert column.statuses[1] is Status.INTERNAL_ERROR and column.values[1] is None
    assert reason in column.details[1]["reason"]
    if not (scope == "group" and isinstance(given, Raises)):  # which raises as the group is read
        assert (column.values[0], column.values[2]) == (0.5, 0.5)


@pytest.mark.parametrize(
    "given", [Score(1.0, steps=[0.5, None, 1]), Score(1.0, steps=np.array([0.5, np.nan])[:1], confidence=np.float32(1))]
)
def test_steps_are_a_tuple_of_floats(given):
    """A list or an array of steps is read once, and is the score's own."""

    @verifier("stepped")
    def stepped(response, reference):
        return given

    row = stepped.bind({}).score(Group("g", "p", (Response("a"),)), [0]).row(0)
    assert type(row.steps) is tuple and {type(each) for each in row.steps} <= {float, type(None)}
    assert row.steps[0] == 0.5


class Bare(RewardHubError):
    """An error of a plugin's own without what ours have."""

    def __init__(self):
        pass


class Fine(RewardHubError):
    status = Status.OK


class Mute(Exception):
    def __str__(self):
        raise ValueError("no words")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoAnswer(None), Status.INTERNAL_ERROR),
        (NoAnswer("x", field=5), Status.INTERNAL_ERROR),
        (Bare(), Status.INTERNAL_ERROR),
        (Fine("fine"), Status.INTERNAL_ERROR),
        (Mute(), Status.INTERNAL_ERROR),
        (Unavailable("later", retry_after_s=float("inf")), Status.UNAVAILABLE),
        (Unavailable("later", retry_after_s="soon"), Status.INTERNAL_ERROR),
    ],
)
def test_an_odd_error_costs_its_own_response(error, status):
    """Law 1: whatever an error of a plugin holds or lacks, its response has a status, and neighbours are scored."""

    @verifier("raises")
    def raises(response, reference):
        if response.text == "odd":
            raise error
        return 0.5

    column = raises.bind({}).score(Group("g", "p", (Response("a"), Response("odd"), Response("b"))), range(3))
    assert (column.values, column.statuses[1]) == ([0.5, None, 0.5], status)
    json.dumps(column.details, allow_nan=False)
