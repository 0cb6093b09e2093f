"""TRL: reward functions for ``GRPOTrainer(reward_funcs=...)``.

Tested in runs of TRL 1.16's own GRPOTrainer, with texts and with a column of images.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from rewardhub.client.adapters.connection import Target, target
from rewardhub.client.adapters.rollouts import Batch, Chat, column
from rewardhub.client.failure import OnFailure
from rewardhub.errors import InvalidInput, nearest
from rewardhub.types import Call
from rewardhub.wire.samples import as_reference

AsyncReward = Callable[..., Coroutine[Any, Any, list[float | None]]]
Reward = Callable[..., list[float | None]]
REFERENCES = ("reference", "answer", "solution", "ground_truth")


def reward(
    recipe: str = "",
    *,
    url: str = "",
    api_key: str | None = None,
    timeout_s: float = 120.0,
    on_failure: OnFailure = "raise",
    reference: str | Sequence[str] = REFERENCES,
    run: str = "",
) -> AsyncReward:
    """A reward function, a real ``async def`` named after the recipe.

    ``reference`` names the dataset column that holds the answer or a reference object; of several names
    the first that is there counts, and a name of one's own has to be there. Images come from the column
    ``images`` or ``image``, or from the prompt. Completions with the same prompt, images and reference are
    scored as one group. With
    ``on_failure="none"`` failed scores are None, which TRL leaves out; the default raises
    ``ScoringFailed``.
    """
    hub, names = target(recipe, url, api_key, timeout_s, on_failure), _names(reference)

    async def scored(
        prompts: Sequence[Chat], completions: Sequence[Chat], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        batch = _batch(prompts, completions, completion_ids, columns, names)
        return batch.values(await hub.async_client().score(list(batch.groups.values()), _call(hub, run, columns)))

    scored.__name__ = hub.recipe
    return scored


def sync_reward(
    recipe: str = "",
    *,
    url: str = "",
    api_key: str | None = None,
    timeout_s: float = 120.0,
    on_failure: OnFailure = "raise",
    reference: str | Sequence[str] = REFERENCES,
    run: str = "",
) -> Reward:
    """The same as a plain function, for trainers that do not await."""
    hub, names = target(recipe, url, api_key, timeout_s, on_failure), _names(reference)

    def scored(
        prompts: Sequence[Chat], completions: Sequence[Chat], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        batch = _batch(prompts, completions, completion_ids, columns, names)
        return batch.values(hub.client().score(list(batch.groups.values()), _call(hub, run, columns)))

    scored.__name__ = hub.recipe
    return scored


def _names(reference: str | Sequence[str]) -> tuple[str, ...]:
    return (reference,) if isinstance(reference, str) else tuple(reference)


def _batch(
    prompts: Sequence[Chat],
    completions: Sequence[Chat],
    completion_ids: Any,
    columns: Mapping[str, Any],
    names: Sequence[str],
) -> Batch:
    count = len(completions)
    if names != REFERENCES and not any(name in columns for name in names):
        raise InvalidInput(f"no column {' or '.join(names)}{nearest(names[0], columns)}", field="reference")
    references = column(columns, names, count)
    images = column(columns, ("images",), count)
    if columns.get("images") is None:
        images = [() if image is None else (image,) for image in column(columns, ("image",), count)]
    ids = [None] * count if completion_ids is None else completion_ids
    batch = Batch()
    for prompt, completion, tokens, held, shown in zip(prompts, completions, ids, references, images, strict=True):
        size = None if tokens is None else len(tokens)
        batch.add(prompt, completion, as_reference(held), shown, tokens=size)
    return batch


def _call(hub: Target, run: str, columns: Mapping[str, Any]) -> Call:
    step = getattr(columns.get("trainer_state"), "global_step", None)
    return Call(recipe=hub.recipe, run=run, step=step, details=hub.on_failure == "raise")
