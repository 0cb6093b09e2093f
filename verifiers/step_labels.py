"""``step_labels``: a process judge's verdict on each step of a solution, against people's."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rewardhub.errors import ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.geometry.reading import Wrong, answer_text, find_json, missing

Measure = Literal["accuracy", "f1", "error_type", "first_error"]
Label = tuple[bool, str]

_MOST = 1_000

_GOLD = {"steps": [True, True, {"correct": False, "error_type": "numerical calculation"},
                   {"correct": False, "error_type": "reasoning"}]}  # fmt: skip
_SAID = (
    '[true, {"correct": false, "error_type": "knowledge"}, {"correct": false, "error_type": "Numerical calculation"}, '
    '{"correct": false, "error_type": "knowledge"}]'
)
_SOUND = {"steps": [True, True]}


@verifier(
    "step_labels",
    sources=("rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.tags"),
    examples=(
        Example(_SAID, _GOLD, 0.75),
        Example(_SAID, _GOLD, 0.8, {"measure": "f1"}),
        Example(_SAID, _GOLD, 0.5, {"measure": "error_type"}),
        Example(_SAID, _GOLD, 0.0, {"measure": "first_error"}),
        Example("<answer>[true, true, false, true]</answer>", _GOLD, 1.0, {"measure": "first_error"}),
        Example("<answer>[true, true, false, true]</answer>", _GOLD, 2 / 3, {"measure": "f1"}),
        Example("[1, 1]", _SOUND, 1.0, {"measure": "first_error"}),
        Example("[true, true]", _SOUND, 1.0, {"measure": "f1"}),
        Example("[true, true]", _SOUND, 1.0, {"measure": "error_type"}),
        Example("[true, true, false]", _GOLD, 0.0),
        Example("<answer>all right</answer>", _GOLD, 0.0),
        Example("all right", _GOLD, None, status=Status.NO_ANSWER),
        Example("[true]", {"steps": []}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def step_labels(response: Response, reference: Json, *, measure: Measure = "accuracy") -> Score:
    """How well a judge's labels of a solution's steps agree with ``reference.steps``, in [0, 1] (ProJudge).

    Both are lists with one label per step: true or false (1 or 0), or ``{"correct", "error_type"}``; the
    response's is the last JSON list in its answer tag, else in its text, and another number of labels is 0.0.

    ``accuracy``: the share of steps labelled alike. ``f1``: of the *incorrect* class, 1.0 where neither side
    has any. ``error_type``: the share of truly wrong steps whose error type is the same, 1.0 where there
    are none. ``first_error``: 1.0 where both name the same first wrong step, or none.
    """
    gold = _labels(need(reference, "steps", (list, tuple)))
    if not gold:
        raise ReferenceUnparseable(f"reference.steps must be 1 to {_MOST} labels of steps", field="reference.steps")
    text, stated = answer_text(response)
    found = find_json(text)
    try:
        if not isinstance(found, list):
            raise missing("list of labels", stated)
        said = _labels(found)
        if len(said) != len(gold):
            raise Wrong(f"{len(said)} labels for {len(gold)} steps" if said else "not a list of labels")
    except Wrong as wrong:
        return wrong.score()
    return Score(_MEASURES[measure](gold, said))


def _labels(items: Sequence[Any]) -> list[Label]:
    """The labels, or nothing where one of them is none."""
    labels = [_label(item) for item in items[: _MOST + 1]]
    return [label for label in labels if label] if all(labels) and len(labels) <= _MOST else []


def _label(item: Any) -> Label | None:
    kind = item.get("error_type") or "" if isinstance(item, Mapping) else ""
    correct = item.get("correct") if isinstance(item, Mapping) else item
    if correct not in (0, 1) or not isinstance(correct, int | float) or not isinstance(kind, str):
        return None
    return bool(correct), " ".join(kind.casefold().split())


def _accuracy(gold: Sequence[Label], said: Sequence[Label]) -> float:
    return sum(a[0] == b[0] for a, b in zip(gold, said, strict=True)) / len(gold)


def _f1(gold: Sequence[Label], said: Sequence[Label]) -> float:
    wrong, accused = sum(not a for a, _ in gold), sum(not b for b, _ in said)
    both = sum(not a[0] and not b[0] for a, b in zip(gold, said, strict=True))
    return 2 * both / (wrong + accused) if wrong + accused else 1.0


def _error_type(gold: Sequence[Label], said: Sequence[Label]) -> float:
    pairs = [(a, b) for a, b in zip(gold, said, strict=True) if not a[0]]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else 1.0


def _first_error(gold: Sequence[Label], said: Sequence[Label]) -> float:
    first = [next((row for row, label in enumerate(labels) if not label[0]), None) for labels in (gold, said)]
    return float(first[0] == first[1])


_MEASURES = {"accuracy": _accuracy, "f1": _f1, "error_type": _error_type, "first_error": _first_error}
