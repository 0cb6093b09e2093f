"""Each step of a solution right or wrong: the share of right steps, with one value per step (ProJudge)."""

from collections.abc import Sequence

from rewardhub.judges.prompt import response_text
from rewardhub.judges.rubric import MAX_ITEMS, Case, Rubric, numbered, question_and_answer, share
from rewardhub.judges.verdict import flags
from rewardhub.types import Json


def steps_of(case: Case) -> list[str]:
    """The response's declared steps, else its paragraphs; at most 64, the last one holds the rest."""
    text = response_text(case.response)
    if case.response.steps:
        steps = [text[start:end].strip() for start, end in case.response.steps]
    else:
        steps = [part.strip() for part in text.split("\n\n") if part.strip()]
    return [*steps[: MAX_ITEMS - 1], *(["\n\n".join(steps[MAX_ITEMS - 1 :])] if len(steps) >= MAX_ITEMS else [])]


def _first_error(verdict: Sequence[int], _: Case) -> Json:
    return {"first_error": verdict.index(0) if 0 in verdict else None}


RUBRIC = Rubric(
    name="step_check",
    file=__file__,
    summary="The share of right steps of a solution; the score holds one value per step.",
    form=lambda case: flags(len(steps_of(case))),
    value=share,
    shared=question_and_answer,
    graded=lambda case: (numbered("STEPS", steps_of(case)),),
    explain=_first_error,
    refuse=lambda case: "" if steps_of(case) else "no steps",
    steps=lambda verdict, _: tuple(map(float, verdict)),
)
