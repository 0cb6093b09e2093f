"""Informativeness and hallucination from 0 to 6; below 3 is a hallucination (MMHal-Bench of LLaVA-RLHF)."""

from rewardhub.judges.prompt import Block, question_of
from rewardhub.judges.rubric import Rubric, text_of
from rewardhub.judges.verdict import whole
from rewardhub.types import Group


def _shared(group: Group) -> tuple[Block, ...]:
    return (
        question_of(group),
        Block("IMAGE FACTS", text_of(group, "facts")),
        Block("REFERENCE ANSWER", text_of(group, "answer")),
    )


RUBRIC = Rubric(
    name="hallucination",
    file=__file__,
    summary="0 to 6 as it is: 3 and more is free of hallucination, more is more informative.",
    form=lambda _: whole(0, 6),
    shared=_shared,
    explain=lambda verdict, _: {"hallucinated": verdict < 3},
    range=(0.0, 6.0),
)
