"""A ranking of all responses of a group at once."""

from rewardhub.judges.rubric import Rubric
from rewardhub.judges.verdict import ranking

RUBRIC = Rubric(
    name="listwise",
    file=__file__,
    summary="The place in a ranking of the group: 1 for the best, 0 for the last, evenly between.",
    scope="group",
    form=lambda case: ranking(len(case.group.responses)),
)
