"""The faults of published reward code, rows F1 to F22: the faulty answer is never given.

Each test scores through a hub in this process, or calls the trainer's own function where the fault is one
of advantages, losses or benchmarks.
"""

import asyncio
import importlib.util
import json
import math
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from rewardhub.assembly import make_hub
from rewardhub.bench import run
from rewardhub.config import HubConfig
from rewardhub.grpo.advantages import grpo, stable_reinforce
from rewardhub.local import LocalHub
from rewardhub.registry import default_registry, verifier
from rewardhub.reward_modeling.losses import dpo, dynamic_beta
from rewardhub.types import Blame, Call, Group, Response, Status

_FILE = Path(__file__).parents[1] / "judges" / "scripted_judge.py"
if "scripted_judge" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("scripted_judge", _FILE)
    sys.modules["scripted_judge"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules["scripted_judge"])
import scripted_judge  # noqa: E402  # the server stands beside the judges' tests

BROKEN = "\\frac{1"
RIGHT = "<think>2+2</think><answer>4</answer>"


@verifier("raises", range=(0.0, 1.0))
def raises(response, reference) -> float:
    """A verifier with a bug."""
    raise RuntimeError(f"cannot verify {response.text} against {reference}")


@verifier("polar_7b", range=(-10.0, 10.0))
def quality(response, reference) -> float:
    """Stands where an operator's reward model would: the signal that the test sends."""
    return response.signals["quality"]


@verifier("words", range=(0.0, 1e6))
def words(response, reference) -> float:
    """The number of words, by which the benchmark's test tells responses apart."""
    return float(len(response.text.split()))


def registry():
    found = default_registry()
    for each in (raises, quality, words):
        found.add(each)
    return found


@pytest.fixture(scope="module")
def hub():
    judge = {"endpoints": [{"url": "http://127.0.0.1:9/v1"}]}  # named by a recipe, never asked
    with LocalHub(lambda: make_hub(HubConfig(workers=1, judges=(judge,)), registry())) as local:
        yield local


def score(hub, recipe, reference, *responses, **group):
    """The scores of one group under a recipe of the catalogue, or one in YAML."""
    made = tuple(Response(each) if isinstance(each, str) else each for each in responses)
    call = Call(recipe_text=recipe) if "\n" in recipe else Call(recipe=recipe)
    reference = {"answer": reference} if isinstance(reference, str | int) else reference
    (scores,) = hub.score([Group("g", "2+2?", made, reference, **group)], call)
    return scores


def near(values, *wanted):
    return values == pytest.approx(list(wanted), abs=5e-5)


@pytest.mark.parametrize("recipe", ["lmm_r1", "observe_r1", "vision_r1", "papo", "math"])
def test_an_unparseable_reference_pays_nothing(hub, recipe):
    """F1: LMM-R1 and Observe-R1 pay 1.0; here it is the caller's fault and no number."""
    (found,) = score(hub, recipe, BROKEN, RIGHT)
    assert (found.value, found.status, found.blame) == (None, Status.REFERENCE_UNPARSEABLE, Blame.CALLER)


def test_a_verifier_that_raises_pays_nothing(hub):
    """F2: LMM-R1 and R1-Reward pay 1.0 for an exception; here it is internal_error, alone or in a sum."""
    for recipe in ("raises", "name: sum\nterms: {a: {scorer: math}, b: {scorer: raises}}\nvalue: a + b"):
        (found,) = score(hub, recipe, "4", RIGHT)
        assert (found.value, found.status) == (None, Status.INTERNAL_ERROR)


def test_the_reference_travels_with_the_group(hub):
    """F3: both look it up by the nearest prompt; here prompts that are alike, or equal, do not share one."""
    asks = [("2+2?", "4"), ("2+3?", "5"), ("2+2?", "5")]
    groups = [Group(f"g{row}", prompt, (Response("4"),), {"answer": gold}) for row, (prompt, gold) in enumerate(asks)]
    assert [scores.values for scores in hub.score(groups, Call(recipe="math"))] == [[1.0], [0.0], [0.0]]


def test_concurrent_requests_do_not_swap_answers(hub):
    """F4: R1-Reward answers all requests from one queue; here 100 at once, shuffled, each get their own."""
    numbers = list(range(100))
    random.Random(4).shuffle(numbers)

    def ask(number: int) -> tuple[int, str, list]:
        texts = (f"\\boxed{{{number}}}", f"\\boxed{{{number + 1}}}", f"\\sqrt{{{number**2}}}")
        group = Group(f"g{number}", "same", tuple(map(Response, texts)), {"answer": str(number)})
        (scores,) = hub.score([group], Call(recipe="math"))
        return number, scores.id, scores.values

    with ThreadPoolExecutor(100) as threads:
        found = list(threads.map(ask, numbers))
    assert found == [(number, f"g{number}", [1.0, 0.0, 1.0]) for number in numbers]


def test_three_deviations_are_counted_from_zero():
    """F5: R1-Reward compares normalised advantages with mean +- 3; a z of 3.87 goes whatever the mean, -2.4 stays."""
    for shift in (0.0, 1.0, -5.0, 100.0):
        rewards = torch.zeros(1, 16, dtype=torch.float64)
        rewards[0, 3] = 16.0  # mean 1, z 3.873: under the faulty upper bound of 4
        found = stable_reinforce(rewards + shift)
        assert found[0, 3] == 0.0
        assert (found[0, :3] != 0).all()
    low = torch.tensor([[1.1] * 6 + [0.4]], dtype=torch.float64)  # mean 1, z -2.449: under the faulty lower bound of -2
    assert stable_reinforce(low)[0, 6].item() == pytest.approx(-math.sqrt(6))


def test_reflection_has_the_stated_table(hub):
    """F6: SRPO's chained comparisons pay -0.25 and 0 for wrong-wrong and mended; required .75, 0, -.25, 1."""
    texts = [
        f"<think>t</think><answer>{one}</answer><reflection>r</reflection><think>t</think><answer>{two}</answer>"
        for one, two in (("4", "4"), ("5", "5"), ("4", "5"), ("5", "4"))
    ]
    assert score(hub, "srpo", "4", *texts).parts["reflection"].values == [0.75, 0.0, -0.25, 1.0]


def test_no_bonus_where_nobody_is_right(hub):
    """F7: Observe-R1's shortest right answer is rollout 0 where none is right; here it gets nothing."""
    wrong = [Response("5", tokens=size) for size in (150, 120)]
    assert score(hub, "observe_r1", "4", *wrong).values == [0.0, 0.0]
    right = [Response("4", tokens=size) for size in (150, 120)]
    assert near(score(hub, "observe_r1", "4", *right).values, 1.0, 1.2)


def test_the_dpo_loss_falls_when_the_logit_rises():
    """F8: MM-RLHF swaps the smoothed terms and smooths by 1.0; without smoothing its sign flips."""
    logits = torch.tensor([2.0, -2.0], dtype=torch.float64)
    found = [dpo(logit.view(1), 0.1).item() for logit in logits]
    assert found == pytest.approx([0.5981, 0.7981], abs=5e-5)
    with pytest.raises(ValueError, match="label_smoothing"):
        dpo(logits, label_smoothing=1.0)
    assert dynamic_beta(torch.tensor([-1e3])).item() == pytest.approx(1e-3)


def test_the_checklist_divides_by_what_was_asked(hub):
    """F9: PEARL divides by the answers given, 1.0 for one right of four; here 0.25."""
    items = {"items": [{"answer": str(number)} for number in range(4)]}
    assert score(hub, "pearl", items, "<a1>0</a1>", problem_type="perception").values == [0.25]


def test_labels_and_numbers_are_graded_one_by_one(hub):
    """F10: HumanOmniV2 swaps precision and recall and breaks on a word where a number is due."""
    (found,) = score(hub, "multi_label_f1", "A, E", "A, B, E")
    assert found.value == pytest.approx(0.8)
    assert (found.details["precision"], found.details["recall"]) == pytest.approx((2 / 3, 1.0))
    scores = score(hub, "numeric", "4", "<answer>unknown</answer>", "4")
    assert (scores.values, scores.total.statuses) == ([0.0, 1.0], [Status.OK, Status.OK])


def test_every_group_has_its_own_type(hub):
    """F11: GRPO-CARE and HumanOmniV2 take the first item's type for the batch; here types mix in a call."""
    option, box = {"answer": "B", "options": ["x", "y"]}, {"box": [0, 0, 10, 10]}
    asks = [
        ("mcq", option, "B"),
        ("mcq", option, "A"),
        ("spatial", box, "[5, 0, 15, 10]"),
        ("spatial", box, "[0, 0, 10, 10]"),
    ]
    groups = [
        Group(str(row), "", (Response(text),), reference, problem_type=kind)
        for row, (kind, reference, text) in enumerate(asks)
    ]
    found = [scores.parts["accuracy"].values[0] for scores in hub.score(groups, Call(recipe="one_thinker"))]
    assert near(found, 1.0, 0.0, 1 / 3, 1.0)


def test_benchmark_pairs_are_compared_with_each_other(hub, tmp_path):
    """F12: R1-Reward's script for VL-RewardBench indexes the first element again; here both sides are read."""
    pairs = [("one two three", "one"), ("one", "one two three"), ("one two", "one")]
    rows = [
        {"id": f"RLHF-{row}", "prompt": "p", "chosen": one, "rejected": two} for row, (one, two) in enumerate(pairs)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run("vl_rewardbench", path, hub, Call(recipe="words"), out=tmp_path / "out")
    assert list(report.official.values()) == pytest.approx([2 / 3])


def boxed(answer: str) -> Response:
    return Response(f"<think>x</think><answer><|begin_of_box|>{answer}<|end_of_box|></answer>")


def test_what_is_invalid_is_worth_what_the_recipe_states(hub):
    """F13: GLM gives it the batch's lowest value and takes one source per call; here -1 in any company."""
    invalid = Response("<answer>4</answer>")
    groups = [
        Group("0", "", (boxed("4"), boxed("5"), invalid), {"answer": "4"}, problem_type="math"),
        Group("1", "", (boxed("4"), invalid), {"answer": "4"}, problem_type="math"),
        Group("2", "", (boxed("kitten"), invalid), {"answer": "sitting"}, problem_type="ocr"),
    ]
    call = Call(recipe="glm_4_1v_thinking", inputs={"judge": 0})
    found = [scores.values for scores in hub.score(groups, call)]
    assert found[:2] == [[1.0, 0.0, -1.0], [1.0, -1.0]]
    assert near(found[2], 0.5714, -1.0)


async def judged(script, rubric, reference, text, deadline_ms=10_000, **settings):
    """The score of one response by a judge behind a scripted server, and how often it was asked."""
    async with scripted_judge.ScriptedJudge(script) as server:
        config = HubConfig(workers=1, judges=({"endpoints": [{"url": server.url}], "rubric": rubric} | settings,))
        hub = make_hub(config)
        await hub.start()
        try:
            group = Group("g", "What is shown?", (Response(text),), reference)
            (scores,) = await asyncio.wait_for(hub.score([group], Call(recipe="judge", deadline_ms=deadline_ms)), 30)
        finally:
            await hub.aclose()
        return scores[0], len(server.asks)


async def test_a_judge_is_not_asked_for_ever():
    """F14: TimeMaster repeats on every 429 and reads any text as a float; here the deadline and a form bound it."""
    insight = "Sales fall in May because the holidays come early."
    found, asked = await judged(scripted_judge.answers(429), "insight_quality", {}, insight, deadline_ms=1_500)
    assert found.value is None
    assert found.status in {Status.TIMEOUT, Status.UNAVAILABLE}
    assert asked <= 3
    found, asked = await judged(scripted_judge.says("I would give it 0.9"), "insight_quality", {}, insight)
    assert (found.value, found.status) == (None, Status.JUDGE_UNPARSEABLE)
    assert asked <= 3


def test_coordinates_need_their_space(hub):
    """F15: SATORI-R1 rescales by a size it assumes; here the space is declared and a missing size is no number."""
    recipe = "name: s\nterms: {b: {scorer: union_iou, with: {space: model_input, reference_space: pixel}}}\nvalue: b"
    boxes = {"boxes": [[0, 0, 1000, 500]], "size": [1000, 1000]}
    (found,) = score(hub, recipe, boxes, "[[0, 0, 616, 308]]")
    assert (found.value, found.blame) == (None, Blame.CALLER)
    sized = boxes | {"input_size": [616, 616]}
    assert near(score(hub, recipe, sized, "[[0, 0, 616, 308]]").values, 1.0)
    assert near(
        score(
            hub, "satori_r1", {"answer": ["x"], "caption": "a", "boxes": boxes}, "<bbox>[[0, 0, 616, 308]]</bbox>"
        ).values,
        1.0,
    )


def test_a_box_has_a_stated_convention(hub):
    """F16: Affordance-R1 counts a pixel more, Jigsaw-R1 one less; here the convention is a parameter."""
    inclusive = "name: i\nterms: {b: {scorer: box_iou, with: {convention: inclusive}}}\nvalue: b"
    box = {"box": [0, 0, 10, 10]}
    assert near(score(hub, "box_iou", box, "[5, 0, 15, 10]", "[9, 0, 19, 10]").values, 0.3333, 0.0526)
    assert near(score(hub, inclusive, box, "[5, 0, 15, 10]").values, 0.375)


def test_only_structured_types_earn_a_structure_bonus(hub):
    """F17: OneThinker gives all others the half point, so a wrong one earns 0.6; here 0.1, and 1 at most."""
    wrong, right = "<think>x</think><answer>a car</answer>", "<think>x</think><answer>dogs running</answer>"
    assert near(score(hub, "one_thinker", "dog run", wrong, right, problem_type="free-form").values, 0.1, 1.0)
    grounded = '<think>x</think><answer>{"time": [15, 25]}</answer>'
    assert near(score(hub, "one_thinker", {"time": [15, 25]}, grounded, problem_type="temporal").values, 1.5)


async def test_a_missing_flag_does_not_shrink_the_checklist():
    """F18: Perception-R1 divides by the flags it finds; here four facts want four flags, or there is no score."""
    facts = {"key_facts": ["a red cube", "two balls", "a cat", "a sign"]}
    found, _ = await judged(scripted_judge.verdict("1,1,0,0"), "key_information_coverage", facts, "a cube, two balls")
    assert found.value == 0.5
    found, _ = await judged(scripted_judge.verdict("1,1"), "key_information_coverage", facts, "a cube, two balls")
    assert (found.value, found.status) == (None, Status.JUDGE_UNPARSEABLE)


def test_equal_scores_are_no_signal(hub):
    """F19: OneThinker scales equal scores to 1.0 for all; here they are 0.5, advantage 0, or raw on request."""
    texts = [Response("x", signals={"quality": 3.0})] * 3
    scores = score(hub, "one_thinker_polar", {}, *texts)
    assert near(scores.values, 0.45, 0.45, 0.45)
    assert grpo(torch.tensor([scores.values], dtype=torch.float64)).abs().max() < 1e-9
    raw = Call(recipe="one_thinker_polar", inputs={"raw": 1})
    pair = Group("g", "", (Response("x", signals={"quality": 3.0}), Response("x", signals={"quality": 2.9})))
    assert near(hub.score([pair], raw)[0].values, 2.7, 2.61)


def test_labels_are_not_numbers(hub):
    """F20: CLS-RL's mathematical fallback equates labels that look like numbers; here only the label counts."""
    reference = {"answer": "1/2", "labels": ["1/2", "0.5", "2/4"]}
    scores = score(hub, "label", reference, "0.5", "2/4", "<answer>1/2</answer>", "0.50")
    assert scores.values == [0.0, 0.0, 1.0, 0.0]


def test_a_decimal_point_ends_no_sentence(hub):
    """F21: Affordance-R1 splits at every full stop, so decimals repeat; here only sentences do."""
    assert score(
        hub, "no_repeat", {}, "The radius is 3.14 and the depth is 2.14 here.", "It is red. It is red."
    ).values == [1.0, 0.0]


async def test_a_bare_number_is_no_verdict():
    """F22: judges' formats accept any number; here out of range or out of form is asked again, then no value."""
    for script in (scripted_judge.verdict(50), scripted_judge.says("5"), scripted_judge.verdict("5/5")):
        found, asked = await judged(script, "content_similarity", {"answer": "a dog runs"}, "a dog walks")
        assert (found.value, found.status) == (None, Status.JUDGE_UNPARSEABLE)
        assert asked > 1
    found, _ = await judged(scripted_judge.verdict(3), "content_similarity", {"answer": "a dog runs"}, "a dog walks")
    assert found.value == pytest.approx(0.6)
