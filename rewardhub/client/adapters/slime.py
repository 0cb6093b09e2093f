"""slime and its forks: ``--custom-rm-path rewardhub.client.adapters.slime.reward``.

With ``--group-rm`` the samples of a call are scored as one group. Hub and recipe come from the
environment; ``metadata.recipe`` of a sample wins. Tested with recorded samples, not with slime itself.
"""

from collections.abc import Sequence
from typing import Any

from rewardhub.client.adapters.connection import target
from rewardhub.client.adapters.rollouts import Batch
from rewardhub.client.failure import failure_of
from rewardhub.types import Call
from rewardhub.wire.samples import as_reference


async def reward(args: Any, samples: Any, **_: Any) -> float | list[float]:  # noqa: ARG001 - slime's arguments
    """The reward of one sample, or a list of them for a list of samples. Raises on a failed score."""
    one = not isinstance(samples, Sequence)
    values = await _values([samples] if one else samples)
    return values[0] if one else values


async def _values(samples: Sequence[Any]) -> list[float]:
    hub = target()
    batch = Batch()
    for sample in samples:
        metadata = getattr(sample, "metadata", None) or {}
        images = (getattr(sample, "multimodal_inputs", None) or {}).get("images")
        recipe = str(metadata.get("recipe") or "")
        batch.add(sample.prompt, sample.response, as_reference(sample.label), images, recipe=recipe)
    answers = await hub.async_client().score(list(batch.groups.values()), Call(recipe=hub.recipe))
    for scores in answers:
        if None in scores.values:
            raise failure_of(scores, scores.values.index(None))
    return [float(value) for value in batch.values(answers) if value is not None]
