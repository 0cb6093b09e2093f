"""Figures of rows A40 to A77 that are no reward of one response but that the project computes."""

import math

import pytest
import torch

from rewardhub.assembly import make_hub
from rewardhub.bench.intervals import estimate
from rewardhub.bench.items import Comparison, Game, Item, Judged
from rewardhub.bench.policies import Policy, credits_of
from rewardhub.config import HubConfig
from rewardhub.grpo.losses import k3, ratio_of
from rewardhub.local import LocalHub
from rewardhub.models.head import head_from
from rewardhub.models.tiny import build_tiny
from rewardhub.registry import default_registry, verifier
from rewardhub.reward_modeling.losses import bradley_terry
from rewardhub.types import Call, Group, Response, Status

OK = (Status.OK, Status.OK)
ASPECTS = {"perception": (10, 5), "knowledge": (5, 5), "reasoning": (5, 0), "safety": (2, 2)}


def test_overall_and_macro_of_a_video_benchmark():
    """A50: 10, 5, 5, 2 pairs with 5, 5, 0, 2 right are 0.5455 overall and 0.6250 by aspect; ties are not right."""
    games = [
        Judged(
            Item(f"{aspect} {row}", "p", ("a", "b"), (Comparison(0, 1),), category=aspect),
            ((Game(1.0, 0.0 if row < right else 1.0, OK),) * 2,),
        )
        for aspect, (pairs, right) in ASPECTS.items()
        for row in range(pairs)
    ]
    figures = {}
    for grouping in ("micro", "macro"):
        policy = Policy(grouping, grouping=grouping)
        figures[grouping] = estimate(policy, credits_of(policy, games)).value
    assert figures == pytest.approx({"micro": 12 / 22, "macro": 0.625})


@verifier("reward_model", range=(0.0, 1.0))
def model_under_test(response, reference) -> float:
    """Stands where the model under test would: the signal that the test sends."""
    return response.signals["score"]


@verifier("polar_7b", range=(-10.0, 10.0))
def preference(response, reference) -> float:
    """The same under another name."""
    return response.signals["score"]


@pytest.fixture(scope="module")
def hub():
    registry = default_registry()
    for each in (model_under_test, preference):
        registry.add(each)
    judge = {"endpoints": [{"url": "http://127.0.0.1:9/v1"}]}  # nobody listens there
    with LocalHub(lambda: make_hub(HubConfig(workers=1, judges=(judge,)), registry)) as made:
        yield made


def test_kinds_of_rewards_mix_in_one_call(hub):
    """A51: a rule, a verifying judge (down here: its rows alone have no value) and a preference model."""
    scored = tuple(Response("x", signals={"score": value}) for value in (-2.0, 1.0, 4.0))
    groups = [
        Group("rule", "", (Response("\\boxed{0.5}"),), {"answer": "1/2"}, problem_type="math"),
        Group("judge", "?", (Response("it rusts in the rain"),), {"answer": "iron rusts"}, problem_type="verifier"),
        Group("model", "", scored, problem_type="preference"),
    ]
    rule, judged, model = hub.score(groups, Call(recipe="intern_s1", deadline_ms=3_000))
    assert rule.values == [1.0]
    assert judged.values == [None]
    assert judged.total.statuses[0] in {Status.UNAVAILABLE, Status.TIMEOUT}
    assert model.values == pytest.approx([0.0, 0.5, 1.0])
    assert model.parts["score"].values == [-2.0, 1.0, 4.0]


def test_a_benchmark_pair_is_one_group(hub):
    """A50: the chosen response wins by the strictly higher score of the model under test."""
    pair = tuple(Response("x", signals={"score": value}) for value in (0.7, 0.2))
    (scores,) = hub.score([Group("g", "", pair)], Call(recipe="video_reward_bench"))
    assert scores.values == [1.0, 0.0]


def test_the_loss_and_the_head_of_base_reward():
    """A55: scores 2 and 0 cost 0.1269, equal ones 0.6931; h * m + m + m + 1 parameters."""
    costs = [bradley_terry(torch.tensor([chosen]), torch.tensor([0.0])).item() for chosen in (2.0, 0.0)]
    assert costs == pytest.approx([0.1269, 0.6931], abs=5e-5)
    inputs, middle = 12, 5
    shapes = {"0.weight": (middle, inputs), "0.bias": (middle,), "2.weight": (1, middle), "2.bias": (1,)}
    head = head_from({f"score.{name}": torch.zeros(shape) for name, shape in shapes.items()}, "silu")
    assert sum(each.numel() for each in head.parameters()) == inputs * middle + middle + middle + 1


def test_the_numbers_of_two_trainers():
    """A40: k3 of d = 0.5 is 0.1487 and of 0 is 0; A48: a log-ratio of 10 becomes a ratio of 1,000."""
    image, masked = torch.zeros(2), torch.tensor([0.5, 0.0])
    assert k3(image, masked).tolist() == pytest.approx([0.1487, 0.0], abs=5e-5)
    assert ratio_of(torch.tensor(10.0), torch.tensor(0.0)).item() == pytest.approx(1_000, rel=1e-5)


def test_log_scores_and_their_floor(hub):
    """A66: a wrong answer stated with certainty costs -24.0259, less than an unreadable confidence, -27.631."""
    texts = ("<answer>C</answer><confidence>1</confidence>", "<answer>B</answer>")
    (scores,) = hub.score([Group("g", "", tuple(map(Response, texts)), {"answer": "B"})], Call(recipe="prompt4trust"))
    assert scores.values == pytest.approx([math.log(1e-10) - 1, math.log(1e-12)], abs=1e-9)
    assert scores.total.statuses == [Status.OK, Status.NO_ANSWER]


def test_open_answers_are_matched_by_a_real_embedding_table(tmp_path):
    """A67: recipe mixed_r1 with a card of kind token_match; the same words are 1, beside 1 for the format."""
    build_tiny(tmp_path / "tiny")
    (tmp_path / "bmas.toml").write_text('name = "bmas"\nkind = "token_match"\npath = "tiny"\n')
    texts = ("<think>x</think><answer>a red square</answer>", "a red square", "a blue square", " ")
    groups = [
        Group("open", "", tuple(map(Response, texts[1:])), {"answer": "a red square"}, problem_type="open"),
        Group("tags", "", (Response(texts[0]),), {"answer": "a red square"}, problem_type="open"),
        Group("none", "", (Response("red"),), {"answer": ""}, problem_type="open"),
        Group("chart", "", (Response("104"), Response("106")), {"answer": "100"}, problem_type="chart"),
    ]
    with LocalHub(lambda: make_hub(HubConfig(workers=1, cards=(tmp_path / "bmas.toml",)))) as made:
        found = [scores.values for scores in made.score(groups, Call(recipe="mixed_r1", deadline_ms=120_000))]
    same, other, blank = found[0]
    assert (same, blank) == pytest.approx((1.0, 0.0), abs=1e-6)
    assert 0.0 < other < 0.99
    assert found[1] == pytest.approx([2.0], abs=1e-6)
    assert found[2:] == [[None], [1.0, 0.0]]
