"""Prompts are remembered between calls: nothing is computed twice, and no score changes."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from rewardhub.models.prefixes import Prefix, PrefixMemory, prompt_key
from rewardhub.types import Response


def singles(groups):
    """Every response as a call of its own, in an order that mixes the groups."""
    calls = [
        (group.id, index, replace(group, responses=(response,)))
        for group in groups
        for index, response in enumerate(group.responses)
    ]
    random.Random(3).shuffle(calls)
    return calls


@pytest.fixture(scope="module")
def eight(groups):
    """Eight prompts with an image and eight responses each."""
    prompts = [f"{groups[1].prompt} Take {index}. " + "Look closely. " * 12 for index in range(8)]
    answers = [tuple(Response(f"{k} is {'red ' * (2 * k + 4)}") for k in range(8)) for index in range(8)]
    return [
        replace(groups[1], id=str(index), prompt=prompt, responses=responses)
        for index, (prompt, responses) in enumerate(zip(prompts, answers, strict=True))
    ]


def test_single_calls_cost_what_groups_cost(scalar, eight):
    """64 single calls for 8 prompts put at most 1.15 times the tokens of 8 whole groups through the layers."""
    whole, one_by_one = scalar(), scalar()
    before = whole.runner.tokens, one_by_one.runner.tokens
    wanted = {group.id: whole.score([group])[0].values for group in eight}
    for name, index, call in singles(eight):
        assert one_by_one.score([call])[0].values[0] == pytest.approx(wanted[name][index], abs=1e-5)
    spent = whole.runner.tokens - before[0], one_by_one.runner.tokens - before[1]
    assert spent[1] <= 1.15 * spent[0]
    forgetful = scalar(prefix_cache_mb=0)
    start = forgetful.runner.tokens
    for _, _, call in singles(eight):
        forgetful.score([call])
    assert forgetful.runner.tokens - start > 2 * spent[1]


def test_scores_do_not_depend_on_what_is_remembered(scalar, groups):
    """Asked again, in parts, and beside strangers, with and without a memory: the same within 1e-5."""
    model, plain = scalar(), scalar(share_prefix=False)
    wanted = [column.values for column in plain.score(groups)]
    for _ in range(2):
        for group, values in zip(groups, wanted, strict=True):
            half = replace(group, responses=group.responses[:1])
            assert model.score([half])[0].values == pytest.approx(values[:1], abs=1e-5)
        for column, values in zip(model.score(groups), wanted, strict=True):
            assert np.allclose(column.values, values, atol=1e-5)


def test_images_tell_prompts_apart(scalar, groups):
    """The same words about another image are another prompt."""
    model, plain = scalar(), scalar(share_prefix=False)
    first = groups[1]
    second = replace(first, media=groups[4].media[:1])
    rows = [model.encode(group)[0] for group in (first, second)]
    assert rows[0].ids.tolist() == rows[1].ids.tolist()
    assert prompt_key(rows[0]) != prompt_key(rows[1])
    for group in (first, second, first):
        assert model.score([group])[0].values == pytest.approx(plain.score([group])[0].values, abs=1e-5)


def test_the_response_is_no_part_of_the_key(scalar, groups):
    """Rows of one prompt have one key, whatever follows, images of the response included."""
    model, group = scalar(), groups[1]
    shown = Response("see", media=groups[4].media[:1])
    rows = model.encode(replace(group, responses=(*group.responses, shown)))
    assert len({prompt_key(row) for row in rows}) == 1


def test_the_budget_holds():
    """What was not used for longest is forgotten first, and one prefix over the budget is not kept."""
    memory = PrefixMemory(1000)

    def prefix(size):
        return Prefix([torch.zeros(size // 8)], [torch.zeros(size // 8)])

    for name in "abcd":
        memory.put(name.encode(), prefix(248))
    assert memory.get(b"a") is not None
    memory.put(b"e", prefix(248))
    assert [memory.get(name.encode()) is not None for name in "abcde"] == [True, False, True, True, True]
    memory.put(b"huge", prefix(2000))
    assert memory.get(b"huge") is None
    assert memory.bytes <= 1000
