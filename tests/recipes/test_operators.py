"""The composite operators of the catalogue, each as a small inline recipe over numbers that the caller sends."""

import json
import math

import pytest

from rewardhub.assembly import make_hub
from rewardhub.config import HubConfig
from rewardhub.local import LocalHub
from rewardhub.types import Call, Group, Response, Status


@pytest.fixture(scope="module")
def hub():
    with LocalHub(lambda: make_hub(HubConfig(workers=1))) as made:
        yield made


def scored(hub, value, columns, *, lets=None, whens=None, inputs=None, problem_type="", metadata=None, **recipe):
    """The scores of rows whose terms are the columns' numbers; None is a number that nobody sent."""
    whens = whens or {}
    terms = {
        name: {"scorer": "external", "with": {"name": name}} | ({"when": whens[name]} if name in whens else {})
        for name in columns
    }
    text = json.dumps({"name": "operator", "terms": terms, "let": lets or {}, "value": value} | recipe)
    rows = zip(*columns.values(), strict=True)
    signals = [{name: n for name, n in zip(columns, row, strict=True) if n is not None} for row in rows]
    responses = tuple(Response("x", signals=each) for each in signals)
    group = Group("g", responses=responses, problem_type=problem_type, metadata=metadata or {})
    (found,) = hub.score([group], Call(recipe_text=text, inputs=inputs or {}))
    return found


def values(hub, value, columns, **options):
    return scored(hub, value, columns, **options).values


def near(numbers):
    return pytest.approx(numbers, abs=5e-5)


@pytest.mark.parametrize(
    ("value", "parts", "expected"),
    [
        ("0.9*right + 0.1*form", {"right": [1, 0], "form": [0, 1]}, [0.9, 0.1]),
        ("right + 0.5*form", {"right": [1, 1, 0], "form": [1, 0, 1]}, [1.5, 1.0, 0.5]),
        ("right + 0.1*form + 0.7*seen", {"right": [1], "form": [1], "seen": [0.5]}, [1.45]),
        ("0.4*a + 0.3*b + 0.2*c + 0.1*d", {"a": [1], "b": [0.5], "c": [0], "d": [1]}, [0.65]),
    ],
)
def test_weighted_sum(hub, value, parts, expected):
    """Each published weighting; a missing part makes the sum missing."""
    assert values(hub, value, parts) == near(expected)
    assert values(hub, value, {name: [None] for name in parts}) == [None]


def test_and_gate(hub):
    """Vision-R1: 1 only where the format and the answer are right."""
    found = values(hub, "right == 1 and form == 1", {"right": [1, 1, 0], "form": [0, 1, 1]})
    assert found == [0, 1, 0]


def test_multiplicative_gate(hub):
    """CAD-RL: a program that fails earns nothing; a failure tag takes 0.5 off the judged part."""
    parts = {"ran": [1, 0, 1], "iou": [0.5, 0.5, 0.5], "judged": [0.8, 0.8, 0.3]}
    assert values(hub, "ran * (iou + judged)", parts) == near([1.3, 0, 0.8])


def test_gate_with_penalty(hub):
    """DeepSport: a bad format costs 0.05 whatever the answer; a used tool pays with a good answer."""
    parts = {"form": [1, 1, 1, 1, 1, 0], "right": [1, 1, 0.6, 0.4, 0, 1], "used": [1, 0, 1, 1, 1, 1]}
    tool = "where(used == 0, 0, where(right >= 0.5, 0.5 * right, 0.03))"
    found = values(hub, "form * (right + tool) - 0.05 * (1 - form)", parts, lets={"tool": tool})
    assert found == near([1.5, 1.0, 0.9, 0.43, 0.03, -0.05])


def test_threshold_zeroing(hub):
    """HumanOmniV2: a context of 0.4 voids logic and accuracy, a logic of 0.4 the accuracy; in this order."""
    lets = {"logic2": "where(context > 0.4 + 1e-6, logic, 0)", "right2": "where(logic2 > 0.4 + 1e-6, right, 0)"}
    parts = {"right": [1, 1, 1], "logic": [0.8, 0.4, 0.6], "context": [0.4, 0.6, 0.6]}
    assert values(hub, "right2 + 10 * logic2 + 100 * context", parts, lets=lets) == near([40, 64, 67])


def test_boost(hub):
    """R1-Reward: half the consistency raises or lowers the result, never a wrong one."""
    parts = {"form": [1, 1, 1, 1, 0], "result": [1, 1, 1, 0, 1], "consistent": [1, -1, 0, 1, 1]}
    found = values(hub, "0.5 * form + result * (1 + 0.5 * consistent)", parts)
    assert found == near([2.0, 1.0, 1.5, 0.5, 1.5])


def test_conditional_add_on_with_cap(hub):
    """TimeMaster: the judge counts only for a right, well-formed answer and at most 0.4 with stock phrases."""
    parts = {"right": [1, 1, 0], "tagged": [1, 1, 1], "generic": [0, 1, 0], "judged": [0.6, 0.6, None]}
    lets = {"extra": "if_skipped(judged, 0)", "capped": "where(generic == 1, min(extra, 0.4), extra)"}
    whens = {"judged": "right == 1 and tagged == 1"}
    found = scored(hub, "0.9 * right + 0.1 * tagged + 0.5 * capped", parts, lets=lets, whens=whens)
    assert found.values == near([1.3, 1.2, 0.1])
    assert found.parts["judged"].statuses == [Status.OK, Status.OK, Status.SKIPPED]


def test_format_dependent_bonus(hub):
    """OneThinker: the structure bonus needs the format."""
    parts = {"right": [1 / 3, 1 / 3], "form": [1, 0], "bonus": [0.5, 0.5]}
    assert values(hub, "0.9 * right + 0.1 * form + form * bonus", parts) == near([0.9, 0.3])


def test_penalty_clamp(hub):
    """max(0, 1 - x) and a clip to [0, 1]."""
    assert values(hub, "max(0, 1 - x)", {"x": [0.25, 1, 3]}) == near([0.75, 0, 0])
    assert values(hub, "clip(x, 0, 1)", {"x": [-0.5, 0.5, 3]}) == near([0, 0.5, 1])


def test_normalisation_within_the_prompt(hub):
    """z-score then min-max (OneThinker), min-max, and the affine scale of IoU (VITAL)."""
    lets = {"z": "div(x - g_mean(x), g_std(x), 0)", "low": "g_min(z)", "range": "g_max(z) - g_min(z)"}
    value = "div(z - low, range, {})"
    assert values(hub, value.format(1), {"x": [2, 4, 3]}, lets=lets) == near([0, 1, 0.5])
    assert values(hub, value.format(1), {"x": [3, 3, 3]}, lets=lets) == [1, 1, 1]
    assert values(hub, value.format(0.5), {"x": [3, 3, 3]}, lets=lets) == [0.5, 0.5, 0.5]
    assert values(hub, value.format(1), {"x": [2, None, 4]}, lets=lets) == [0, None, 1]
    affine = "clip((x - 0.2) / (0.8 - 0.2), 0, 1)"
    assert values(hub, affine, {"x": [0.6, 0.1, 0.9]}) == near([2 / 3, 0, 1])


def test_replace_invalid(hub):
    """GLM's minimum of the batch on request; by default invalid stays below every valid value."""
    parts = {"score": [1, 0, 0.2], "valid": [1, 0, 1]}
    lowest = "where(g_count(valid == 1) == 0, 0, g_min(score, where=valid == 1))"
    assert values(hub, f"where(valid == 1, score, {lowest})", parts) == near([1, 0.2, 0.2])
    assert values(hub, f"where(valid == 1, score, {lowest})", {"score": [1, 1], "valid": [0, 0]}) == [0, 0]
    assert values(hub, "where(valid == 1, score, -1)", parts) == near([1, -1, 0.2])


def test_reward_model_against_the_reference(hub):
    """VLAA-Thinker: 1 - exp(-beta (f - f_ref)) above the reference's own score, else 0."""
    parts = {"f": [2.0, 0.9, 0.5], "ref": [1.0, 1.0, 1.0]}
    assert values(hub, '1 - exp(-input("beta", 1) * max(0, f - ref))', parts) == near([0.6321, 0, 0])
    assert values(hub, '1 - exp(-input("beta", 1) * max(0, f - ref))', parts, inputs={"beta": 2})[0] == near(0.8647)


def test_lagrangian(hub):
    """Safe RLHF-V: (A_r - lambda A_c) / (1 + lambda)."""
    value = '(a - input("lambda") * c) / (1 + input("lambda"))'
    assert values(hub, value, {"a": [1], "c": [0.5]}, inputs={"lambda": 10}) == near([-0.3636])
    assert values(hub, value, {"a": [1], "c": [0.5]}) == [None]


def test_staged_weights(hub):
    """MSRL: the picture counts from the second stage on; its term is not even run before."""
    value, whens = 'text + ran + input("stage") * if_skipped(seen, 0)', {"seen": 'input("stage") > 0'}
    parts = {"text": [0.8], "ran": [1], "seen": [0.5]}
    first = scored(hub, value, parts, whens=whens, inputs={"stage": 0})
    assert first.values == near([1.8])
    assert first.parts["seen"].statuses == [Status.SKIPPED]
    assert values(hub, value, parts, whens=whens, inputs={"stage": 1}) == near([2.3])


def test_hard_gate(hub):
    """r times the format; where no format holds, all are 0."""
    assert values(hub, "right * form", {"right": [1, 1, 0], "form": [1, 0, 1]}) == [1, 0, 0]
    assert values(hub, "right * form", {"right": [1, 1], "form": [0, 0]}) == [0, 0]


def test_conditional_term(hub):
    """VideoRFT: the similarity counts only with some accuracy, and from 0 to 1."""
    value = "right + where(right > 0, clip(2 * s, 0, 1), 0)"
    parts = {"right": [1, 1, 1, 0], "s": [0.3, 0.6, -0.1, 0.9]}
    assert values(hub, value, parts) == near([1.6, 2, 1, 0])


def test_difficulty_multiplier(hub):
    """RewardMap: D (10 c + 0.5 detail), D by the map, plus 0.5 where a transfer is asked for."""
    value = "(d + 0.5 * transfer) * (10 * right + 0.5 * detail)"
    parts = {"right": [1, 0], "detail": [9, 8], "transfer": [1, 1]}
    lets = {"d": 'field("difficulty", easy=1, middle=1.2, hard=1.5)'}
    for difficulty, expected in {"easy": [21.75, 6.0], "hard": [29.0, 8.0]}.items():
        assert values(hub, value, parts, lets=lets, metadata={"difficulty": difficulty}) == near(expected)
    unknown = scored(hub, value, parts, lets=lets, metadata={"difficulty": "extreme"})
    assert unknown.values == [None, None]
    assert set(unknown.total.statuses) == {Status.INVALID_INPUT}


def test_partial_credit(hub):
    """ReFT: 1 right, 0.1 wrong but an answer, 0 without one."""
    value = "where(right == 1, 1, where(answered == 1, 0.1, 0))"
    assert values(hub, value, {"right": [1, 0, 0], "answered": [1, 1, 0]}) == near([1, 0.1, 0])


def test_strict_plus_dense(hub):
    """Light-IF: 1 where all constraints hold, plus the points of those that do."""
    parts = {"met": [3, 1], "asked": [3, 3], "points": [0.4, 0.1]}
    assert values(hub, "(met == asked) + points", parts) == near([1.4, 0.1])


TYPED = """\
name: typed
terms:
  right:
    route: {cases: {mcq: {scorer: mcq}, iou: {scorer: box_iou}, regression: {scorer: regression}}}
value: right
"""


def test_typed_router(hub):
    """Every item of a mixed batch goes to its own verifier (MoDoMoDo, VideoRFT), answers in order."""
    box = {"box": [0, 0, 10, 10]}
    groups = [
        Group("a", responses=(Response("(B)"),), reference={"answer": "B"}, problem_type="mcq"),
        Group("b", responses=(Response("[5, 0, 15, 10]"),), reference=box, problem_type="iou"),
        Group("c", responses=(Response("A"),), reference={"answer": "B"}, problem_type="mcq"),
        Group("d", responses=(Response("[0, 0, 10, 10]"),), reference=box, problem_type="iou"),
        Group("e", responses=(Response("12"),), reference={"answer": 10}, problem_type="regression"),
    ]
    found = hub.score(groups, Call(recipe_text=TYPED))
    assert [scores.id for scores in found] == ["a", "b", "c", "d", "e"]
    assert [scores.values[0] for scores in found] == near([1, 1 / 3, 0, 1, 0.8])


def test_fallback_chain(hub):
    """Rule, then letter, then judge: each is asked only where the one before cannot decide, all are kept."""
    parts = {"rule": [1, 0, 0, 0], "letter": [None, 1, 0, 0], "judged": [None, None, 1, None]}
    whens = {"letter": "rule == 0", "judged": "rule == 0 and letter == 0"}
    value = "max(rule, max(if_skipped(letter, 0), if_skipped(judged, 0)))"
    found = scored(hub, value, parts, whens=whens)
    assert found.values == [1, 1, 1, None]
    assert found.total.statuses[3] is Status.INVALID_INPUT
    assert found.parts["letter"].statuses == [Status.SKIPPED, Status.OK, Status.OK, Status.OK]
    assert found.parts["judged"].statuses[:3] == [Status.SKIPPED, Status.SKIPPED, Status.OK]


def test_group_terms(hub):
    """Two right ones before lengths pay, the tool rate of curiosity, the mean over variants."""
    long_enough = "where(right > 0.1 and n >= 320 and n <= 512 and g_count(right > 0.1) >= 2, 0.2, 0)"
    assert values(hub, long_enough, {"right": [1, 1, 0], "n": [400, 900, 400]}) == near([0.2, 0, 0])
    assert values(hub, long_enough, {"right": [1, 0, 0], "n": [400, 900, 400]}) == [0, 0, 0]
    bonus = "where(calls > 0, max(0.3 - rate, 0) / 2.0 / rate * 0.25 - 0.05 * (calls - 1), 0)"
    parts = {"right": [1] * 8, "calls": [1] + [0] * 7}
    found = values(hub, f"right + {bonus}", parts, lets={"rate": "g_mean(calls > 0)"})
    assert found == near([1.175] + [1] * 7)
    assert values(hub, "g_mean(right)", {"right": [1, 1, 0, 1, 0, 0, 1]}) == near([0.5714] * 7)


def test_mean_and_majority_of_judges(hub):
    """More than half, or the arithmetic mean; a judge that gave no verdict is not a vote."""
    parts = {"a": [1, 1, 1], "b": [1, 0, None], "c": [0, 0, 1]}
    assert values(hub, "(a + b + c) / 3", parts) == [near(2 / 3), near(1 / 3), None]
    assert values(hub, "(a + b + c) / 3 > 0.5", parts) == [1, 0, None]


def test_no_operator_makes_a_failure_a_number(hub):
    """A missing part passes through gates, products with 0 included, and leaves the group's other rows alone."""
    parts = {"right": [None, 1, 0], "form": [0, 1, 1]}
    for value in ("right * form", "where(right == 1, form, 0)", "clip(right, 0, 1)", "max(right, form)"):
        found = values(hub, value, parts)
        assert found[0] is None
        assert not any(each is None or math.isnan(each) for each in found[1:])
