"""Five attributes from 0 to 4, as their mean over 4 (the HelpSteer scale)."""

from rewardhub.judges.rubric import Rubric, mean_over, named
from rewardhub.judges.verdict import wholes

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")

RUBRIC = Rubric(
    name="attributes",
    file=__file__,
    summary="Helpfulness, correctness, coherence, complexity and verbosity from 0 to 4: the mean over 4.",
    form=lambda _: wholes(len(ATTRIBUTES), 0, 4),
    value=mean_over(4),
    explain=named(ATTRIBUTES),
)
