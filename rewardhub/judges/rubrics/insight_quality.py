"""Four qualities of an added insight, their mean in [0, 1] (TimeMaster's extension reward)."""

from rewardhub.judges.rubric import Rubric, mean, named
from rewardhub.judges.verdict import numbers

QUALITIES = ("specificity", "appropriateness", "relevance", "depth")

RUBRIC = Rubric(
    name="insight_quality",
    file=__file__,
    summary="The mean of specificity, appropriateness, relevance and depth of an insight, in [0, 1].",
    form=lambda _: numbers(len(QUALITIES), 0, 1),
    value=mean,
    explain=named(QUALITIES),
)
