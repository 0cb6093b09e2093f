"""OpenRLHF: ``--reward.remote_url .../rewardhub/client/adapters/openrlhf.py``.

Hub and recipe come from the environment. Called on threads, one sample per call. Tested with recorded
arguments, not with OpenRLHF itself.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from rewardhub.client.adapters.connection import target
from rewardhub.client.parts import make_group
from rewardhub.types import Call
from rewardhub.wire.samples import as_reference, said


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any], **_: Any
) -> dict[str, Any]:  # the values are torch tensors, which this package does not import
    """``{"rewards", "scores", "extra_logs"}`` as float tensors with one number per query.

    The response is the query less its prompt and less the end and padding tokens that OpenRLHF decodes
    with it. Raises ``ScoringFailed`` on a score without a value, and ``InvalidInput`` for a query that does not begin
    with its prompt.
    """
    torch = import_module("torch")  # the trainer's own

    hub = target()
    rows = enumerate(zip(queries, prompts, labels, strict=True))
    groups = [
        make_group(
            [said(query, prompt, f"queries[{n}]")], prompt=prompt, reference=as_reference(label), group_id=str(n)
        )
        for n, (query, prompt, label) in rows
    ]
    values = torch.tensor([scores.values[0] for scores in hub.client().score(groups, Call(recipe=hub.recipe))])
    return {"rewards": values, "scores": values, "extra_logs": {"rewardhub": values}}
