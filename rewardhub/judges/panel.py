"""A panel: several judges asked the same question, with their mean or majority and their disagreement."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rewardhub.errors import ConfigError, UnknownName
from rewardhub.judges.judge import BoundJudge, JudgeScorer
from rewardhub.scorer import Context, ScorerInfo, digest_of
from rewardhub.types import Column, Group, Json, Score


class PanelSettings(BaseModel):
    """A panel by its name; ``members`` are names of judges.

    ``mean`` is the members' mean and needs all of them. ``majority`` gives the top of the range where
    more than half of the members are above its middle and the bottom where more than half are not; it
    needs no more answers than decide it. A panel evenly split is at the bottom.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")
    members: tuple[str, ...] = Field(min_length=2, max_length=15)
    rule: Literal["mean", "majority"] = "mean"


@dataclass(frozen=True)
class PanelScorer:
    """A panel of judges as one scorer; its parameters go to every member."""

    settings: PanelSettings
    members: tuple[JudgeScorer, ...]

    @property
    def info(self) -> ScorerInfo:
        return self.bind({}).info

    def bind(self, params: Json) -> "BoundPanel":
        """Raises ``ConfigError`` where the members' rubrics differ in scope or range."""
        bound = tuple(member.bind(params) for member in self.members)
        if len({(each.info.scope, each.info.range) for each in bound}) > 1:
            raise ConfigError(f"the members of {self.settings.name!r} differ in scope or range", field="members")
        return BoundPanel(self.settings, bound)


@dataclass(frozen=True)
class BoundPanel:
    """The bound members of a panel."""

    settings: PanelSettings
    members: tuple[BoundJudge, ...]

    @property
    def info(self) -> ScorerInfo:
        summary = f"The {self.settings.rule} of {', '.join(self.settings.members)}."
        signals = any(member.info.signals for member in self.members)
        return replace(self.members[0].info, name=self.settings.name, summary=summary, signals=signals)

    @property
    def params(self) -> Mapping[str, Any]:
        return self.members[0].params

    @property
    def questions(self) -> int:
        """The most questions that its members put per response."""
        return sum(member.questions for member in self.members)

    @property
    def fingerprint(self) -> str:
        return digest_of("panel", self.settings.rule, *(member.fingerprint for member in self.members))

    @property
    def pin(self) -> str:
        """See :attr:`BoundJudge.pin`."""
        return digest_of("panel", self.settings.rule, *(member.pin for member in self.members))

    async def score_remote(self, group: Group, indices: Sequence[int], context: Context) -> Column:
        """Asks all members at once; details hold each member's value or status and their disagreement."""
        columns = await asyncio.gather(*(each.score_remote(group, indices, context) for each in self.members))
        votes = [[column.row(row) for column in columns] for row in range(len(indices))]
        return Column.of([self._score(each) for each in votes], self.fingerprint)

    def _score(self, votes: Sequence[Score]) -> Score:
        values = [vote.value for vote in votes if vote.value is not None]
        shown = [vote.status if vote.value is None else vote.value for vote in votes]
        details: dict[str, Any] = {"members": dict(zip(self.settings.members, shown, strict=True))}
        if values:
            details["disagreement"] = max(values) - min(values)
        outcome = self._majority(values) if self.settings.rule == "majority" else self._mean(values)
        if outcome is not None:
            return Score(outcome[0], confidence=outcome[1], details=details)
        failed = next(vote for vote in votes if vote.value is None)
        return Score(None, failed.status, details={**failed.details, **details})

    def _mean(self, values: Sequence[float]) -> tuple[float, float | None] | None:
        return (fmean(values), None) if len(values) == len(self.members) else None

    def _majority(self, values: Sequence[float]) -> tuple[float, float | None] | None:
        low, high = self.info.range
        size = len(self.members)
        above = sum(value > (low + high) / 2 for value in values)
        if 2 * above > size:
            return high, above / size
        return (low, (len(values) - above) / size) if 2 * (len(values) - above) >= size else None


def panel_scorers(settings: Sequence[PanelSettings], judges: Sequence[JudgeScorer]) -> list[PanelScorer]:
    """The panels over these judges; raises ``UnknownName`` for a member that is none of them."""
    known = {judge.settings.name: judge for judge in judges}
    panels = []
    for each in settings:
        unknown = next((name for name in each.members if name not in known), None)
        if unknown is not None:
            raise UnknownName("judge", unknown, known, field="members")
        if len(set(each.members)) < len(each.members):
            raise ConfigError(f"panel {each.name!r} names a judge twice", field="members")
        panels.append(PanelScorer(each, tuple(known[name] for name in each.members)))
        panels[-1].bind({})
    return panels
