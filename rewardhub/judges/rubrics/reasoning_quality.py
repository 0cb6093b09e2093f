"""Quality of a chain of thought apart from its answer: four criteria, their mean in [0, 1] (MLLM-CTBench)."""

from rewardhub.judges.rubric import Rubric, mean_over, named, question_and_answer
from rewardhub.judges.verdict import wholes

CRITERIA = ("grounding", "validity", "completeness", "economy")

RUBRIC = Rubric(
    name="reasoning_quality",
    file=__file__,
    summary="Grounding, validity, completeness and economy of the reasoning from 0 to 5: the mean over 5.",
    form=lambda _: wholes(len(CRITERIA), 0, 5),
    value=mean_over(5),
    shared=question_and_answer,
    explain=named(CRITERIA),
)
