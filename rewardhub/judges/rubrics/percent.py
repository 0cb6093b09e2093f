"""Overall quality from 0 to 100, as it is; Curr-ReFT keeps what is above 85."""

from rewardhub.judges.rubric import Rubric, question_and_answer
from rewardhub.judges.verdict import whole

RUBRIC = Rubric(
    name="percent",
    file=__file__,
    summary="Quality against reference.answer from 0 to 100 as it is.",
    form=lambda _: whole(0, 100),
    shared=question_and_answer,
    range=(0.0, 100.0),
)
