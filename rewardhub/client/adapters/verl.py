"""verl: ``reward.custom_reward_function.path=.../rewardhub/client/adapters/verl.py``, ``name=compute_score``.

Recipe and hub come through ``reward_kwargs`` (``url``, ``recipe``, ``api_key``, ``timeout_s``,
``on_failure``, ``parts``) or the environment. Tested with recorded arguments, not with verl itself.

verl's manager ``rate_limited`` counts an error as 0: choose another.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rewardhub.client.adapters.connection import Target, target_of
from rewardhub.client.adapters.rollouts import Batch
from rewardhub.client.failure import failure_of
from rewardhub.types import Call, Group, GroupScores, Json
from rewardhub.wire.samples import as_reference

_EXTRA = ("prompt", "question")


async def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Json | None = None, **options: Any
) -> dict[str, float]:
    """The score of one sample: ``{"score": …, "ok": 1.0, "cached": 0.0 or 1.0}`` and one number per name
    in ``parts``, NaN where a part was skipped; always the same keys, always plain numbers.

    ``extra_info`` may hold ``prompt`` (or ``question``) and ``images``. Raises ``ScoringFailed`` unless
    ``on_failure`` is a number.
    """
    hub = target_of(options)
    group = _group(0, data_source, solution_str, ground_truth, extra_info)
    (scores,) = await hub.async_client().score([group], _call(hub))
    return _row(scores, 0, options.get("parts", ()))


def compute_score_sync(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Json | None = None, **options: Any
) -> dict[str, float]:
    """The same, for reward managers that do not await."""
    hub = target_of(options)
    group = _group(0, data_source, solution_str, ground_truth, extra_info)
    (scores,) = hub.client().score([group], _call(hub))
    return _row(scores, 0, options.get("parts", ()))


def compute_score_batch(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[Any],
    extra_infos: Sequence[Json | None] | None = None,
    **options: Any,
) -> list[dict[str, float]]:
    """The same for a batch (``reward_manager=batch``), in one call of the hub."""
    hub = target_of(options)
    extras = extra_infos if extra_infos is not None else [None] * len(solution_strs)
    rows = zip(data_sources, solution_strs, ground_truths, extras, strict=True)
    groups = [_group(n, source, text, truth, extra) for n, (source, text, truth, extra) in enumerate(rows)]
    return [_row(scores, 0, options.get("parts", ())) for scores in hub.client().score(groups, _call(hub))]


def _group(place: int, data_source: str, text: str, truth: Any, extra: Json | None) -> Group:
    extra = extra or {}
    prompt = next((extra[name] for name in _EXTRA if extra.get(name) is not None), "")
    told = prompt if isinstance(prompt, str) else list(prompt)
    batch = Batch()
    batch.add(told, text, as_reference(truth), extra.get("images"), metadata={"data_source": data_source})
    (group,) = batch.groups.values()
    return replace(group, id=str(place))


def _call(hub: Target) -> Call:
    return Call(recipe=hub.recipe, details=isinstance(hub.on_failure, str))


def _row(scores: GroupScores, row: int, parts: Sequence[str]) -> dict[str, float]:
    score = scores[row]
    if score.value is None:
        raise failure_of(scores, row)  # verl averages what it gets: there is no number for "none"
    numbers = {"score": score.value, "ok": float(score.status == "ok"), "cached": float(score.cached)}
    return numbers | {name: _value(score.parts, name) for name in parts}


def _value(parts: Mapping[str, Any], name: str) -> float:
    value = parts[name].value if name in parts else None
    return math.nan if value is None else float(value)
