"""Routes that trainers' own reward clients call, each by the translation of its file in ``compat``.

The recipe stands in the address, ``?recipe=NAME``: these trainers send nothing else that could name it.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from rewardhub.errors import InvalidInput
from rewardhub.server import intake
from rewardhub.server.body import decoded
from rewardhub.server.settings import Limits
from rewardhub.types import Call, GroupScores


class Translation(Protocol):
    """The protocol of a trainer, to our groups and from our scores."""

    def groups(self, body: Any) -> list[Mapping[str, Any]]: ...
    def reply(self, answers: list[GroupScores]) -> Any: ...


def read(body: bytes, query: Mapping[str, str], trainer: Translation, limits: Limits) -> tuple[Call, list[intake.Item]]:
    """The call and its items; raises ``InvalidInput`` that names the field at fault."""
    recipe = query.get("recipe", "")
    if not recipe:
        raise InvalidInput("the address names no recipe: end it with ?recipe=NAME", field="recipe")
    return intake.from_data({"recipe": recipe, "groups": trainer.groups(decoded(body))}, limits)
