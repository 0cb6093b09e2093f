"""How well a description covers the reference context: 0, 1, 2, 4 or 5, as n / 5 (HumanOmniV2)."""

from rewardhub.judges.prompt import Block, question_of
from rewardhub.judges.rubric import Rubric, text_of
from rewardhub.judges.verdict import level
from rewardhub.types import Group


def _shared(group: Group) -> tuple[Block, ...]:
    return question_of(group), Block("REFERENCE CONTEXT", text_of(group, "context"))


RUBRIC = Rubric(
    name="context_coverage",
    file=__file__,
    summary="Coverage of reference.context as 0, 1, 2, 4 or 5, divided by 5.",
    form=lambda _: level(0, 1, 2, 4, 5),
    value=lambda verdict, _: verdict / 5,
    shared=_shared,
)
