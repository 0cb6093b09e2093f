"""Requests of both doors read into a call and its items, so that nothing unusable loses its neighbours.

An item is a ``Group``, a :class:`Partial` where some of its responses could not be read, or the
``GroupScores`` that already answer a group which could not be read at all.
"""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from rewardhub.errors import InternalError, InvalidInput, RewardHubError, TooLarge
from rewardhub.media.store import MediaStore
from rewardhub.pace import Pace
from rewardhub.server.body import decoded
from rewardhub.server.partial import Partial, resolved, split
from rewardhub.server.settings import Limits
from rewardhub.server.surface import ScoringHub
from rewardhub.types import MAX_RESPONSES, Call, Column, Group, GroupScores, Response
from rewardhub.v1 import reward_service_pb2 as pb
from rewardhub.v1 import types_pb2
from rewardhub.wire import lines, proto
from rewardhub.wire.fields import expect

Item = Group | Partial | GroupScores


def from_json(body: bytes, limits: Limits) -> tuple[Call, list[Item]]:
    """A REST body; raises ``InvalidInput`` where the request as a whole is unusable, ``TooLarge`` where it asks for
    more than one request may.
    """
    return from_data(expect(decoded(body), dict, "body"), limits)


def from_data(data: dict[str, Any], limits: Limits) -> tuple[Call, list[Item]]:
    """A decoded REST body; raises as :func:`from_json`."""
    call = lines.call_from_json(data)
    if "groups" not in data:
        raise InvalidInput("groups is missing, expected a list", field="groups")
    groups = expect(data["groups"], list, "groups")
    _check_count(groups, limits.groups)
    check_rows(sum(_name_and_rows(each, 0)[1] for each in groups), limits)
    named = {_name_and_rows(each, -1)[0] for each in groups}
    return call, _distinct([_json_item(each, index, _free(index, named)) for index, each in enumerate(groups)])


def from_proto(request: pb.ScoreRequest, limits: Limits) -> tuple[Call, list[Item]]:
    """A Score request; raises as :func:`from_json`."""
    _check_count(request.groups, limits.groups)
    check_rows(sum(len(each.responses) for each in request.groups), limits)
    call = proto.call_from_proto(request.options)
    named = {each.id for each in request.groups}
    return call, _distinct(
        [group_item(each, f"groups[{index}]", _free(index, named)) for index, each in enumerate(request.groups)]
    )


async def score(hub: ScoringHub, items: Sequence[Item], call: Call, tenant: str) -> list[GroupScores]:
    """The answers in request order."""
    ready, call = await _at_hand(hub.media, items, call, tenant)
    groups = [group for item in ready if (group := _to_score(item)) is not None]
    answers = await hub.score(groups, call, tenant=tenant) if groups else []
    if len(answers) != len(groups):
        raise InternalError(f"{len(groups)} groups went in, {len(answers)} answers came out")
    rest = iter(answers)
    return [_answer(item, rest) for item in ready]


def rows_of(item: Item) -> int:
    """How many responses the item answers for."""
    if isinstance(item, Partial):
        return item.rows
    return len(item.responses) if isinstance(item, Group) else len(item)


def failed(group_id: str, rows: int, error: RewardHubError) -> GroupScores:
    """The answer for a group that failed as a whole: every row has the error's status."""
    rows = rows or 1  # a group whose responses cannot be counted still says why
    return GroupScores(group_id, error.column(rows), indices=list(range(rows)))


async def _at_hand(media: MediaStore, items: Sequence[Item], call: Call, tenant: str) -> tuple[list[Item], Call]:
    """The items with their media, and the call with what is left of its deadline once they were fetched."""
    within_s = call.deadline_ms / 1000 or math.inf
    if media.remote is None:
        here, pace = [], Pace()
        for item in items:
            if pace.due:
                await pace.rest()
            here.append(await _resolved(item, media, tenant, within_s))
        return here, call
    started = time.monotonic()
    ready = await asyncio.gather(*(_resolved(item, media, tenant, within_s) for item in items))
    took_ms = int((time.monotonic() - started) * 1000)
    return ready, replace(call, deadline_ms=max(1, call.deadline_ms - took_ms)) if call.deadline_ms else call


async def _resolved(item: Item, media: MediaStore, tenant: str, within_s: float) -> Item:
    if isinstance(item, GroupScores):
        return item
    try:
        return await resolved(item, media, tenant, within_s)
    except RewardHubError as error:
        return failed(item.id, rows_of(item), error)


def _to_score(item: Item) -> Group | None:
    if isinstance(item, Partial):
        return item.group if item.kept else None
    return item if isinstance(item, Group) else None


def _answer(item: Item, answers: Iterator[GroupScores]) -> GroupScores:
    if isinstance(item, Partial):
        return item.merged(next(answers) if item.kept else GroupScores(item.id, Column([], [])))
    return next(answers) if isinstance(item, Group) else item


def _free(index: int, named: Collection[str]) -> str:
    """The id of a group that has none: its place, marked where another group has that name."""
    name = str(index)
    while name in named:
        name = f"#{name}"
    return name


def _json_item(data: Any, index: int, default_id: str) -> Item:
    where = f"groups[{index}]"

    def read(value: Any) -> Group:
        return lines.group_from_json(value, where, default_id=default_id)

    try:
        return read(data)
    except InvalidInput as error:
        if not _about_a_response(error, where) or data.get("expected") or len(data["responses"]) > MAX_RESPONSES:
            return failed(*_name_and_rows(data, index), error)
    try:
        return split(read({**data, "responses": []}), data["responses"], partial(_json_response, where))
    except InvalidInput as error:
        return failed(*_name_and_rows(data, index), error)


def _json_response(where: str, data: Any, index: int) -> Response:
    return _one_response(lambda: lines.group_from_json({"responses": [data]}, where).responses, index)


def group_item(message: types_pb2.Group, where: str, default_id: str = "") -> Item:
    """The item of a protobuf group."""
    name = message.id or default_id
    try:
        group = proto.group_from_proto(message, where)
        return group if group.id else replace(group, id=name)
    except InvalidInput as error:
        if not _about_a_response(error, where) or message.expected or len(message.responses) > MAX_RESPONSES:
            return failed(name, len(message.responses), error)
    try:
        bare = types_pb2.Group()
        bare.CopyFrom(message)
        del bare.responses[:]
        group = replace(proto.group_from_proto(bare, where), id=name)
        return split(group, message.responses, partial(_proto_response, where))
    except InvalidInput as error:
        return failed(name, len(message.responses), error)


def _proto_response(where: str, message: types_pb2.Response, index: int) -> Response:
    return _one_response(lambda: proto.responses_from_proto([message], where), index)


def _one_response(read: Callable[[], Sequence[Response]], index: int) -> Response:
    try:
        return read()[0]
    except InvalidInput as error:
        error.field = error.field.replace("responses[0]", f"responses[{index}]", 1)
        error.message = error.message.replace("responses[0]", f"responses[{index}]", 1)
        raise


def _about_a_response(error: InvalidInput, where: str) -> bool:
    return error.field.startswith(f"{where}.responses[")


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
    if isinstance(item, GroupScores) or (isinstance(item, Group) and item.is_member):
        return item  # members of one open group share its id
    if item.id in seen:
        return failed(item.id, rows_of(item), InvalidInput(f"the id {item.id!r} comes twice", field=field))
    seen.add(item.id)
    return item


def check_rows(count: int, limits: Limits) -> None:
    """Raises ``TooLarge`` for more responses than one request or event may have: each is answered, even if refused."""
    if count > limits.responses:
        raise TooLarge(f"{count} responses in one request, at most {limits.responses}")


def _check_count(groups: Sequence[Any], limit: int) -> None:
    if len(groups) > limit:
        raise InvalidInput(f"{len(groups)} groups in one request, at most {limit}", field="groups")
