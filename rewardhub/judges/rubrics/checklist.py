"""Weighted criteria of a reference: the weight of those that are met over the weight of all."""

from collections.abc import Sequence

from rewardhub.errors import ReferenceUnparseable
from rewardhub.judges.prompt import Block, question_of
from rewardhub.judges.rubric import MAX_ITEMS, Case, Rubric, numbered
from rewardhub.judges.verdict import flags
from rewardhub.scorer import need
from rewardhub.types import Group, Json


def criteria_of(group: Group) -> tuple[list[str], list[float]]:
    """Texts and weights of ``reference.criteria``: texts, or objects with ``text`` and a positive ``weight``."""
    listed = need(group.reference, "criteria", (list, tuple))
    found = [each if isinstance(each, dict) else {"text": each} for each in listed]
    texts, weights = [each.get("text") for each in found], [each.get("weight", 1.0) for each in found]
    right = all(isinstance(text, str) and text.strip() for text in texts) and all(map(_is_weight, weights))
    if not 1 <= len(found) <= MAX_ITEMS or not right:
        raise ReferenceUnparseable(
            f"reference.criteria is not a list of 1 to {MAX_ITEMS} texts with positive weights",
            field="reference.criteria",
        )
    return [str(text) for text in texts], [float(weight) for weight in weights]


def _is_weight(weight: object) -> bool:
    return isinstance(weight, (int, float)) and not isinstance(weight, bool) and 0 < weight <= 1e6


def _shared(group: Group) -> tuple[Block, ...]:
    return question_of(group), numbered("CRITERIA", criteria_of(group)[0])


def _value(verdict: Sequence[int], case: Case) -> float:
    weights = criteria_of(case.group)[1]
    return sum(weight for weight, met in zip(weights, verdict, strict=True) if met) / sum(weights)


def _unmet(verdict: Sequence[int], case: Case) -> Json:
    return {"unmet": [text for text, met in zip(criteria_of(case.group)[0], verdict, strict=True) if not met]}


RUBRIC = Rubric(
    name="checklist",
    file=__file__,
    summary="The weight of the reference.criteria that are met, over the weight of all.",
    form=lambda case: flags(len(criteria_of(case.group)[0])),
    value=_value,
    shared=_shared,
    explain=_unmet,
)
