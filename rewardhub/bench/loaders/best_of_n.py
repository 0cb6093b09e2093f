"""Best of n: several responses to a problem, each known to be right or wrong.

A line is ``{"question", "response": [text], "score": [bool], "pred": [text], "pred_score": [number]}``,
the form of QwenLM/Qwen2.5-Math ``evaluation/data/eval_rm_maj_example``; ``pred`` (extracted answers)
and ``pred_score`` (a published reward model's scores) are optional and give further controls.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rewardhub.bench.items import Comparison, Item
from rewardhub.bench.rows import Row, data_files, read_rows


def load(data: Path) -> Iterator[Item]:
    """One item per problem, with a comparison for every right and wrong response."""
    for path in data_files(data):
        for row in read_rows(path):
            yield _item(row)


def _item(row: Row) -> Item:
    responses = row.texts("response")
    correct = row.values("score", bool, len(responses))
    pairs = [(right, wrong) for right in _where(correct, True) for wrong in _where(correct, False)]
    known = {"oracle": tuple(map(float, correct))}
    if row.get("pred", list, []):
        known["majority"] = _votes(row.texts("pred", len(responses)))
    if row.get("pred_score", list, []):
        known["published"] = tuple(map(float, row.values("pred_score", (int, float), len(responses))))
    return Item(
        id=row.name("idx", str(row.line)),
        prompt=row.text("question"),
        responses=tuple(responses),
        comparisons=tuple(Comparison(right, wrong) for right, wrong in pairs),
        category=row.name("level"),
        cluster=f"{row.path.name}:{row.line}",
        correct=tuple(correct),
        known=known,
    )


def _where(correct: Sequence[bool], wanted: bool) -> list[int]:
    return [index for index, right in enumerate(correct) if right is wanted]


def _votes(answers: Sequence[str]) -> tuple[float, ...]:
    """How many responses give the same answer: the highest vote is the majority's."""
    counts = Counter(answers)
    return tuple(float(counts[answer]) for answer in answers)
