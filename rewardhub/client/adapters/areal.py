"""AReaL: ``reward_fn="rewardhub.client.adapters.areal.reward_fn"``.

A top-level function, picklable by name. AReaL runs it in a process pool with a limit of 15 s, so the
deadline here is 12 s. Hub and recipe come from the environment. Tested in a process pool with recorded
arguments, not with AReaL itself.
"""

from collections.abc import Mapping
from typing import Any

from rewardhub.client.adapters.connection import target
from rewardhub.client.adapters.rollouts import Batch, Chat, column
from rewardhub.client.adapters.trl import REFERENCES
from rewardhub.client.failure import failure_of
from rewardhub.types import Call
from rewardhub.wire.samples import as_reference

DEADLINE_S = 12.0


def reward_fn(
    prompt: Chat | None,
    completions: Chat,
    prompt_ids: Any,  # noqa: ARG001 - AReaL's name for it
    completion_ids: Any,
    **data: Any,
) -> float:
    """The reward of one sample; ``data`` is the dataset row, with the reference and ``images``.

    Raises ``ScoringFailed`` or ``HubUnreachable`` within 12 s; AReaL tries again and then counts 0, which
    its own log shows.
    """
    hub = target(timeout_s=DEADLINE_S)
    batch = Batch()
    (reference,) = column(_one(data), REFERENCES, 1)
    tokens = None if completion_ids is None else len(completion_ids)
    batch.add(
        prompt or data.get("messages") or "", completions, as_reference(reference), data.get("images"), tokens=tokens
    )
    (scores,) = hub.client().score(list(batch.groups.values()), Call(recipe=hub.recipe))
    value = scores.values[0]
    if value is None:
        raise failure_of(scores, 0)
    return value


def _one(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: [value] for name, value in row.items() if value is not None}
