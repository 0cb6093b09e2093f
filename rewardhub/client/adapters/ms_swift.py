"""ms-swift: ``--external_plugins .../rewardhub/client/adapters/ms_swift.py --reward_funcs rewardhub``.

Hub and recipe come from the environment. Tested with recorded arguments, not with ms-swift itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rewardhub.client.adapters.connection import target
from rewardhub.client.adapters.rollouts import Batch, Chat, column
from rewardhub.client.adapters.trl import REFERENCES
from rewardhub.client.failure import OnFailure
from rewardhub.types import Call
from rewardhub.wire.samples import as_reference

try:
    from swift.rewards import AsyncORM, orms  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # outside ms-swift, or a release that keeps them elsewhere: register by hand
    AsyncORM, orms = object, {}


class RewardHubORM(AsyncORM):  # type: ignore[misc,unused-ignore]
    """An asynchronous reward. ms-swift may call it in a new event loop each time."""

    def __init__(
        self, args: Any = None, *, recipe: str = "", url: str = "", on_failure: OnFailure = "raise", **kwargs: Any
    ) -> None:
        if AsyncORM is not object:
            super().__init__(args, **kwargs)
        self.hub = target(recipe, url, on_failure=on_failure)

    async def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """One value per completion; None where ``on_failure`` is ``none`` and a score failed."""
        batch = Batch()
        count = len(completions)
        prompts = column(columns, ("messages",), count)
        references = column(columns, REFERENCES, count)
        images = column(columns, ("images",), count)
        for prompt, completion, reference, shown in zip(prompts, completions, references, images, strict=True):
            batch.add(_asked(prompt), completion, as_reference(reference), shown)
        step = getattr(columns.get("trainer_state"), "global_step", None)
        call = Call(recipe=self.hub.recipe, step=step)
        return batch.values(await self.hub.async_client().score(list(batch.groups.values()), call))


def _asked(messages: Sequence[Mapping[str, Any]] | None) -> Chat:
    """The messages without the completion that ms-swift has appended; "<image>" marks stay text."""
    asked = list(messages or ())
    return asked[:-1] if asked and asked[-1].get("role") == "assistant" else asked


orms["rewardhub"] = RewardHubORM
