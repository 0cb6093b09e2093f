"""verifiers (its legacy ``Rubric``): ``Rubric(funcs=[reward("math")])``.

The function takes what a rubric passes by name. A rubric counts a function that raises as 0, so that a failure is
written into the ``error`` of the state too, by which trainers leave the rollout out. Tested with recorded
arguments, not with the package.
"""

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from rewardhub.client.adapters.connection import target
from rewardhub.client.adapters.rollouts import Batch, Chat
from rewardhub.client.failure import OnFailure, failure_of
from rewardhub.types import Call
from rewardhub.wire.samples import as_reference


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

    async def scored(
        completion: Chat, answer: Any = None, prompt: Chat = "", info: Any = None, state: Any = None, **_: Any
    ) -> float:
        with _failing([state]):
            told = info if isinstance(info, Mapping) else {}
            batch = Batch()
            batch.add(prompt, completion, as_reference(told.get("reference", answer)), told.get("images"))
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
        completions: Sequence[Chat], answers: Sequence[Any], prompts: Sequence[Chat], states: Any = (), **_: Any
    ) -> list[float]:
        with _failing(states):
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


@contextmanager
def _failing(states: Sequence[Any]) -> Iterator[None]:
    """Writes an error into each state that has none yet, as the package's own environments do, and raises it on."""
    try:
        yield
    except Exception as error:
        for state in states:
            if state is not None and state.get("error") is None:
                state["error"] = _their_kind()(str(error))
        raise


def _their_kind() -> type[Exception]:
    for name in ("verifiers", "verifiers.legacy"):
        try:
            return import_module(name).InfraError  # type: ignore[no-any-return]
        except (ImportError, AttributeError):
            continue
    return RuntimeError
