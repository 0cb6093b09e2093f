"""EasyR1: ``reward_function=.../rewardhub/client/adapters/easyr1.py:compute_score``.

Rewards come in batches: older releases are told so by ``reward_type=batch``, newer ones have no such setting.

Recipe and hub come through ``reward_function_kwargs`` or the environment. EasyR1 hands over no prompt
and no image; put them into a ``ground_truth`` object as ``prompt`` and ``images``. Tested with recorded
arguments, not with EasyR1 itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rewardhub.client.adapters.connection import target_of
from rewardhub.client.failure import failure_of
from rewardhub.client.parts import make_group
from rewardhub.types import Call, Group, Response
from rewardhub.wire.samples import as_reference


def compute_score(reward_inputs: Sequence[Mapping[str, Any]], **options: Any) -> list[dict[str, float]]:
    """``{"overall": value}`` per input ``{"response", "response_length", "ground_truth"}``.

    Raises ``ScoringFailed`` on a score without a value, unless ``on_failure`` is a number.
    """
    hub = target_of(options)
    groups = [_group(place, each) for place, each in enumerate(reward_inputs)]
    rows: list[dict[str, float]] = []
    for scores in hub.client().score(groups, Call(recipe=hub.recipe)):
        value = scores.values[0]
        if value is None:
            raise failure_of(scores, 0)
        rows.append({"overall": value})
    return rows


def _group(place: int, row: Mapping[str, Any]) -> Group:
    reference = dict(as_reference(row["ground_truth"]))
    prompt, images = reference.pop("prompt", ""), reference.pop("images", ())
    response = Response(row["response"], tokens=int(row.get("response_length") or 0) or None)
    return make_group([response], prompt=prompt, reference=reference, images=images, group_id=str(place))
