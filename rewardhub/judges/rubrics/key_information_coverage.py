"""Which of the listed visual facts the response states: their share (Perception-R1's visual reward)."""

from collections.abc import Sequence

from rewardhub.judges.prompt import Block, question_of
from rewardhub.judges.rubric import Case, Rubric, items_of, numbered, share
from rewardhub.judges.verdict import flags
from rewardhub.types import Group, Json


def _shared(group: Group) -> tuple[Block, ...]:
    return question_of(group), numbered("KEY INFORMATION", items_of(group, "key_facts"))


def _missing(verdict: Sequence[int], case: Case) -> Json:
    facts = items_of(case.group, "key_facts")
    return {"missing": [fact for fact, stated in zip(facts, verdict, strict=True) if not stated]}


RUBRIC = Rubric(
    name="key_information_coverage",
    file=__file__,
    summary="The share of reference.key_facts that the response states.",
    form=lambda case: flags(len(items_of(case.group, "key_facts"))),
    value=share,
    shared=_shared,
    explain=_missing,
)
