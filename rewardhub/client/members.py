"""Members of one open group that a call names one by one: sent together, answered apart, for a trainer that scores
sample by sample in one batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rewardhub.errors import InvalidInput
from rewardhub.types import Group, GroupScores
from rewardhub.wire.lines import dumps

_SHARED = ("prompt", "reference", "media", "problem_type", "recipe", "metadata", "expected")


class Members:
    """What is to be sent for ``asked`` is in ``groups``: a group with all members that are here is a whole one.

    Raises ``InvalidInput`` where members of one group differ in what they share, or are more than it expects.
    """

    def __init__(self, asked: Sequence[Group]) -> None:
        self._asked = asked
        found: dict[str, list[Group]] = {}
        for group in asked:
            if group.is_member:
                found.setdefault(group.id, []).append(group)
        self._parted = {name for name, members in found.items() if len(members) > 1}
        told: set[str] = set()
        self.groups: list[Group] = []
        for group in asked:
            if not (group.is_member and group.id in self._parted):
                self.groups.append(group)
            elif group.id not in told:
                told.add(group.id)
                self.groups.append(_together(found[group.id]))

    def answers(self, of: Mapping[str, GroupScores]) -> list[GroupScores]:
        """Per group that was asked for, its answer or its rows of the answer."""
        first = dict.fromkeys(self._parted, 0)
        found: list[GroupScores] = []
        for group in self._asked:
            answer, start = of[group.id], first.get(group.id)
            if start is not None:
                first[group.id] = end = start + len(group.responses)
                answer = answer.take(range(start, end))
            found.append(answer)
        return found


def _together(members: Sequence[Group]) -> Group:
    first = members[0]
    for name in _SHARED:
        if not all(_same(getattr(first, name), getattr(each, name)) for each in members):
            raise InvalidInput(f"{name} differs between the members of group {first.id!r}", field=f"groups.{name}")
    responses = tuple(response for each in members for response in each.responses)
    if len(responses) > first.expected:
        reason = f"group {first.id!r} has {len(responses)} members in this call, and expects {first.expected}"
        raise InvalidInput(reason, field="groups.expected")
    return replace(first, responses=responses, expected=first.expected if len(responses) < first.expected else 0)


def _same(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except (ValueError, RuntimeError):  # arrays and tensors, which compare item by item
        return dumps(one) == dumps(other)
