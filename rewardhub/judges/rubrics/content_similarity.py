"""How much of the reference's content a free-form answer has: 0 to 5, as n / 5 (HumanOmniV2)."""

from rewardhub.judges.rubric import Rubric, question_and_answer
from rewardhub.judges.verdict import whole

RUBRIC = Rubric(
    name="content_similarity",
    file=__file__,
    summary="Agreement in content with reference.answer from 0 to 5, as n / 5.",
    form=lambda _: whole(0, 5),
    value=lambda verdict, _: verdict / 5,
    shared=question_and_answer,
)
