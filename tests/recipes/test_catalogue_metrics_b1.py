"""Rows B1 to B36 whose acceptance test is a metric: the mean, choice or rating that their values come to."""

from statistics import fmean

import pytest
from scripted_judge import verdict

from rewardhub.judges.ratings import elo, expected_points
from rewardhub.types import Call, Group, Response


def item(number: int, reference, *texts: str, **rest) -> Group:
    reference = reference if isinstance(reference, dict) else {"answer": reference}
    return Group(f"item {number}", "Why?", tuple(map(Response, texts)), reference, **rest)


@pytest.fixture
def values(score):
    """Gives the values of each group, one list per group."""

    async def run(recipe: str, *groups: Group) -> list[list[float]]:
        return [scores.values for scores in await score(recipe, *groups)]

    return run


def prefers(ask):
    """Prefers the response that says it is better, wherever it stands; else a tie."""
    first, second = ("better" in ask.block(f"RESPONSE {name}") for name in "AB")
    return verdict("TIE" if first == second else "A" if first else "B")(ask)


async def test_option_accuracy_and_judged_mean(values, judging):
    """B1: golds A, B, C, D against A, B, D, (D) are 0.75 right; a judge's 8, 6, 7, 9 are 7.5."""
    pairs = [("A", "A"), ("B", "B"), ("C", "D"), ("D", "(D)")]
    groups = [item(row, gold, said, problem_type="option") for row, (gold, said) in enumerate(pairs)]
    assert fmean(value for (value,) in await values("video_espresso", *groups)) == 0.75
    async with judging(verdict("8, 6, 7, 9")) as (hub, _):
        asked = item(0, "he falls", "he trips", problem_type="free")
        (scores,) = await hub.score([asked], Call(recipe="video_espresso"))
    assert scores.values == [7.5]


async def test_thousands_separators(values):
    """B3, B19: 18, 3 and 70000 against 18, 3 and 70,000 are all right."""
    pairs = [("18", "18"), ("3", "3"), ("70,000", "70000")]
    groups = [item(row, gold, said) for row, (gold, said) in enumerate(pairs)]
    for recipe in ("enriched_instruction_tuning", "lift"):
        assert await values(recipe, *groups) == [[1.0]] * 3


async def test_win_rate(judging):
    """B7: six wins, two ties and two losses are a win rate of 0.70, and 0.30 for the other side."""
    ours = ["better"] * 6 + ["same"] * 2 + ["poor"] * 2
    theirs = ["poor"] * 6 + ["same"] * 2 + ["better"] * 2
    groups = [item(row, {}, f"{one} {row}", f"{two} {row}") for row, (one, two) in enumerate(zip(ours, theirs))]
    async with judging(prefers) as (hub, server):
        found = await hub.score(groups, Call(recipe="non_instructional_fine_tuning"))
    assert fmean(scores.values[0] for scores in found) == pytest.approx(0.70)
    assert fmean(scores.values[1] for scores in found) == pytest.approx(0.30)
    assert len(server.asks) == 20


async def test_arena_ratings(judging):
    """B14: a first win makes 1016 and 984, 1200 expects 0.760 against 1000; an arena's details hold the ratings."""
    assert elo([(0, 1, 1.0)], 2) == [1016.0, 984.0]
    assert expected_points(1200.0, 1000.0) == pytest.approx(0.760, abs=5e-4)
    async with judging(prefers) as (hub, _):
        (scores,) = await hub.score([item(0, {}, "a", "better", "c")], Call(recipe="lvlm_ehub"))
    assert scores.values == [0.25, 1.0, 0.25]
    ratings = [scores.parts["battle"].row(row).details["elo"] for row in range(3)]
    assert ratings[1] > 1016.0
    assert sum(ratings) == pytest.approx(3000.0)


async def test_instruction_following_score(values):
    """B15: of four items one is followed, which is an IFS of 0.25."""
    reference = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    traces = ["<think>a b</think>4", "<think>a, b</think>4", "<think>Step 1, add</think>4", "<think></think>4"]
    found = await values("reason_if", *(item(row, reference, trace) for row, trace in enumerate(traces)))
    assert fmean(value for (value,) in found) == 0.25


async def test_kept_of_video_star(values):
    """B18: a span with an IoU of 0.946 is kept, another label is dropped: one of two."""
    near = item(0, {"time": "5.5 s–9.0 s"}, "It happens from 5.4 to 9.1.", problem_type="span")
    other = item(1, "high jump", "The athlete does the long jump.", problem_type="label")
    assert await values("video_star", near, other) == [[1.0], [0.0]]


async def test_first_program_that_passes(values):
    """B22: of programs that return 3, 4, an error and 4 against 4, the one with index 1 is kept."""
    programs = [f"def solution():\n    return {body}" for body in ("'3'", "'4'", "1 / 0", "'4'")]
    reference = {"language": "python", "mode": "solution", "expected": "4"}
    ((*passed,),) = await values("visual_program_distillation", item(0, reference, *programs))
    assert (passed, passed.index(1.0)) == ([0.0, 1.0, 0.0, 1.0], 1)


async def test_hit_at_one(values):
    """B23: golds at the ranks 1, 3, 1 and 2 are a hit@1 of 0.5."""
    ranked = ["[g, a, b]", "[a, b, g]", "[g, b, a]", "[a, g, b]"]
    found = await values("think_then_embed", *(item(row, {"relevant": ["g"]}, text) for row, text in enumerate(ranked)))
    assert fmean(value for (value,) in found) == 0.5


async def test_prompt_and_instruction_accuracy(score):
    """B24: two prompts with [1, 1] and [1, 0] followed are 0.5 by prompt and 0.75 by instruction."""
    rules = ["punctuation:no_comma", "length_constraints:number_words"]
    reference = {"instruction_id_list": rules, "kwargs": [{}, {"relation": "less than", "num_words": 4}]}
    found = await score("cpt_and_ift", item(0, reference, "one two"), item(1, reference, "one two three four five"))
    assert fmean(scores.values[0] for scores in found) == 0.5
    assert fmean(scores.parts["share"].values[0] for scores in found) == 0.75


async def test_agreement_of_critiques(values):
    """B27: critiques that say T, F, T, T, F against a verifier's T, F, F, T, F agree in 0.8."""
    said, checked = "TFTTF", "TFFTF"
    words = {"T": "Each step holds. <answer>correct</answer>", "F": "Step 2 is off. <answer>wrong</answer>"}
    pairs = zip(said, checked, strict=True)
    groups = [item(row, {"answer": right == "T"}, words[mark]) for row, (mark, right) in enumerate(pairs)]
    assert fmean(value for (value,) in await values("critique_ft_one_problem", *groups)) == 0.8


async def test_rejection_sampling_keeps_what_is_right(score):
    """B28: of four rollouts with the verdicts 1, 0, 1, 1 three are kept."""
    (scores,) = await score("openvlthinker", item(0, "12", "12", "13", "\\boxed{12}", "<answer>12</answer>"))
    assert scores.parts["accuracy"].values == [1.0, 0.0, 1.0, 1.0]


async def test_the_better_action_path_is_chosen(values):
    """B34: three of four against one of four right: the first action path has the higher value."""
    first, second = item(0, "4", "4", "4", "5", "4"), item(1, "4", "4", "5", "6", "7")
    assert await values("dots", first, second) == [[0.75] * 4, [0.25] * 4]
