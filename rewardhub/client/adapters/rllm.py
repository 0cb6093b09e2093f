"""rLLM: a reward function ``fn(task_info, action) -> RewardOutput``.

Hub and recipe come from the environment. Tested with recorded arguments, not with rLLM itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rewardhub.client.adapters.connection import target
from rewardhub.client.adapters.rollouts import column
from rewardhub.client.adapters.trl import REFERENCES
from rewardhub.client.failure import failure_of
from rewardhub.client.parts import make_group
from rewardhub.types import Call
from rewardhub.wire.samples import as_reference

try:
    from rllm.rewards.reward_types import RewardOutput  # type: ignore[import-not-found,unused-ignore]
except ImportError:

    @dataclass
    class RewardOutput:  # type: ignore[no-redef]
        """Stands in where rLLM is not installed."""

        reward: float
        metadata: dict[str, Any] = field(default_factory=dict)
        is_correct: bool | None = None


def reward_fn(task_info: Mapping[str, Any], action: Any) -> RewardOutput:
    """The reward of one action; ``is_correct`` where it is at least 1. Raises on a failed score."""
    hub = target()
    (reference,) = column({key: [value] for key, value in task_info.items() if value is not None}, REFERENCES, 1)
    prompt = str(task_info.get("question") or task_info.get("problem") or "")
    text = str(getattr(action, "action", action))
    group = make_group([text], prompt=prompt, reference=as_reference(reference), images=task_info.get("images") or ())
    (scores,) = hub.client().score([group], Call(recipe=hub.recipe))
    score = scores[0]
    if score.value is None:
        raise failure_of(scores, 0)
    metadata = {"status": str(score.status), "fingerprint": score.fingerprint}
    return RewardOutput(reward=score.value, metadata=metadata, is_correct=score.value >= 1.0)
