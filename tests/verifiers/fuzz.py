"""Seeded mutation of every registered verifier's examples: responses, references and both at once.

An execution is one scoring. It must end in a verdict or in a status that blames the response or the caller: no
exception, no ``internal_error``, no value out of range, no details that are not JSON, no second answer that differs,
no fast function that says other than the full one, and no time past the limit. Verifiers that run programs in the
sandbox are left out here; the symbolic tier of ``math``, which may take its whole limit, is asked by its fast path.

    .venv/bin/python -P tests/verifiers/fuzz.py [EXECUTIONS] [SEED] [VERIFIER…]
"""

import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from rewardhub.registry import default_registry
from rewardhub.scorer import BoundVerifier, Example, Verifier
from rewardhub.types import Group, Score, Status

FAST_ONLY = {"math", "checklist"}
"""Their full functions may use the symbolic tier, which is killed from outside where it takes too long."""
LONGEST = 4_000
SLOW_S = 2.0
DICTIONARY = [
    "", " ", "\n", "\n\n", "\t", "\x00", "\ud800", "\u202e", "é", "½", "²", "−", "，", "。", "１２", "答案是", "はい", "👩‍👩‍👧‍👦", "٣",
    "0", "1", "-1", "00", "1e999", "-1e-999", "NaN", "inf", "-0", "9" * 40, "0.1", ".5", "1/0", "1,000", "1.000,5", "50%", "$5",
    "{", "}", "[", "]", "(", ")", "<", ">", "\\", "/", "|", "^", "_", "$", "&", "%", "#", "*", "`", '"', "'", ":", ";", ",", ".",
    "\\boxed{", "\\boxed{}", "\\frac{1}{2}", "\\text{", "\\begin{pmatrix}", "\\\\", "\\sqrt", "\\pm", "9^{9^{9}}", "5!!!!",
    "<answer>", "</answer>", "<think>", "</think>", "<answer></answer>", "<a1>", "</a1>", "<|begin_of_box|>", "```json\n", "```",
    '{"', '":', "[[]]", "[0,0,10,10]", "[1, 2", '{"bbox_2d": [1,2,3,4]}', "(0,0)", "10 to 20", "01:05", "25:61:99", "null", "true",
    "A", "B.", "(C)", "A, B", "not A", "yes", "no", "I", "IV", "seven", "million", "answer is", "Answer:", "####", "Confidence: 0.9",
    "knight", "knave", "Route 1", "--", "«", "》", "P.S.", "a " * 60, "<", "</", "</answer", "- x", "* x\n", "[x]", "<<t>>",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**63, 10**40, 0.5, -0.0, 1e308, math.nan, math.inf, "", " ", "x", "5", "\x00", "\ud800", "[", "{}",
    [], [[]], [None], ["a"], [1, 2, 3, 4], [[0, 0, 10, 10]], {}, {"a": 1}, {"": {"": []}}, "a" * 500, [0] * 100, {"x": [{}]},
]  # fmt: skip


class Finding(Exception):
    """A broken promise, with what broke it."""


def verifiers(names: list[str]) -> list[Verifier]:
    found = [each for each in default_registry() if isinstance(each, Verifier) and each.info.lane != "sandbox"]
    return [each for each in found if not names or each.info.name in names]


def mutated_text(text: str, rng: random.Random, others: list[str]) -> str:
    """One to four edits: cut, doubled, swapped, spliced with another response or with a word of the dictionary."""
    for _ in range(rng.randrange(1, 5)):
        a, b = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        b = min(b, a + rng.choice((1, 3, 20, 200)))
        match rng.randrange(8):
            case 0:
                text = text[:a] + text[b:]
            case 1:
                text = text[:b] + text[a:b] * rng.choice((1, 2, 30)) + text[b:]
            case 2:
                text = text[:a] + text[a:b][::-1] + text[b:]
            case 3:
                other = rng.choice(others)
                text = text[:a] + other[rng.randrange(len(other) + 1) :] + text[a:]
            case 4:
                text = (
                    text[:a]
                    + chr(rng.choice((rng.randrange(128), rng.randrange(0x3000), rng.randrange(0x10FFFF))))
                    + text[a:]
                )
            case 5:
                text = (
                    text[:a]
                    + str(rng.choice((rng.randrange(-9, 99), rng.random() * 1e6, rng.randrange(10**18))))
                    + text[b:]
                )
            case _:
                text = text[:a] + rng.choice(DICTIONARY) * rng.choice((1, 1, 1, 2, 25)) + text[a:]
    return text[:LONGEST]


def mutated_json(value: Any, rng: random.Random, others: list[str]) -> Any:
    """The value with one place changed: replaced, dropped, repeated or edited."""
    if isinstance(value, Mapping) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        changed = dict(value)
        if rng.random() < 0.1:
            changed[mutated_text(str(key), rng, others)] = changed.pop(key)
        elif rng.random() < 0.1:
            del changed[key]
        else:
            changed[key] = mutated_json(value[key], rng, others)
        return changed
    if isinstance(value, list | tuple) and value and rng.random() < 0.9:
        items = list(value)
        at = rng.randrange(len(items))
        match rng.randrange(6):
            case 0:
                del items[at]
            case 1:
                items.insert(at, items[at])
            case 2:
                items[at], items[-1] = items[-1], items[at]
            case _:
                items[at] = mutated_json(items[at], rng, others)
        return items
    if isinstance(value, str) and rng.random() < 0.8:
        return mutated_text(value, rng, others)
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.7:
        return rng.choice((-value, value + 1, value * 1000, value / 3, 0, float(value), str(value)))
    return rng.choice(VALUES)


def group_of(example: Example, rng: random.Random, others: list[str]) -> Group:
    group = example.as_group()
    how = rng.random()
    responses, reference = group.responses, group.reference
    if how < 0.75:
        responses = tuple(replace(each, text=mutated_text(each.text, rng, others)) for each in group.responses)
    if how > 0.6:
        changed = mutated_json(reference, rng, others)
        reference = changed if isinstance(changed, Mapping) else {"answer": changed}
    return replace(group, responses=responses, reference=reference)


def bound_examples(verifier: Verifier) -> list[tuple[Example, BoundVerifier]]:
    return [(example, verifier.bind(example.params)) for example in verifier.examples]


def check(bound: BoundVerifier, group: Group) -> int:
    """Scores the group; the number of executions. Raises ``Finding``."""
    indices, executed = list(range(len(group.responses))), 1
    begun = time.process_time()
    fast = bound.try_fast(group, indices)
    full = None
    if fast is None or bound.info.name not in FAST_ONLY:
        full = bound.score(group, indices)
        executed += fast is not None
    took = time.process_time() - begun
    for index in indices:
        rows = [column.row(index) for column in (fast, full) if column is not None]
        for score in rows:
            if problem := problem_of(bound, score):
                raise Finding(problem)
        if len(rows) == 2 and rows[0].status is not Status.SKIPPED and not same(*rows):
            raise Finding(f"fast says {rows[0].value} {rows[0].status}, the function {rows[1].value} {rows[1].status}")
    if took > SLOW_S:
        raise Finding(f"took {took:.1f} s of processor time")
    return executed


def same(one: Score, two: Score) -> bool:
    return (one.value, one.status) == (two.value, two.status)


def problem_of(bound: BoundVerifier, score: Score) -> str:
    low, high = bound.info.range
    if score.status is Status.INTERNAL_ERROR:
        return f"internal_error: {score.details.get('reason')}"
    if score.value is not None and not low - 1e-9 <= score.value <= high + 1e-9:
        return f"{score.value} is outside [{low}, {high}]"
    if score.value is None and score.status is Status.OK:
        return "ok without a value"
    try:
        json.dumps(dict(score.details), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        return f"details are not JSON: {error}"
    return ""


def fuzz(executions: int, seed: int, names: list[str]) -> tuple[int, Counter[str], list[str]]:
    """Executions made, statuses of verifiers, and the findings, at most one per verifier and message."""
    rng = random.Random(seed)
    cases = {verifier.info.name: bound_examples(verifier) for verifier in verifiers(names)}
    others = [
        response.text for each in cases.values() for example, _ in each for response in example.as_group().responses
    ]
    done, found = 0, dict[tuple[str, str], str]()
    counts: Counter[str] = Counter()
    for name in endless(list(cases)):
        if done >= executions:
            break
        example, bound = rng.choice(cases[name])
        group = group_of(example, rng, others)
        try:
            made = check(bound, group)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            shown = [each.text for each in group.responses]
            found.setdefault(
                (name, message[:60]), f"{name}: {message}\n  {shown!r}\n  {group.reference!r}\n  {example.params!r}"
            )
            made = 1
        done += made
        counts[name] += made
    return done, counts, list(found.values())


def endless(names: list[str]) -> Iterator[str]:
    while True:
        yield from names


def main(arguments: list[str]) -> int:
    executions = int(arguments[0]) if arguments else 1_000_000
    seed = int(arguments[1]) if arguments[1:] else 0
    begun = time.monotonic()
    done, counts, findings = fuzz(executions, seed, arguments[2:])
    print(f"{done:,} executions over {len(counts)} verifiers, seed {seed}, {time.monotonic() - begun:.0f} s")
    print("\n".join(findings) or "no finding")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
