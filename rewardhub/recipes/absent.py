"""Scorers that a published recipe names and this hub does not have."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rewardhub.scorer import Context, ScorerInfo
from rewardhub.types import Column, Group, Json, Status


@dataclass(frozen=True)
class Absent:
    """Stands for a judge or a model that nobody configured: what asks it has a status, the other terms go on."""

    name: str
    params: Json = field(default_factory=dict)
    fingerprint: str = "absent"

    @property
    def info(self) -> ScorerInfo:
        return ScorerInfo(self.name, "judge", "judge")

    async def score_remote(self, group: Group, indices: Sequence[int], context: Context) -> Column:
        """No value: the caller asked for a recipe that needs what this hub lacks."""
        reason = f"the recipe needs the scorer {self.name!r}, which this hub does not have"
        return Column.failed(len(indices), Status.INVALID_INPUT, reason, field="recipe")
