"""``checklist``: the share of sub-questions that a response answers right."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from rewardhub.errors import NoAnswer, ReferenceUnparseable, ScoringError
from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.math_answer import math
from rewardhub.verifiers.mcq import mcq

Grade = Callable[..., Score | None]
Aggregate = Literal["mean", "all"]

_MOST = 64
_LONGEST = 2_000
_MATH = dict(math.bind({}).params)

_FOUR = {"items": [{"answer": "3"}, {"answer": "red"}, {"answer": "B", "options": ["dog", "cat"]}, {"answer": "1/2"}]}
_THREE_RIGHT = "<a1>3</a1><a2>Red</a2><a3>cat</a3><a4>0.7</a4>"
_EXAMPLES = (
    Example(_THREE_RIGHT, _FOUR, 0.75),
    Example(_THREE_RIGHT, _FOUR, 0.0, {"aggregate": "all"}),
    Example("<a1>3</a1><a2>red</a2><a3>B</a3><a4>0.5</a4>", _FOUR, 1.0),
    Example("<a1>3</a1>", _FOUR, 0.25),
    Example("<a1>3</a1><a2></a2>", _FOUR, 0.25),
    Example("<a1>3</a1><a1>4</a1>", _FOUR, 0.0),
    Example("<a1>3", _FOUR, 0.0),
    Example("<a9>3</a9> <a1>3</a1>", _FOUR, 0.25),
    Example("three, red, cat", _FOUR, None, status=Status.NO_ANSWER),
    Example("<a1>3</a1>", {"items": [{"answer": ""}]}, None, status=Status.REFERENCE_UNPARSEABLE),
)


def _fast(response: Response, reference: Json, **parameters: Any) -> Score | None:
    return _score(response, reference, math.fast, **parameters)


@verifier(
    "checklist",
    lane="pool",
    fast=_fast,
    time_limit_s=5.0,
    examples=_EXAMPLES,
    libraries=math.libraries,
    sources=(
        *math.sources,
        "rewardhub.verifiers.math_answer",
        "rewardhub.verifiers.mcq",
        "rewardhub.verifiers.options",
    ),
)
def checklist(response: Response, reference: Json, *, aggregate: Aggregate = "mean") -> Score | None:
    """The share of the asked sub-questions whose answer ``<a1>…</a1>``, ``<a2>…</a2>`` … is right.

    Reference: ``items``, 1 to 64 of ``{"answer"}`` (graded as ``math`` does, plain words as text) or
    ``{"answer", "options"}`` (graded as ``mcq`` does). The sum is divided by the number of questions
    *asked*: a question that is not answered, or answered twice, is wrong. ``aggregate="all"`` is 1.0 only
    where all are right. PEARL (MiliLab/PEARL). Details: ``grades``, per question.
    """
    return _score(response, reference, math.function, aggregate=aggregate)


def _score(response: Response, reference: Json, grade: Grade | None, aggregate: Aggregate = "mean") -> Score | None:
    items = _items(reference)
    answers = [_answer(response.text, number + 1) for number in range(len(items))]
    if all(answer is None for answer in answers) and "<a1>" not in response.text:
        raise NoAnswer("no sub-answer tag in the response")
    grades: list[float] = []
    for number, (item, answer) in enumerate(zip(items, answers, strict=True)):
        found = _graded(item, answer, grade, f"reference.items[{number}]")
        if found is None:
            return None
        grades.append(found)
    value = sum(grades) / len(grades) if aggregate == "mean" else float(all(grades))
    return Score(value, details={"grades": grades})


def _items(reference: Json) -> list[Json]:
    items = need(reference, "items", (list, tuple))
    if not 0 < len(items) <= _MOST or not all(isinstance(item, Mapping) for item in items):
        raise ReferenceUnparseable(f"reference.items must be 1 to {_MOST} objects", field="reference.items")
    return list(items)


def _answer(text: str, number: int) -> str | None:
    """What stands in the only ``<aN>`` element, or None."""
    opening, closing = f"<a{number}>", f"</a{number}>"
    begin = text.find(opening)
    end = text.find(closing, begin)
    if begin < 0 or end < 0 or text.find(opening, begin + 1) >= 0:
        return None
    return text[begin + len(opening) : end]


def _graded(item: Json, answer: str | None, grade: Grade | None, field: str) -> float | None:
    """1.0 or 0.0; None where this tier cannot tell."""
    given = answer or ""
    stated = Response(f"<answer>{given[:_LONGEST]}</answer>")
    try:
        score = mcq(stated, item) if "options" in item else grade(stated, item, **_MATH) if grade else None
    except ReferenceUnparseable as error:
        raise ReferenceUnparseable(f"{field}: {error.message}", field=field) from None
    except ScoringError:
        return 0.0
    return None if score is None else float(score.value == 1.0 and 0 < len(given) <= _LONGEST)
