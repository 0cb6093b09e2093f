"""Routes that trainers' own reward clients call, each by the translation of its file in ``compat``.

The recipe stands in the address, ``?recipe=NAME``, where the trainer sends nothing else that could name it.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from rewardhub.errors import InvalidInput
from rewardhub.server import intake
from rewardhub.server.body import decoded
from rewardhub.server.settings import Limits
from rewardhub.types import Call, GroupScores


class Translation(Protocol):
    """The protocol of a trainer: our groups of its request, and its reply, for that request, of our scores."""

    def groups(self, body: Any, /) -> list[Mapping[str, Any]]: ...
    def reply(self, answers: list[GroupScores], body: Any, /) -> Any: ...


def read(
    body: bytes, query: Mapping[str, str], trainer: Translation, limits: Limits
) -> tuple[Any, Call, list[intake.Item]]:
    """The request, its call and its items; raises ``InvalidInput`` that names the field at fault."""
    request, recipe = decoded(body), query.get("recipe", "")
    groups = trainer.groups(request)
    if not recipe and not all(each.get("recipe") for each in groups):
        raise InvalidInput("the address names no recipe: end it with ?recipe=NAME", field="recipe")
    return request, *intake.from_data({"recipe": recipe, "groups": groups}, limits)
