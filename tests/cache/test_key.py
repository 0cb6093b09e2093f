"""Keys: two inputs that may be scored otherwise never share one, and what a scorer does not see is not in it."""

import itertools
from dataclasses import replace

import pytest

from rewardhub.cache.key import row_keys
from rewardhub.registry import default_registry, verifier
from rewardhub.sandbox import place, runner
from rewardhub.scorer import ScorerInfo
from rewardhub.types import Group, Media, Response, Space

ONE, OTHER = Media("a" * 64), Media("b" * 64)
VALUES = [
    None, "", 0, 0.0, -0.0, False, 1, 1.0, True, "1", "1.0", "null", "é", "e\u0301", "😀", "\ud83d\ude00", "\ud83d",
    [], {}, [None], [[]], [{}], {"": None}, float("nan"), float("inf"), "NaN", 10**400, 2**53, 2**53 + 1, float(2**53),
]  # fmt: skip
VERIFIERS = [scorer for scorer in default_registry([]) if scorer.info.lane != "sandbox"]


class Fixed:
    """A bound scorer that may read all of its input."""

    fingerprint = "f"

    def __init__(self, scope):
        self.info = ScorerInfo(name="m", family="reward_model", lane="model", cost="dear", scope=scope)


def inputs():
    yield Group("g", "p", (Response("x"),))
    for value in VALUES:
        turn = {"role": "user", "content": value}
        yield Group("g", "p", (Response("x"),), {"a": value})
        yield Group("g", "p", (Response("x"),), metadata={"a": value})
        yield Group("g", (turn,), (Response("x"),))
        yield Group("g", "p", (Response("x", messages=(turn,)),))
        if isinstance(value, str):
            yield Group("g", "p", (Response("x" + value + "y"),))
            yield Group("g", "p" + value + "y", (Response("x"),))
            yield Group("g", "p", (Response("x"),), problem_type=f"t{value}")
    yield from [Group("g", "px", (Response(""),)), Group("g", "", (Response("px"),))]
    yield Group("g", "p", (Response('["x",[],null,{},[],[]]'),))
    yield from [Group("g", "p", (Response("x", tokens=count),)) for count in (0, 1)]
    yield from [Group("g", "p", (Response("x", signals={"s": number}),)) for number in (0.0, -0.0, 1.0)]
    yield from [Group("g", "p", (Response("x", steps=spans),)) for spans in [((0, 1),), ((0, 0), (0, 1))]]
    for media in [(ONE,), (ONE, OTHER), (OTHER, ONE), (ONE, ONE)]:
        yield Group("g", "p", (Response("x"),), media=media)
        yield Group("g", "p", (Response("x", media=media),))
    changes = {"kind": "video", "width": 1, "height": 1, "space": Space.NORM_0_1, "frames": ("c" * 64,), "fps": 1.0}
    yield from [Group("g", "p", (Response("x"),), media=(replace(ONE, **{name: changes[name]}),)) for name in changes]
    for frames in itertools.permutations(["a" * 64, "b" * 64]):
        yield Group("g", "p", (Response("x"),), media=(Media(kind="video", frames=frames),))


@pytest.mark.parametrize("scope", ["response", "group"])
@pytest.mark.parametrize("tenant", ["", "t"])
def test_no_two_inputs_share_a_key(scope, tenant):
    """Law 2: no text, number, order, or form of nothing that a caller chooses makes the key of another input."""
    groups = list(inputs())
    keys = {row_keys(Fixed(scope), group, [0], each)[0] for group in groups for each in ("other", tenant)}
    assert len(keys) == 2 * len(groups)


def test_responses_that_differ_in_order_or_number_are_another_group():
    texts = [("ab", "c"), ("a", "bc"), ("c", "ab"), ("ab", "c", ""), ("", "ab", "c")]
    groups = [Group("g", "p", tuple(map(Response, each))) for each in texts]
    keys = [key for group in groups for key in row_keys(Fixed("group"), group, range(len(group.responses)), "")]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("scorer", VERIFIERS, ids=lambda scorer: scorer.info.name)
def test_what_is_not_in_the_key_changes_no_score(scorer):
    """The order of names, whose group it is, and for a verifier that does not take the group all but its reference."""
    for example in scorer.examples:
        group = example.as_group()
        bound, rows = scorer.bind(example.params), range(len(group.responses))
        others = [
            replace(group, reference=turned(group.reference), metadata=turned(group.metadata)),
            replace(group, id="other", recipe="other", expected=99, lost=3),
        ]
        if not scorer.takes_group:
            others.append(replace(group, prompt="q", problem_type="t", metadata={"user": "u"}, media=(ONE,)))
        key, score = row_keys(bound, group, rows, ""), bound.score(group, rows)
        for other in others:
            assert row_keys(bound, other, rows, "") == key
            assert bound.score(other, rows) == score


def test_a_verifier_is_shown_nothing_that_is_not_in_its_key():
    """Whose group it is and which responses stand beside one is no input: a function that takes the group finds neither."""
    seen = []

    def curious(response, reference, group):
        seen.append(group)
        return 1.0

    bound = verifier("curious", lane="sandbox")(curious).bind({})
    groups = [
        Group("g", "p", (Response("x"),), {"a": 1}, (ONE,), "t", metadata={"m": 2}),
        Group("h", "p", (Response("x"), Response("y")), {"a": 1}, (ONE,), "t", "r", {"m": 2}, expected=4, lost=1),
    ]
    keys = [row_keys(bound, group, [0], "")[0] for group in groups]
    for group in groups:
        assert bound.score(group, [0]).values == [1.0]
    assert keys[0] == keys[1]
    assert seen[0] == seen[1] == Group("", "p", (), {"a": 1}, (ONE,), "t", metadata={"m": 2})


@pytest.mark.parametrize(
    "value", [{"ab"}, frozenset({("k", "v")}), b"x", object(), iter([("k", "v")])], ids=lambda each: type(each).__name__
)
def test_what_is_no_json_has_no_key(value):
    """A set of pairs is no mapping, and shares no key with one."""
    with pytest.raises(TypeError):
        row_keys(Fixed("response"), Group("g", "p", (Response("x"),), {"a": value}), [0], "")


def turned(value):
    if isinstance(value, dict):
        return {name: turned(value[name]) for name in reversed(value)}
    return [*map(turned, value)] if isinstance(value, list) else value


def test_programs_run_elsewhere_have_other_keys(monkeypatch):
    """Hubs of one Redis with another interpreter, compiler, package or sandbox server share no verdict on a program."""
    code = default_registry([]).get("code")
    fingerprints = [code.bind({}).fingerprint]
    assert code.bind({}).fingerprint == fingerprints[0]
    for name, value in {"sys.version": "4.0", "packages.versions": lambda names: ["numpy==0"], "tools": list}.items():
        place._here.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(f"rewardhub.sandbox.place.{name}", value)
            fingerprints.append(code.bind({}).fingerprint)
    place._here.cache_clear()
    for url in ("http://127.0.0.1:1", "http://127.0.0.1:2"):
        monkeypatch.setattr(runner.settings, "remote_url", url)
        fingerprints.append(code.bind({}).fingerprint)
    assert len(set(fingerprints)) == len(fingerprints)
