"""Quality of the writing from 1 to 10, as (n - 1) / 9 (Light-IF's quality judge)."""

from rewardhub.judges.rubric import Rubric
from rewardhub.judges.verdict import whole

RUBRIC = Rubric(
    name="fluency",
    file=__file__,
    summary="Quality of the writing from 1 to 10, as (n - 1) / 9.",
    form=lambda _: whole(1, 10),
    value=lambda verdict, _: (verdict - 1) / 9,
)
