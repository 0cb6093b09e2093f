"""``reflection``: two answers, before and after the response reflects on the first."""

from collections.abc import Callable

from rewardhub.errors import NoAnswer, ReferenceUnparseable, ScoringError
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.math_answer import math
from rewardhub.verifiers.mcq import mcq

Grade = Callable[..., Score | None]

_LONGEST = 20_000
_MATH = dict(math.bind({}).params)
_TABLE = {"kept": 0.75, "mended": 1.0, "spoiled": -0.25, "failed": 0.0}


def _twice(first: str, second: str) -> str:
    return (
        f"<think>t</think><answer>{first}</answer><reflection>r</reflection><think>t</think><answer>{second}</answer>"
    )


_FOUR = {"answer": "4"}
_CAT = {"answer": "B", "options": ["dog", "cat"]}
_EXAMPLES = (
    Example(_twice("4", "4.0"), _FOUR, 0.75),
    Example(_twice("5", "5"), _FOUR, 0.0),
    Example(_twice("4", "5"), _FOUR, -0.25),
    Example(_twice("5", "4"), _FOUR, 1.0),
    Example(_twice("A", "B"), _CAT, 1.0),
    Example(_twice("B", "A"), _CAT, -0.25),
    Example(_twice("", "4"), _FOUR, 1.0),
    Example("<answer>4</answer>", _FOUR, 0.0),
    Example(_twice("4", "4") + "<answer>4</answer>", _FOUR, 0.0),
    Example("four", _FOUR, None, status=Status.NO_ANSWER),
)


def _fast(response: Response, reference: Json) -> Score | None:
    return _score(response, reference, math.fast)


@verifier(
    "reflection",
    range=(-0.25, 1.0),
    lane="pool",
    fast=_fast,
    time_limit_s=4.0,
    examples=_EXAMPLES,
    libraries=math.libraries,
    sources=(
        *math.sources,
        "rewardhub.verifiers.math_answer",
        "rewardhub.verifiers.mcq",
        "rewardhub.verifiers.options",
    ),
)
def reflection(response: Response, reference: Json) -> Score | None:
    """The value of what reflecting did to the answer: kept right, mended, spoiled, or wrong twice.

    The response holds two ``<answer>`` elements; another number of them is 0.0, none is no answer. Each is
    graded against the reference as ``mcq`` does where there are ``options``, else as ``math`` does. The values are
    those that SRPO (SUSTechBruce/SRPO_MLLMs) states: right and right 0.75, wrong and right 1.0, right and wrong
    -0.25, wrong and wrong 0. Details: ``first`` and ``second``, whether they are right. The layout is
    the ``tags`` verifier's to check, the length ``length_reflection``'s.
    """
    return _score(response, reference, math.function)


def _score(response: Response, reference: Json, grade: Grade | None) -> Score | None:
    answers = _answers(response.text)
    graded = [_graded(answer, reference, grade) for answer in (answers or [""])[:2]]
    if not answers:
        raise NoAnswer("no answer tag in the response")
    if len(answers) != 2:
        return Score(0.0, details={"reason": f"{len(answers)} answers, expected 2"})
    first, second = graded
    if first is None or second is None:
        return None
    outcome = ("kept" if second else "spoiled") if first else ("mended" if second else "failed")
    return Score(_TABLE[outcome], details={"outcome": outcome, "first": first, "second": second})


def _answers(text: str) -> list[str]:
    """What stands in the closed answer tags, at most three."""
    found: list[str] = []
    for piece in text.split("<answer>", 4)[1:]:
        inner, closed, _ = piece.partition("</answer>")
        if closed:
            found.append(inner)
    return found[:3]


def _graded(answer: str, reference: Json, grade: Grade | None) -> bool | None:
    """Whether the answer is right; None where this tier cannot tell."""
    stated = Response(f"<answer>{answer[:_LONGEST]}</answer>")
    try:
        score = (
            mcq(stated, reference) if "options" in reference else grade(stated, reference, **_MATH) if grade else None
        )
    except ReferenceUnparseable:
        raise
    except ScoringError:
        return False
    return None if score is None else score.value == 1.0
