"""verifiers (its legacy ``Rubric``): ``Rubric(funcs=[reward("math")])``.

The function takes what a rubric passes by name. Tested with recorded arguments, not with the package.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from rewardhub.client.adapters.connection import target
from rewardhub.client.adapters.rollouts import Batch, Chat
from rewardhub.client.failure import OnFailure, failure_of
from rewardhub.client.parts import as_reference
from rewardhub.types import Call


def reward(
    recipe: str = "",
    *,
    url: str = "",
    api_key: str | None = None,
    timeout_s: float = 120.0,
    on_failure: OnFailure = "raise",
) -> Callable[..., Coroutine[Any, Any, float]]:
    """A rubric function named after the recipe; it raises on a score without a value.

    ``answer`` is the reference; an object under ``info["reference"]`` wins.
    """
    hub = target(recipe, url, api_key, timeout_s, on_failure)

    async def scored(completion: Chat, answer: Any = None, prompt: Chat = "", info: Any = None, **_: Any) -> float:
        held = (info or {}).get("reference", answer)
        batch = Batch()
        batch.add(prompt, completion, as_reference(held), (info or {}).get("images"))
        (scores,) = await hub.async_client().score(list(batch.groups.values()), Call(recipe=hub.recipe))
        value = scores.values[0]
        if value is None:
            raise failure_of(scores, 0)
        return value

    scored.__name__ = hub.recipe
    return scored


def group_reward(
    recipe: str = "",
    *,
    url: str = "",
    api_key: str | None = None,
    timeout_s: float = 120.0,
    on_failure: OnFailure = "raise",
) -> Callable[..., Coroutine[Any, Any, list[float]]]:
    """The same for a rubric's group functions, which take plurals and return a list."""
    hub = target(recipe, url, api_key, timeout_s, on_failure)

    async def scored(
        completions: Sequence[Chat], answers: Sequence[Any], prompts: Sequence[Chat], **_: Any
    ) -> list[float]:
        batch = Batch()
        for prompt, completion, answer in zip(prompts, completions, answers, strict=True):
            batch.add(prompt, completion, as_reference(answer), ())
        found = await hub.async_client().score(list(batch.groups.values()), Call(recipe=hub.recipe))
        for scores in found:
            if None in scores.values:
                raise failure_of(scores, scores.values.index(None))
        return [float(value) for value in batch.values(found) if value is not None]

    scored.__name__ = f"{hub.recipe}_group"
    return scored
