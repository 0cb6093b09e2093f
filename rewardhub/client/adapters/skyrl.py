"""SkyRL: a single-turn environment, ``skyrl_gym.register("rewardhub", entry_point="…:RewardHubEnv")``.

Hub and recipe come from ``env_config`` or the environment. Tested with recorded arguments, not with
SkyRL itself.
"""

from collections.abc import Mapping
from typing import Any

from rewardhub.client.adapters.connection import target_of
from rewardhub.client.adapters.rollouts import Batch
from rewardhub.client.failure import failure_of
from rewardhub.types import Call
from rewardhub.wire.samples import as_reference

try:
    from skyrl_gym.envs.base_text_env import (  # type: ignore[import-not-found,unused-ignore]
        BaseTextEnv,
        BaseTextEnvStepOutput,
    )
except ImportError:
    BaseTextEnv, BaseTextEnvStepOutput = object, dict


class RewardHubEnv(BaseTextEnv):  # type: ignore[misc,unused-ignore]
    """Scores the first action and is done. Called on threads, which share one connection."""

    def __init__(self, env_config: Any = None, extras: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        extras = extras or {}
        self.hub = target_of(dict(env_config or {}))
        self.prompt = extras.get("prompt") or ""
        self.reference = as_reference((extras.get("reward_spec") or {}).get("ground_truth"))

    def step(self, action: str) -> Any:
        """``{"observations": [], "reward", "done": True, "metadata"}``; raises on a failed score."""
        batch = Batch()
        batch.add(self.prompt, action, self.reference, ())
        (scores,) = self.hub.client().score(list(batch.groups.values()), Call(recipe=self.hub.recipe))
        score = scores[0]
        if score.value is None:
            raise failure_of(scores, 0)
        metadata = {"status": str(score.status), "fingerprint": score.fingerprint}
        return BaseTextEnvStepOutput(observations=[], reward=score.value, done=True, metadata=metadata)
