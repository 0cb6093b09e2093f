"""Judges as scorers: a rubric asked of the pool, with the gate before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rewardhub.errors import ConfigError, nearest
from rewardhub.judges.comparing import MOST_COMPARED, compare_pairs, rank
from rewardhub.judges.grading import Asker, grade
from rewardhub.judges.lane import JudgeLane
from rewardhub.judges.pool import JudgePool
from rewardhub.judges.rubric import Rubric, builtin_rubric, operators_rubric
from rewardhub.judges.settings import JudgeSettings
from rewardhub.scorer import Context, ScorerInfo, digest_of
from rewardhub.types import Column, Group, Json

_STRATEGIES = {"response": grade, "pair": compare_pairs, "group": rank}


ANSWERING = {"temperature", "max_tokens", "max_chars", "vision", "structured", "reasoning_chars"}
"""Settings that can change a verdict."""


class JudgeParams(BaseModel):
    """What a recipe may set: another built-in rubric, and how many times each question is asked.

    With ``samples`` above 1 the value is the mean, and the confidence the share of the commonest verdict. ``rounds``
    makes a rubric of pairs a Swiss tournament of so many rounds; 0 lets every pair meet.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rubric: str = Field(default="", max_length=64)
    samples: int = Field(default=1, ge=1, le=8)
    rounds: int = Field(default=0, ge=0, le=8)


@dataclass(frozen=True)
class JudgeScorer:
    """A judge by its name; ``rubric`` is the one asked when the recipe names none."""

    settings: JudgeSettings
    lane: JudgeLane
    rubric: Rubric

    @property
    def info(self) -> ScorerInfo:
        return self.info_for(self.rubric)

    def info_for(self, rubric: Rubric) -> ScorerInfo:
        return ScorerInfo(
            name=self.settings.name, family="judge", lane="judge", scope=rubric.scope, cost="dear",
            deterministic=False, range=rubric.range, time_limit_s=self.settings.timeout_s,
            max_chars=self.settings.max_chars, summary=rubric.summary, signals=not rubric.builtin,
        )  # fmt: skip

    def bind(self, params: Json) -> "BoundJudge":
        """Raises ``ConfigError`` for unknown or wrong parameters and ``UnknownName`` for an unknown rubric."""
        try:
            valid = JudgeParams.model_validate(dict(params))
        except ValidationError as error:
            raise _parameter_error(self.settings.name, error) from None
        rubric = builtin_rubric(valid.rubric) if valid.rubric else self.rubric
        if rubric.needs_images and not self.settings.vision:
            raise ConfigError(f"rubric {rubric.name!r} needs a judge with vision", field="rubric")
        if valid.rounds and rubric.scope != "pair":
            raise ConfigError(f"rounds are for rubrics of pairs, rubric {rubric.name!r} is not", field="rounds")
        return BoundJudge(self, rubric, valid)


@dataclass(frozen=True)
class BoundJudge:
    """A judge with its rubric; awaited, with its own queue and deadline keeping."""

    scorer: JudgeScorer
    rubric: Rubric
    valid: JudgeParams

    @cached_property
    def info(self) -> ScorerInfo:
        return self.scorer.info_for(self.rubric)

    @property
    def params(self) -> Mapping[str, Any]:
        return self.valid.model_dump()

    @property
    def questions(self) -> int:
        """The most questions that it puts per response."""
        pairs = (self.valid.rounds or MOST_COMPARED - 1) if self.rubric.scope == "pair" else 1
        return pairs * self.valid.samples

    @property
    def fingerprint(self) -> str:
        """Changes with the rubric, the parser, the parameters, and the models that the endpoints name."""
        return self._digest(self.scorer.lane.models)

    @property
    def pin(self) -> str:
        """Changes as the fingerprint does, but not when an endpoint names its model for the first time."""
        return self._digest(self.scorer.lane.exchanges)

    def _digest(self, models: Sequence[str]) -> str:
        answering = self.scorer.settings.model_dump(include=ANSWERING)
        parameters = msgspec.json.encode([answering, self.params])
        return digest_of("judge", self.rubric.name, self._rubric_digest, parameters, *models)

    @cached_property
    def _rubric_digest(self) -> str:
        return self.rubric.digest

    async def score_remote(self, group: Group, indices: Sequence[int], context: Context) -> Column:
        """The scores of these responses of the group; every failure is a status of its row."""
        asker = Asker(self.scorer.lane, self.rubric, self.valid.samples, context, self.valid.rounds)
        scores = await _STRATEGIES[self.rubric.scope](asker, group, indices)
        return Column.of(scores, self.fingerprint)


def judge_scorers(settings: Sequence[JudgeSettings], pool: JudgePool) -> list[JudgeScorer]:
    """The judges of a hub; they answer once ``pool`` is started.

    Raises ``ConfigError`` for an unknown rubric, a rubric without what it needs, or a missing key.
    """
    scorers = [JudgeScorer(each, JudgeLane(each, pool), operators_rubric(each.rubric)) for each in settings]
    for scorer in scorers:
        scorer.bind({})
    return scorers


def _parameter_error(name: str, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{name} has no parameter {key!r}{nearest(key, JudgeParams.model_fields)}", field=key)
    return ConfigError(f"{name}: parameter {key!r}: {first['msg']}", field=key)
