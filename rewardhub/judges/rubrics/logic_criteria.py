"""Five yes-or-no criteria of a line of reasoning: their share (HumanOmniV2's logic reward)."""

from rewardhub.judges.prompt import Block, question_of
from rewardhub.judges.rubric import Rubric, named, share, text_of
from rewardhub.judges.verdict import flags
from rewardhub.types import Group

CRITERIA = ("clue_use", "reflection", "logic", "problem_analysis", "overall_consistency")


def _shared(group: Group) -> tuple[Block, ...]:
    return question_of(group), Block("CONTEXT", text_of(group, "context"))


RUBRIC = Rubric(
    name="logic_criteria",
    file=__file__,
    summary="The share of five criteria of sound reasoning over reference.context.",
    form=lambda _: flags(len(CRITERIA)),
    value=share,
    shared=_shared,
    explain=named(CRITERIA),
)
