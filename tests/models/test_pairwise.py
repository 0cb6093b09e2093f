"""Pairwise models: the chance to be named the better answer, both orders, mean over opponents."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from rewardhub.errors import ConfigError
from rewardhub.models import Card, load
from rewardhub.models.inputs import Row
from rewardhub.models.pairwise import verdict
from rewardhub.models.writing import Written
from rewardhub.types import Group, Media, Response, Score, Status

QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizers cut words."""
ASK = "Q: {prompt} A: {first} B: {second} Better?"


def card(path: Path, **fields: object) -> Card:
    return Card(
        **{"name": "pair", "kind": "pairwise", "path": path, "system": "", "instruction": ASK, "choices": ("1", "2")}
        | fields
    )


@pytest.fixture(scope="module")
def model(tiny):
    return load(card(tiny, token_budget=300))


@pytest.fixture(scope="module")
def plain(tiny):
    """P(first) of one ordered pair by transformers alone."""
    whole = Qwen2_5_VLForConditionalGeneration.from_pretrained(str(tiny), dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(tiny / "tokenizer.json"))

    def first(prompt: str, a: str, b: str) -> float:
        text = ASK.format(prompt=prompt, first=a, second=b)
        ids = tokenizer(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n", return_tensors="pt")[
            "input_ids"
        ]
        with torch.no_grad():
            logits = whole(input_ids=ids).logits[0, -1]
        one, two = (tokenizer.convert_tokens_to_ids(choice) for choice in "12")
        return float(torch.softmax(logits[[one, two]], 0)[0])

    return first


def test_equals_a_plain_forward(model, plain):
    """The value is the mean over opponents of both orders, from plain forwards, within 1e-5."""
    texts = ["red", "blue because", "green green green"]
    column = model.score([Group("g", "What colour?", tuple(map(Response, texts)))])[0]
    for i, text in enumerate(texts):
        others = [other for j, other in enumerate(texts) if j != i]
        chances = [(plain("What colour?", text, o) + 1 - plain("What colour?", o, text)) / 2 for o in others]
        assert column.values[i] == pytest.approx(np.mean(chances), abs=1e-5)
    assert np.std(column.values) > 1e-6


def test_the_context_is_shown(tiny, plain):
    """Fields of the reference stand behind the prompt; without them there is nothing to compare by."""
    judge = load(card(tiny, context=" Right: {answer}"))
    responses = (Response("red"), Response("blue because"))
    for answer in ("red", "a blue circle"):
        shown = f"What colour? Right: {answer}"
        wanted = (plain(shown, "red", "blue because") + 1 - plain(shown, "blue because", "red")) / 2
        column = judge.score([Group("g", "What colour?", responses, {"answer": answer})])[0]
        assert column.values == pytest.approx([wanted, 1 - wanted], abs=1e-6)
    assert set(judge.score([Group("g", "What?", responses)])[0].statuses) == {Status.REFERENCE_UNPARSEABLE}


def test_two_responses_share_one(model, groups):
    """The values of a pair sum to 1, and swapping the responses swaps them."""
    group = replace(groups[1], responses=(Response("red"), Response("blue")))
    first, second = model.score([group])[0].values
    assert first + second == pytest.approx(1.0, abs=1e-6)
    swapped = model.score([replace(group, responses=group.responses[::-1])])[0].values
    assert swapped == pytest.approx([second, first], abs=1e-6)


def test_company_changes_nothing(model, groups):
    """Groups scored together equal groups scored alone."""
    chosen = [group for group in groups if len(group.responses) > 1]
    for group, column in zip(chosen, model.score(chosen), strict=True):
        assert np.allclose(column.values, model.score([group])[0].values, atol=1e-5)


@pytest.mark.parametrize(("words", "shares"), [(1, False), (60, True)])
def test_long_answers_are_shared_too(tiny, model, groups, words, shares):
    """With long answers each first answer is read once for all its opponents; the values stay the same."""
    texts = [f"{name} because" * words for name in ("red", "blue", "green")]
    group = replace(groups[1], responses=tuple(map(Response, texts)))
    assert model.encode(group).share_first is shares
    rows = load(card(tiny, share_prefix=False))
    assert model.runner.attention == "packed"
    assert np.allclose(model.score([group])[0].values, rows.score([group])[0].values, atol=1e-5)


@pytest.mark.parametrize("instruction", [ASK, "{prompt}\n{first}\n{second}\n?"])
def test_answers_that_fill_the_room(tiny, tmp_path, instruction):
    """Tokens that span an answer's edges are counted: one that may be compared fits beside any other."""
    path = shutil.copytree(tiny, tmp_path / "words")
    words = Tokenizer.from_file(str(path / "tokenizer.json"))
    split = pre_tokenizers.Split(Regex(QWEN_WORDS), "isolated")
    words.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    words.save(str(path / "tokenizer.json"))
    rng, fragments = random.Random(0), [" red", "\n", "  ", " ", "x", "é", "123", "\n\n", "'s"]
    for limit in range(70, 90, 4):
        judge = load(card(path, instruction=instruction, max_tokens=limit))
        tokens = judge.checkpoint.encoder.tokenizer.encode
        pair = judge.encode(Group("g", "What?", (Response("a"), Response("b"))))
        half = (limit + 2 - len(pair.rows[0, 1].encoded)) // 2
        texts = ["".join(rng.choices(fragments, k=3 * half)) for _ in range(30)]
        texts = [
            next(text[:end] for end in range(len(text), 0, -1) if len(tokens(text[:end])) <= half) for text in texts
        ]
        found = judge.encode(Group("g", "What?", tuple(map(Response, texts))))
        assert len(found.failures) < 20
        assert all(isinstance(row, Row) for row in found.rows.values())


def test_a_lone_response_has_nobody_to_beat(model, groups):
    """A group of one is incomplete_group; its neighbours are scored."""
    alone, pair = model.score([replace(groups[1], responses=(Response("x"),)), groups[1]])
    assert alone.statuses == [Status.INCOMPLETE_GROUP]
    assert alone.values == [None]
    assert set(pair.statuses) == {Status.OK}


def test_one_bad_response_costs_no_other(model, groups):
    """An answer too long to compare is over_limit, bad media invalid_input; the rest are compared."""
    bad = (Response("z" * 5000), Response("x", media=(Media.from_bytes(b"no"),)))
    group = replace(groups[1], responses=(*bad, Response("red"), Response("blue")))
    column = model.score([group])[0]
    assert column.statuses == [Status.OVER_LIMIT, Status.INVALID_INPUT, Status.OK, Status.OK]
    healthy = model.score([replace(group, responses=group.responses[2:])])[0]
    assert column.values[2:] == pytest.approx(healthy.values, abs=1e-6)


def test_comparisons_are_bounded(model, groups):
    """A group whose comparisons would fill the memory is invalid_input at once; its neighbour is scored."""
    many = replace(groups[1], responses=tuple(Response(str(index)) for index in range(129)))
    first, second = model.score([many, groups[1]])
    assert set(first.statuses) == {Status.INVALID_INPUT}
    assert "16512 comparisons" in first.details[0]["reason"]
    assert set(second.statuses) == {Status.OK}


def test_conversations_are_told_by_role(model, groups):
    """A prompt of several turns and a trajectory are shown as text, each turn behind its role."""
    turns = [
        {"role": "user", "content": [{"type": "image", "media": 0}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "A shape."},
        {"role": "user", "content": "Its colour?"},
    ]
    steps = ({"role": "assistant", "content": "Let me look."}, {"role": "assistant", "content": "red"})
    group = replace(groups[4], prompt=tuple(turns), responses=(Response(messages=steps), Response("blue")))
    rows = model.encode(group).rows
    text = model.loaded.encoder.tokenizer.decode(rows[0, 1].encoded.ids)
    assert "user: What?\nassistant: A shape.\nuser: Its colour?\n" in text
    assert "assistant: Let me look.\nassistant: red\n" in text
    assert model.score([group])[0].statuses == [Status.OK, Status.OK]


def test_bad_media_of_the_prompt_fail_the_group(model, groups):
    """A prompt whose image cannot be shown is invalid_input for all its responses."""
    group = replace(groups[4], media=(Media.from_bytes(b"no"),))
    assert set(model.score([group])[0].statuses) == {Status.INVALID_INPUT}


def test_text_in_braces_is_not_a_marker(model):
    """Responses and prompts may hold the instruction's markers; they are text."""
    texts = ["{second}", "{first} {prompt}"]
    column = model.score([Group("g", "{first}", tuple(map(Response, texts)))])[0]
    assert column.statuses == [Status.OK, Status.OK]


def test_choices_are_single_tokens(tiny):
    """A choice of several tokens has no single probability and is refused."""
    with pytest.raises(ConfigError, match="not one"):
        load(card(tiny, choices=("first answer", "2")))


def test_votes_written_out(tiny, groups, monkeypatch):
    """k votes per order; both orders count, the share of votes is the value, and who names no answer has no vote."""
    votes = {"count": 4, "max_tokens": 6, "temperature": 1.0}
    model = load(Card(name="m", kind="pairwise", path=tiny, system="", votes=votes))
    plain = load(Card(name="m", kind="pairwise", path=tiny, system=""))
    assert model.fingerprint != plain.fingerprint
    group = next(group for group in groups if len(group.responses) == 3)
    assert set(model.score([group])[0].statuses) == {Status.JUDGE_UNPARSEABLE}
    written = {}

    def write(row, count):
        texts = ["reasons <answer>1</answer>", "<answer>2</answer>", "neither", "so <answer> 1 </answer>\n"][:count]
        written[row.ids.tobytes()] = texts
        return [Written(text, 1, True, torch.zeros(1)) for text in texts]

    monkeypatch.setattr(model.engine.writer, "write", write)
    values = model.score([group])[0].values
    assert len(written) == 6
    # Two of three votes for the first place whoever stands there: both orders together are even.
    assert values == pytest.approx([0.5] * 3)


def test_written_votes_are_the_models_own(tiny, groups):
    """Sampled alike whatever the batch, and different at the different rows of a group."""
    model = load(Card(name="m", kind="pairwise", path=tiny, system="", votes={"count": 2, "max_tokens": 8}))
    rows = [row for row in model.encode(groups[2]).rows.values() if not isinstance(row, Score)]
    first, again = (
        [[each.text for each in model.engine.writer.write(row.encoded, 2)] for row in rows] for _ in range(2)
    )
    assert first == again
    assert len({text for texts in first for text in texts}) > 1


@pytest.mark.parametrize(("text", "wanted"), [
    ("<answer>1</answer>", 1), ("a <answer>2</answer> \n", 2), ("<answer>1</answer> no <answer>2</answer>", 2),
    ("<answer>1</answer> and more", 0), ("<answer>3</answer>", 0), ("1", 0), ("", 0),
])  # fmt: skip
def test_verdicts_stand_at_the_end(text, wanted):
    """Only an answer tag at the very end is a verdict."""
    assert verdict(text) == wanted
