"""Which of two responses is better, asked in both orders, with ties."""

from rewardhub.judges.rubric import Rubric
from rewardhub.judges.verdict import choice

RUBRIC = Rubric(
    name="pairwise",
    file=__file__,
    summary="The share of points against the other responses: both orders, ties count half.",
    scope="pair",
    form=lambda _: choice("A", "B", "TIE"),
    value=lambda verdict, _: {"A": 1.0, "TIE": 0.5, "B": 0.0}[verdict],
)
