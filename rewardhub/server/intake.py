"""Requests of both doors read into a call and its items, so that one unusable group loses no neighbour.

An item is a ``Group``, or the ``GroupScores`` that already answer a group which could not be read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rewardhub.errors import InternalError, InvalidInput, RewardHubError
from rewardhub.server.surface import ScoringHub
from rewardhub.types import Call, Column, Group, GroupScores
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import types_pb2
from rewardhub.wire import lines, proto
from rewardhub.wire.fields import expect

Item = Group | GroupScores


def from_json(body: bytes, max_groups: int) -> tuple[Call, list[Item]]:
    """A REST body; raises ``InvalidInput`` where the request as a whole is unusable."""
    data = expect(lines.loads(body), dict, "body")
    call = lines.call_from_json(data)
    if "groups" not in data:
        raise InvalidInput("groups is missing, expected a list", field="groups")
    groups = expect(data["groups"], list, "groups")
    _check_count(groups, max_groups)
    return call, _distinct([_json_item(each, index) for index, each in enumerate(groups)])


def from_proto(request: pb.ScoreRequest, max_groups: int) -> tuple[Call, list[Item]]:
    """A Score request; raises as :func:`from_json`."""
    _check_count(request.groups, max_groups)
    call = proto.call_from_proto(request.options)
    return call, _distinct([_proto_item(each, index) for index, each in enumerate(request.groups)])


async def score(hub: ScoringHub, items: Sequence[Item], call: Call, tenant: str) -> list[GroupScores]:
    """The answers in request order."""
    groups = [item for item in items if isinstance(item, Group)]
    answers = await hub.score(groups, call, tenant=tenant) if groups else []
    if len(answers) != len(groups):
        raise InternalError(f"{len(groups)} groups went in, {len(answers)} answers came out")
    rest = iter(answers)
    return [next(rest) if isinstance(item, Group) else item for item in items]


def failed(group_id: str, rows: int, error: RewardHubError) -> GroupScores:
    """The answer for a group that failed as a whole: every row has the error's status."""
    details = {"field": error.field} if error.field else {}
    column = Column.failed(rows, error.status, error.message, code=error.code, **details)
    return GroupScores(group_id, column, indices=list(range(rows)))


def _json_item(data: Any, index: int) -> Item:
    return _read(
        lambda: lines.group_from_json(data, f"groups[{index}]", default_id=str(index)),
        lambda: _name_and_rows(data, index),
    )


def _proto_item(message: types_pb2.Group, index: int) -> Item:
    def read() -> Group:
        group = proto.group_from_proto(message, f"groups[{index}]")
        return group if group.id else replace(group, id=str(index))

    return _read(read, lambda: (message.id or str(index), len(message.responses)))


def _read(read: Callable[[], Group], describe: Callable[[], tuple[str, int]]) -> Item:
    try:
        return read()
    except InvalidInput as error:
        return failed(*describe(), error)


def _name_and_rows(data: Any, index: int) -> tuple[str, int]:
    if not isinstance(data, Mapping):
        return str(index), 0
    name, responses = data.get("id"), data.get("responses")
    usable = isinstance(name, (str, int)) and not isinstance(name, bool) and name != ""
    return str(name) if usable else str(index), len(responses) if isinstance(responses, list) else 0


def _distinct(items: list[Item]) -> list[Item]:
    seen: set[str] = set()
    return [_unless_seen(item, f"groups[{index}].id", seen) for index, item in enumerate(items)]


def _unless_seen(item: Item, field: str, seen: set[str]) -> Item:
    if isinstance(item, GroupScores) or item.expected > len(item.responses):
        return item  # members of one open group share its id
    if item.id in seen:
        return failed(item.id, len(item.responses), InvalidInput(f"the id {item.id!r} comes twice", field=field))
    seen.add(item.id)
    return item


def _check_count(groups: Sequence[Any], limit: int) -> None:
    if len(groups) > limit:
        raise InvalidInput(f"{len(groups)} groups in one request, at most {limit}", field="groups")
