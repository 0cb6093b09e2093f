"""Labelled responses for the comparison of verifiers: recorded tables, public data, and generated right and wrong ones."""

import importlib.util
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

TESTS = Path(__file__).resolve().parents[1] / "verifiers"
FIVE = {"answer": "5"}


class Pair(NamedTuple):
    """A reference, a response, and what it is worth: 1 right, 0 wrong; None where only the peer can say."""

    reference: Any
    response: str
    label: float | None


def data(name: str) -> list[dict[str, Any]]:
    """The rows of a file of ``REWARDHUB_DATA``; none where the folder is not there."""
    path = Path(os.environ.get("REWARDHUB_DATA", "")) / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def rows(name: str, head: int = 1) -> Iterator[list[str]]:
    yield from (line.split("\t") for line in (TESTS / name).read_text().split("\n")[head:] if line)


def math_table() -> list[Pair]:
    """721 pairs of references and answers, as a careful reader labels them."""
    return [Pair({"answer": row[4]}, rf"\boxed{{{row[5]}}}", float(row[1])) for row in rows("math_pairs.tsv")]


def math_formats() -> list[Pair]:
    """371 responses to a problem whose answer is 5: other people's formats; hedges, lists, denials, thoughts."""
    return [Pair(FIVE, json.loads(text), float(label == "right")) for label, text in rows("math_formats.tsv")]


def gsm8k() -> list[Pair]:
    """The solutions of the test split, and the same with the last number raised by one."""
    found = []
    for row in data("gsm8k/test.jsonl"):
        body, _, answer = row["answer"].partition("####")
        raised = int(answer.replace(",", "")) + 1
        found.append(Pair({"answer": answer.strip()}, row["answer"], 1.0))
        found.append(Pair({"answer": answer.strip()}, f"{body}#### {raised}", 0.0))
    return found


def math500() -> list[Pair]:
    """The solutions of MATH-500, and each one's answer against another problem's of a different answer."""
    found = data("math500/test.jsonl")
    right = [Pair({"answer": row["answer"]}, row["solution"], 1.0) for row in found]
    wrong = [
        Pair({"answer": one["answer"]}, two["solution"], 0.0)
        for one, two in zip(found, found[7:] + found[:7], strict=True)
        if one["answer"].split("=")[-1] != two["answer"].split("=")[-1]
    ]
    return right + wrong


def best_of_8() -> list[Pair]:
    """800 sampled responses with their published labels."""
    return [
        Pair({"answer": row["gt"]}, text, float(label))
        for row in data("best_of_8_math/math_cot_100.jsonl")
        for text, label in zip(row["response"], row["score"], strict=True)
    ]


def choices() -> list[Pair]:
    """Each letter in forms that state it, and in forms that state another, several or none."""
    right = [
        "{0}", "({0})", "{0}.", "**{0}**", "<answer>{0}</answer>", "<answer>({0})</answer>", "The answer is {0}.",
        "The answer is ({0}) because it fits.", "Answer: {0}", "\\boxed{{{0}}}", "{0}. {1}", "<answer>{0}. {1}</answer>",
        "<think>{2}? no</think><answer>{0}</answer>", "First {2} looked right. The answer is {0}.", "Therefore, ({0}).",
        "I choose option {0}", "The answer is {0}, not {2}.", "<answer>{1}</answer>",
    ]  # fmt: skip
    wrong = [
        "{2}", "<answer>{2}</answer>", "The answer is {2}.", "A or B or C or D", "<answer>A, B, C, D</answer>", "not {0}",
        "The answer is not {0}.", "{0}{2}", "Banana or Dates", "{0} or {2}", "<answer>{2}</answer> {0} was close",
        "<answer>{0} or {2}</answer>", "<think>{0}</think><answer>{2}</answer>", "Apples are red.", "<answer></answer>",
    ]  # fmt: skip
    texts = ["Asthma", "Bronchitis", "Cough", "Diabetes"]
    found = []
    for index, letter in enumerate("ABCD"):
        other = "ABCD"[(index + 1) % 4]
        reference = {"answer": letter, "options": texts}
        for label, forms in ((1.0, right), (0.0, wrong)):
            found += [Pair(reference, form.format(letter, texts[index], other), label) for form in forms]
    return found


def affirmations() -> list[Pair]:
    right = [
        "Yes",
        "yes.",
        "<answer>Yes</answer>",
        "True, because it is round.",
        "The answer is yes.",
        "Correct!",
        "**Yes**",
    ]
    wrong = [
        "No",
        "yesterday",
        "It is not true.",
        "yes and no",
        "yes or no",
        "<answer>No</answer>",
        "eyes",
        "The answer is no, not yes.",
    ]
    return [Pair({"answer": "yes"}, text, label) for label, texts in ((1.0, right), (0.0, wrong)) for text in texts]


def layouts() -> list[Pair]:
    good = "<think>a</think><answer>4</answer>"
    right = [good, good.replace("><", ">\n\n<"), " " + good + "\n", "<think>\na\n</think>\n<answer>\n4\n</answer>"]
    wrong = [
        good + " bye", good + "<answer>5</answer>", "x" + good, "<answer>4</answer><think>a</think>", "<think>a</think>4", "4", "",
        "<think><think>x</think></think><answer>1</answer>", "<think>a</think> so <answer>4</answer>", good + good, "<think>a<answer>4</answer>",
        "<think>a</think><answer>4</answer> junk <answer>5</answer>", "<think>a</think><answer>4", "< think>a</think><answer>4</answer>",
    ]  # fmt: skip
    return [Pair({}, text, label) for label, texts in ((1.0, right), (0.0, wrong)) for text in texts]


def chart_values() -> list[Pair]:
    rng, found = random.Random(5), []
    for _ in range(150):
        value = rng.choice((rng.randrange(10, 900), round(rng.uniform(1, 90), 1)))
        near, far = round(value * 1.03, 3), round(value * 1.2, 3)
        found += [
            Pair({"answer": value}, form.format(near), 1.0)
            for form in ("{}", "<answer>{}</answer>", "The answer is {}.")
        ]
        found += [Pair({"answer": value}, form.format(far), 0.0) for form in ("{}", "<answer>{}</answer>")]
        found.append(Pair({"answer": value}, f"<answer>{value} or {far}</answer>", 0.0))
    found += [Pair({"answer": year}, str(year + 1), 0.0) for year in range(1990, 2025)]
    return found


def sudokus() -> list[Pair]:
    """Solved 4 by 4 boards; blank ones, foreign digits, changed givens and swapped cells."""
    base, rng, found = [[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]], random.Random(6), []
    for _ in range(50):
        names = rng.sample(range(1, 5), 4)
        board = [[names[cell - 1] for cell in row] for row in base]
        given = [[cell if rng.random() < 0.4 else 0 for cell in row] for row in board]
        given[0][0] = board[0][0]
        swapped = [row[:] for row in board]
        swapped[0][0], swapped[0][1] = swapped[0][1], swapped[0][0]
        other = [[cell % 4 + 1 for cell in row] for row in board]
        reference = {"puzzle": "sudoku", "givens": given}
        found.append(Pair(reference, json.dumps(board), 1.0))
        for wrong in ([[0] * 4] * 4, [[cell + 4 for cell in row] for row in board], swapped, other):
            found.append(Pair(reference, json.dumps(wrong), 0.0))
    return found


def instructions() -> list[Pair]:
    """Twenty followed and twenty violated instructions of each of the 25 types, from the tests' generators."""
    spec = importlib.util.spec_from_file_location("ifeval_types", TESTS / "test_ifeval_types.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rng, found = random.Random(7), []
    for kind, make in sorted(module.CASES.items()):
        for _ in range(20):
            arguments, good, bad = make(rng)
            reference = {"instruction_id_list": [kind], "kwargs": [arguments]}
            found += [Pair(reference, good, 1.0), Pair(reference, bad, 0.0)]
    return found


def sentences() -> list[Pair]:
    words = "the cat sat on a mat while two dogs were running to their house near river stones".split()
    rng = random.Random(8)

    def some() -> str:
        return " ".join(rng.choice(words) for _ in range(rng.randrange(3, 40)))

    return [Pair({"answer": some()}, some(), None) for _ in range(400)]


def box_pairs() -> list[Pair]:
    rng = random.Random(9)

    def some() -> list[int]:
        x, y = rng.randrange(500), rng.randrange(500)
        return [x, y, x + rng.randrange(1, 500), y + rng.randrange(1, 500)]

    return [Pair({"box": some()}, json.dumps(some()), None) for _ in range(2_000)]


def masks() -> list[Pair]:
    rng = random.Random(10)

    def some() -> dict[str, Any]:
        cuts = sorted(rng.sample(range(1, 64 * 48), 40))
        runs = [b - a for a, b in zip([0, *cuts], [*cuts, 64 * 48], strict=True)]
        return {"size": [48, 64], "counts": runs}

    return [Pair({"mask": some()}, json.dumps(some()), None) for _ in range(300)]


Maker = Callable[[], list[Pair]]
