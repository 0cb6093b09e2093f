"""Whether the final answer means the same as the reference answer: 1 or 0."""

from rewardhub.judges.rubric import Rubric, question_and_answer
from rewardhub.judges.verdict import whole

RUBRIC = Rubric(
    name="equivalence",
    file=__file__,
    summary="1 where the final answer is equivalent to reference.answer, else 0.",
    form=lambda _: whole(0, 1),
    shared=question_and_answer,
)
