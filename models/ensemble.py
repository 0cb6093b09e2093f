"""Ensembles: several reward models, combined so that one model's mistake is not the policy's prize."""

import statistics
from collections.abc import Callable, Sequence
from functools import cached_property

from rewardhub.errors import ConfigError
from rewardhub.models.backbone import same_device
from rewardhub.models.card import TRUNCATED, Card, EnsembleSpec, load_card
from rewardhub.models.model import RewardModel, finite
from rewardhub.models.runner import Runner
from rewardhub.models.truncation import flagged
from rewardhub.scorer import digest_of
from rewardhub.types import Column, Group, Score


class EnsembleModel(RewardModel):
    """Mean, minimum (worst case), or mean less lambda times the population variance (arXiv 2310.02743).

    A response that one member cannot score has no value, with the status of the first such member. It is
    reproducible where all members are; raises ``ConfigError`` where its card says so and one is not, and for a member
    on another device: an ensemble runs in the process of one, whose memory and turns the lanes there share out.
    """

    def __init__(self, card: Card, load: Callable[[Card], RewardModel]) -> None:
        assert card.ensemble is not None
        self.card = card
        self.spec: EnsembleSpec = card.ensemble
        cards = [load_card(path) for path in self.spec.members]
        if any(each.scope != "response" or each.kind == "ensemble" for each in cards):
            raise ConfigError(f"{card.name}: members must score each response by itself", field="ensemble.members")
        if card.reproducible and not all(each.reproducible for each in cards):
            raise ConfigError(f"{card.name}: members of a reproducible card must be reproducible", field="reproducible")
        for path, each in zip(self.spec.members, cards, strict=True):
            if each.backend != "vllm" and same_device(each.device) != same_device(card.device):
                reason = f"{card.name} runs on device {card.device!r}, its member {path} on {each.device!r}; state one"
                raise ConfigError(reason, field="device")
        self.members: list[RewardModel] = []
        try:
            self.members += map(load, cards)
        except BaseException:
            self.close()
            raise

    @property
    def cards(self) -> Sequence[Card]:
        return self.card, *(member.card for member in self.members)

    @property
    def runners(self) -> Sequence[Runner]:
        return [runner for member in self.members for runner in member.runners]

    @cached_property
    def fingerprint(self) -> str:
        return digest_of("ensemble", self.spec.combine, repr(self.spec.weight), self.card.calibration.model_dump_json(),
                         *(member.fingerprint for member in self.members))  # fmt: skip

    def score(self, groups: Sequence[Group]) -> list[Column]:
        """One column per group; see :class:`~rewardhub.models.model.RewardModel`."""
        columns = [member.score(groups) for member in self.members]
        return [
            Column.of([self._combined([column.row(row) for column in group]) for row in range(len(group[0]))],
                      self.fingerprint)
            for group in zip(*columns, strict=True)
        ]  # fmt: skip

    def probe(self, tokens: int) -> int:
        """See :class:`~rewardhub.models.model.RewardModel`: of all members."""
        return min([member.probe(tokens) for member in self.members])

    @property
    def alive(self) -> bool:
        return all(member.alive for member in self.members)

    def close(self) -> None:
        for member in self.members:
            member.close()

    def _combined(self, scores: Sequence[Score]) -> Score:
        failed = next((score for score in scores if score.value is None), None)
        if failed is not None:
            return Score(None, failed.status, details=failed.details)
        values = [float(score) for score in scores]
        combined = finite(self.card.calibration(combine(values, self.spec)))
        truncated = max(int(score.details.get(TRUNCATED, 0)) for score in scores)
        return flagged(Score(combined.value, combined.status, details={"members": values}), truncated)


def combine(values: Sequence[float], spec: EnsembleSpec) -> float:
    """One number of the members' values."""
    if spec.combine == "min":
        return min(values)
    mean = statistics.fmean(values)
    return mean if spec.combine == "mean" else mean - spec.weight * statistics.pvariance(values)
