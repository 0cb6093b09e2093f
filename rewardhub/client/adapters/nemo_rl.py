"""NeMo RL: an environment whose ``step`` scores the last assistant message of each log.

Wrap it as ``ray.remote(RewardHubEnvironment)`` in the environment registry of a run. Tested with recorded
logs, not with NeMo RL itself.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from rewardhub.client.adapters.connection import Target, target
from rewardhub.client.adapters.rollouts import Batch, text_of
from rewardhub.client.failure import failure_of
from rewardhub.types import Call
from rewardhub.wire.samples import as_reference

Log = Sequence[Mapping[str, Any]]

try:
    from nemo_rl.environments.interfaces import (  # type: ignore[import-not-found,unused-ignore]
        EnvironmentInterface,
        EnvironmentReturn,
    )
except ImportError:
    EnvironmentInterface = object

    class EnvironmentReturn(NamedTuple):  # type: ignore[no-redef]
        """Stands in where NeMo RL is not installed."""

        observations: list[dict[str, str]]
        metadata: list[Any]
        next_stop_strings: list[None]
        rewards: Any
        terminateds: Any
        answers: list[str] | None


class RewardHubEnvironment(EnvironmentInterface):  # type: ignore[misc,unused-ignore]
    """A single-turn environment: every step ends its episode. ``cfg`` holds url, recipe and the like."""

    def __init__(self, cfg: Mapping[str, Any] | None = None) -> None:
        given = {key: value for key, value in (cfg or {}).items() if key in Target.__dataclass_fields__}
        self.hub = target(**given)

    def step(self, message_log_batch: Sequence[Log], metadata: Sequence[Mapping[str, Any]]) -> Any:
        """An ``EnvironmentReturn`` with one reward per log on the CPU; ``metadata`` holds ``ground_truth``.

        Raises ``ScoringFailed`` on a score without a value.
        """
        torch = import_module("torch")  # the trainer's own

        batch = Batch()
        for log, row in zip(message_log_batch, metadata, strict=True):
            *asked, answer = [{"role": each["role"], "content": each["content"]} for each in log]
            batch.add(asked, text_of(answer), as_reference(row.get("ground_truth")), ())
        answers = self.hub.client().score(list(batch.groups.values()), Call(recipe=self.hub.recipe))
        for scores in answers:
            if None in scores.values:
                raise failure_of(scores, scores.values.index(None))
        rewards = torch.tensor(batch.values(answers), dtype=torch.float32)
        count = len(message_log_batch)
        said = [{"role": "environment", "content": ""} for _ in range(count)]
        return EnvironmentReturn(said, list(metadata), [None] * count, rewards, torch.ones(count), None)

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, float]]:
        """The batch unchanged, with the mean reward where it holds rewards."""
        rewards = batch.get("total_reward") if hasattr(batch, "get") else None
        return batch, {} if rewards is None else {"rewardhub_mean": float(rewards.mean())}
