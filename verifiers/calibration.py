"""``log_score``, ``brier`` and ``ece``: whether a stated confidence deserves belief."""

import math
from typing import Annotated, Literal

from pydantic import Field

from rewardhub.errors import NoAnswer, OverLimit
from rewardhub.raised import failure
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.answerlib.confidence import (
    Levels,
    Scale,
    Source,
    Truth,
    calibration,
    confidences,
    is_right,
    verdicts,
)

FLOOR = 1e-10
LOWEST = math.log(FLOOR) - 1
MAX_CHARS = 100_000

_SOURCES = tuple(
    f"rewardhub.verifiers.{name}"
    for name in ("tags", "mcq", "options", "answerlib.confidence", "answerlib.labels", "answerlib.numerals",
                 "answerlib.scope")
)  # fmt: skip
_B = {"answer": "B"}
_STEPS = "".join(f"<confidence>{value}</confidence>" for value in (0.9, 0.8, 0.6, 0.55))
_RIGHT = Response(signals={"correct": 1.0, "confidence": 0.8})


@verifier(
    "log_score",
    range=(LOWEST, 0.0),
    max_chars=MAX_CHARS,
    sources=_SOURCES,
    examples=(
        Example("<answer>B</answer><confidence>0.8</confidence>", _B, math.log(0.8)),
        Example("<answer>C</answer><confidence>0.8</confidence>", _B, math.log(0.2) - 1),
        Example("<answer>C</answer><confidence>1</confidence>", _B, LOWEST),
        Example("<answer>B</answer><confidence>0</confidence>", _B, math.log(FLOOR)),
        Example("The answer is B with confidence 80", _B, math.log(0.8), {"scale": "percent"}),
        Example("The answer is (b), confidence: 80%", _B, math.log(0.8), {"truth": "mcq"}),
        Example(_RIGHT, {}, math.log(0.8), {"confidence": "signal", "truth": "signal"}),
        Example("B <confidence>0.8</confidence>", {"correct": True}, math.log(0.8), {"truth": "correct"}),
        Example("<answer>B</answer>", _B, None, status=Status.NO_ANSWER),
        Example("<answer>B</answer><confidence>8</confidence>", _B, None, status=Status.NO_ANSWER),
        Example("<answer>B</answer><confidence>sure</confidence>", _B, None, status=Status.NO_ANSWER),
        Example("<answer>B</answer><confidence>1</confidence>", {"answer": ""}, None,
                status=Status.REFERENCE_UNPARSEABLE),
    ),
)  # fmt: skip
def log_score(
    response: Response, reference: Json, *,
    confidence: Source = "text", scale: Scale = "unit", truth: Truth = "label",
) -> Score:  # fmt: skip
    """The log score of a stated confidence p, in [-24.03, 0]: ln p of a right answer, ln(1 - p) - 1 of a wrong one.

    Prompt4Trust; p or 1 - p is raised to 1e-10 at least. A confidence that is missing or unreadable is
    ``no_answer``, and a recipe MUST state a value below the range for it (Prompt4Trust: ln 1e-12 = -27.631):
    0, the usual value of no answer, is the best score there is. ``truth`` says what decides whether the
    answer is right: the ``label`` or the option (``mcq``) of ``reference.answer``, ``reference.correct``, or the
    trainer's signal ``correct``. Details: ``confidence``, ``right``.
    """
    right = is_right(response, reference, truth)
    stated = confidences(response, confidence, scale, ())[-1]
    believed = max(FLOOR, stated if right else 1 - stated)
    value = math.log(believed) if right else math.log(believed) - 1
    return Score(value, confidence=stated, details={"confidence": stated, "right": right})


@verifier(
    "brier",
    max_chars=MAX_CHARS,
    sources=_SOURCES,
    examples=(
        Example("<answer>B</answer><confidence>0.9</confidence>", _B, 0.99),
        Example("<answer>C</answer><confidence>0.6</confidence>", _B, 0.64),
        Example("<answer>C</answer><confidence>0.6</confidence>", _B, 0.36, {"form": "loss"}),
        Example(_STEPS, {"correct": [1, 1, 0, 1]}, 1 - 0.153125, {"truth": "correct"}),
        Example("<confidence>5</confidence>", {"correct": True}, 0.99,
                {"truth": "correct", "levels": [0.1, 0.3, 0.5, 0.7, 0.9]}),
        Example("<confidence>0.9</confidence>", {"correct": [1, 0]}, None, {"truth": "correct"},
                status=Status.NO_ANSWER),
        Example("<answer>B</answer>", _B, None, status=Status.NO_ANSWER),
    ),
)  # fmt: skip
def brier(
    response: Response, reference: Json, *,
    form: Literal["reward", "loss"] = "reward",
    confidence: Source = "text", scale: Scale = "unit", truth: Truth = "label", levels: Levels = (),
) -> Score:  # fmt: skip
    """1 - (p - y)² (``reward``) or (p - y)² (``loss``) of a stated confidence p, in [0, 1]; y is 1 if right.

    With ``truth="correct"`` and a list in ``reference.correct`` each confidence tag is one step: the value is
    the mean, ``steps`` of the score has one value each (MMBoundary), and another number of tags is
    ``no_answer``. ``levels`` maps stated levels 1, 2, … to probabilities. Otherwise as ``log_score``.
    """
    if truth == "correct":
        verdicts(reference, len(reference["correct"]) if isinstance(reference.get("correct"), list | tuple) else 1)
        stated = confidences(response, confidence, scale, levels)
        rights = verdicts(reference, len(stated))
    else:
        rights = [is_right(response, reference, truth)]
        stated = confidences(response, confidence, scale, levels)[-1:]
    losses = [(value - right) ** 2 for value, right in zip(stated, rights, strict=True)]
    values = [loss if form == "loss" else 1 - loss for loss in losses]
    steps = tuple(values) if len(values) > 1 else ()
    return Score(sum(values) / len(values), steps=steps, details={"confidence": stated, "right": rights})


@verifier(
    "ece",
    scope="group",
    max_chars=MAX_CHARS,
    sources=_SOURCES,
    examples=(
        Example("<answer>B</answer><confidence>0.9</confidence>", _B, 0.1),
        Example("<answer>C</answer><confidence>0.6</confidence>", _B, 0.6),
        Example("<answer>C</answer><confidence>0</confidence>", _B, 0.0),
        Example("<answer>B</answer>", _B, None, status=Status.NO_ANSWER),
    ),
)
def ece(
    responses: list[Response], reference: Json, *,
    bins: Annotated[int, Field(ge=1, le=1_000)] = 10,
    confidence: Source = "text", scale: Scale = "unit", truth: Truth = "label", levels: Levels = (),
) -> list[Score]:  # fmt: skip
    """The expected calibration error of a group's stated confidences, the same in [0, 1] for each response.

    Bins of equal width, closed on the right, 0 in the first. A response without a readable confidence is
    ``no_answer`` and left out; where all are, no response has a value. A loss: 0 is perfect. Details:
    ``brier`` and ``accuracy`` of the group, ``counted``. The parameters are those of ``log_score`` and ``brier``.
    """
    stated: list[float] = []
    rights: list[bool] = []
    failures: dict[int, Score] = {}
    for row, response in enumerate(responses):
        try:
            _within(response)
            right = is_right(response, reference, truth)
            stated.append(confidences(response, confidence, scale, levels)[-1])
            rights.append(right)
        except (NoAnswer, OverLimit) as error:
            failures[row] = failure(error)
    if not stated:
        return list(failures.values())
    error_, loss = calibration(stated, rights, bins)
    details = {"brier": loss, "accuracy": sum(rights) / len(rights), "counted": len(stated)}
    return [failures.get(row, Score(error_, details=details)) for row in range(len(responses))]


def _within(response: Response) -> None:
    if len(response.text) > MAX_CHARS:
        raise OverLimit(f"over {MAX_CHARS} characters")
