"""A served reward model as recipes bind it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rewardhub.errors import ConfigError
from rewardhub.scorer import Context, ScorerInfo, digest_of
from rewardhub.types import Column, Group, Json

if TYPE_CHECKING:
    from rewardhub.scheduler.model_lane import ModelLane


@dataclass(frozen=True)
class ModelScorer:
    """A served reward model under its card's name."""

    lane: "ModelLane"
    info: ScorerInfo

    @property
    def params(self) -> Json:
        return {}

    @property
    def fingerprint(self) -> str:
        """The loaded weights' fingerprint; the card's while nothing is loaded."""
        return self.lane.fingerprint or digest_of("card", self.lane.card.model_dump_json())

    @property
    def pin(self) -> str:
        """The loaded weights' fingerprint; empty while nothing was loaded."""
        return self.lane.fingerprint

    def bind(self, params: Json) -> "ModelScorer":
        if params:
            raise ConfigError(f"{self.info.name} takes no parameters", field=next(iter(params)))
        return self

    async def score_remote(self, group: Group, indices: Sequence[int], context: Context) -> Column:
        chosen = tuple(group.responses[index] for index in indices)
        return await self.lane.score(replace(group, responses=chosen), context)
