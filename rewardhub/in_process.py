"""What a program in process hands over, looked at as the doors look at what is sent to them."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from rewardhub.errors import InvalidInput, nearest
from rewardhub.flaws import as_float
from rewardhub.types import MAX_RESPONSES, CacheMode, Call, Column, Group, GroupScores, Response, Status

_CHOICES: Mapping[str, tuple[str, ...]] = {"priority": ("online", "bulk"), "cache": get_args(CacheMode)}
_LONGEST_MS = 2**53


def check_call(call: Call) -> None:
    """Raises ``InvalidInput`` for an option that is none: nothing would serve it."""
    for name, known in _CHOICES.items():
        value = getattr(call, name)
        if value not in known:
            raise InvalidInput(f"{name} is {value!r}{nearest(str(value), known)}", field=name)
    deadline = call.deadline_ms
    if not (isinstance(deadline, int | float) and deadline <= _LONGEST_MS):
        raise InvalidInput("deadline_ms is no number of milliseconds", field="deadline_ms")
    for name, number in call.inputs.items():
        if as_float(number) is None:
            raise InvalidInput(f"inputs.{name} is no finite number", field=f"inputs.{name}")


def check_group(group: Group) -> None:
    """Raises ``InvalidInput`` for a group that no scorer could read, or of too many responses."""
    if len(group.responses) > MAX_RESPONSES:
        raise InvalidInput(f"{len(group.responses)} responses, at most {MAX_RESPONSES}", field="responses")
    for name in ("reference", "metadata"):
        value = getattr(group, name)
        if type(value) is not dict and not isinstance(value, Mapping):
            raise InvalidInput(f"{name} is {type(value).__name__}, expected an object", field=name)
    for name in ("expected", "lost"):
        if not getattr(group, name) >= 0:
            raise InvalidInput(f"{name} is {getattr(group, name)}, expected 0 or more", field=name)


def check_responses(responses: Sequence[Response]) -> None:
    """Raises ``InvalidInput`` for the first response that no scorer could read."""
    for error in _unusable(responses).values():
        raise error


@dataclass(frozen=True, slots=True)
class Usable:
    """``group`` holds the responses that can be read; ``errors`` say by index why the others cannot."""

    group: Group
    errors: Mapping[int, InvalidInput]

    @classmethod
    def of(cls, group: Group) -> "Usable":
        errors = _unusable(group.responses)
        if not errors:
            return cls(group, errors)
        good = tuple(each for index, each in enumerate(group.responses) if index not in errors)
        expected = group.expected if group.is_member else 0  # what is left of a whole group waits for no others
        return cls(replace(group, responses=good, lost=group.lost + len(errors), expected=expected), errors)

    def merged(self, scores: GroupScores) -> GroupScores:
        """The scores with a row for each response, in their order; those of a member keep their indices."""
        if not self.errors:
            return scores
        parts = {path: self._spread(column) for path, column in scores.parts.items()}
        return GroupScores(
            scores.id, self._spread(scores.total), parts, [*range(len(scores) + len(self.errors))],
            scores.complete, scores.timings,
        )  # fmt: skip

    def _spread(self, column: Column) -> Column:
        size = len(column) + len(self.errors)
        every = Column([None] * size, [Status.INVALID_INPUT] * size)
        for row, error in self.errors.items():
            every.put([row], error.column(1))
        every.put([row for row in range(size) if row not in self.errors], column)
        return every


def _unusable(responses: Sequence[Any]) -> dict[int, InvalidInput]:
    if all(type(each) is Response and type(each.text) is str and not each.signals for each in responses):
        return {}
    found = ((index, _wrong(each)) for index, each in enumerate(responses))
    return {index: _error(index, *wrong) for index, wrong in found if wrong}


def _error(index: int, field: str, reason: str) -> InvalidInput:
    place = f"responses[{index}]{field}"
    return InvalidInput(f"{place} {reason}", field=place)


def _wrong(response: Any) -> tuple[str, str] | None:
    """Which field of it cannot be read and why; None where all can."""
    if not isinstance(response, Response):
        return "", f"is {type(response).__name__}, expected a Response"
    text: object = response.text
    if not isinstance(text, str):
        return ".text", f"is {type(text).__name__}, expected a str"
    bad = [name for name, number in response.signals.items() if as_float(number) is None]
    return (f".signals.{bad[0]}", "is no finite number") if bad else None


async def aiter_of(groups: Iterable[Group] | AsyncIterable[Group]) -> AsyncIterator[Group]:
    if isinstance(groups, AsyncIterable):
        async for group in groups:
            yield group
    else:
        for group in groups:
            yield group
