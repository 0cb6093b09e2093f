"""Figures of rows B37 to B71 that are no reward of a response but that a module computes."""

import json

import pytest

from rewardhub.bench.loaders.best_of_n import load
from rewardhub.models.process import AGGREGATES


@pytest.mark.parametrize(
    ("aggregate", "first", "second"),
    [("min", 0.5, 0.7), ("mean", 2.2 / 3, 0.7), ("last", 0.5, 0.7), ("product", 0.36, 0.343)],
)
def test_process_models_reduce_steps_as_recipes_do(aggregate, first, second):
    """B56: a process model's card and the recipe r2_llms choose alike between two chains."""
    assert AGGREGATES[aggregate]([0.9, 0.8, 0.5]) == pytest.approx(first)
    assert AGGREGATES[aggregate]([0.7, 0.7, 0.7]) == pytest.approx(second)


def test_a_vote_and_a_reranker_may_pick_differently(tmp_path):
    """B37: of the samples 5, 5, 7 the vote picks 5; a reranker that gives .2, .3, .9 picks 7."""
    line = {"question": "?", "response": ["5", "5", "7"], "score": [True, True, False]}
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(line | {"pred": ["5", "5", "7"], "pred_score": [0.2, 0.3, 0.9]}) + "\n")
    (item,) = load(path)
    picks = {name: max(range(3), key=values.__getitem__) for name, values in item.known.items()}
    assert (item.responses[picks["majority"]], item.responses[picks["published"]]) == ("5", "7")
