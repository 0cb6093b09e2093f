"""The math verifier on real gold answers: GSM8K test, MATH-500, best-of-8 responses with labels."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from rewardhub.scorer import BoundVerifier
from rewardhub.types import Group, Response, Score, Status
from rewardhub.verifiers.math_answer import math


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def verdicts(bound: BoundVerifier, pairs: Iterable[tuple[str, str]]) -> list[Score]:
    """Fast where it decides, else the full function; both must agree where both decide."""
    found = []
    for text, answer in pairs:
        group = Group(id="g", responses=(Response(text),), reference={"answer": answer})
        fast = bound.try_fast(group, [0]).row(0)
        found.append(bound.score(group, [0]).row(0) if fast.status == Status.SKIPPED else fast)
    return found


def gsm8k(data_dir: Path) -> list[tuple[str, str]]:
    golds = [row["answer"] for row in lines(data_dir / "gsm8k/test.jsonl")]
    return [(gold, gold.split("####")[1].strip()) for gold in golds]


def test_gsm8k_gold_is_right(data_dir):
    """Each of the 1,319 gold solutions scores 1.0 against its own final answer."""
    scores = verdicts(math.bind({}), gsm8k(data_dir))
    assert [score.value for score in scores] == [1.0] * 1319


def test_gsm8k_off_by_one_is_wrong(data_dir):
    """The same solutions with the final number raised by one score 0.0, status ok."""
    raised = []
    for text, answer in gsm8k(data_dir):
        body, number = text.split("####")
        raised.append((f"{body}#### {int(number.replace(',', '')) + 1}", answer))
    scores = verdicts(math.bind({}), raised)
    assert {(score.value, score.status) for score in scores} == {(0.0, Status.OK)}


def test_math500_solutions_are_right(data_dir):
    """All 500 solution texts score 1.0 against their answers, under every preset."""
    rows = lines(data_dir / "math500/test.jsonl")
    pairs = [(row["solution"], row["answer"]) for row in rows]
    for preset in ("strict", "math_verify", "lenient"):
        scores = verdicts(math.bind({"preset": preset}), pairs)
        assert [score.value for score in scores] == [1.0] * 500


def test_math500_neighbours_are_wrong(data_dir):
    """The answer of the next problem is wrong, except where the two answers are really equal."""
    answers = [row["answer"] for row in lines(data_dir / "math500/test.jsonl")]
    pairs = [(rf"\boxed{{{one}}}", two) for one, two in zip(answers, answers[1:], strict=False)]
    scores = verdicts(math.bind({}), pairs)
    right = [pair for pair, score in zip(pairs, scores, strict=True) if score.value != 0.0]
    assert right == [(r"\boxed{5}", "x=5"), (r"\boxed{7}", "7"), (r"\boxed{3}", "3")]


def test_best_of_eight_agrees_with_published_labels(data_dir):
    """800 sampled responses: only the one mislabelled row (10{,}000 against 10000) differs."""
    rows = lines(data_dir / "best_of_8_math/math_cot_100.jsonl")
    triples = [(r, row["gt"], s) for row in rows for r, s in zip(row["response"], row["score"], strict=True)]
    scores = verdicts(math.bind({}), [(text, gold) for text, gold, _ in triples])
    differ = [gold for (_, gold, label), score in zip(triples, scores, strict=True) if (score.value == 1.0) != label]
    assert differ == ["10{,}000"]


def test_math500_with_one_digit_changed_is_wrong(data_dir):
    """Each digit of each answer, one at a time, raised by one: wrong, but for the power of a unit, which is dropped."""
    pairs = []
    for row in lines(data_dir / "math500/test.jsonl"):
        answer = row["answer"]
        for match in re.finditer(r"\d", answer):
            raised = answer[: match.start()] + str((int(match[0]) + 1) % 10) + answer[match.end() :]
            pairs.append((rf"\boxed{{{raised}}}", answer))
    scores = verdicts(math.bind({}), pairs)
    right = [pair for pair, score in zip(pairs, scores, strict=True) if score.value == 1.0]
    assert right == [
        (r"\boxed{864 \mbox{ inches}^3}", r"864 \mbox{ inches}^2"), (r"\boxed{15\mbox{ cm}^3}", r"15\mbox{ cm}^2"),
    ]  # fmt: skip
    assert len(pairs) > 1_000


def test_math500_with_another_answer_beside_is_wrong(data_dir):
    """An answer listed with a second one never pays."""
    pairs = []
    for row in lines(data_dir / "math500/test.jsonl"):
        for form in ("{}, 777", "777, {}", r"{} \text{{ or }} 777", "{} (or 777)", r"777 \text{{ or }} {}"):
            pairs.append((rf"\boxed{{{form.format(row['answer'])}}}", row["answer"]))
    assert [pair for pair, score in zip(pairs, verdicts(math.bind({}), pairs), strict=True) if score.value == 1.0] == []
