"""OpenRLHF's remote reward model: ``--reward.remote_url`` (``--remote_rm_url`` before) with an address.

Request: ``{"query": [prompt and response as decoded], "prompts": [text], "labels": [any]}``; response: ``{"rewards",
"scores", "extra_logs"}`` with a number per query. There is no word for a failure, and a null in a list would fail the
trainer later: a failed score fails the request, which is sent again. Of several addresses all but one get empty lists.
"""

from collections.abc import Mapping
from typing import Any

from rewardhub.errors import InvalidInput
from rewardhub.server.compat.values import values_of
from rewardhub.types import GroupScores
from rewardhub.wire.fields import expect
from rewardhub.wire.samples import as_reference, said


def groups(body: Any) -> list[Mapping[str, Any]]:
    """A group per query; raises ``InvalidInput`` that names the field at fault."""
    data = expect(body, dict, "body")
    for name in ("query", "prompts"):
        if data.get(name) is None:
            raise InvalidInput(f"{name} is missing, expected a list", field=name)
    queries, prompts = expect(data["query"], list, "query"), expect(data["prompts"], list, "prompts")
    labels = expect(data.get("labels") or [None] * len(queries), list, "labels")
    for name, each in (("prompts", prompts), ("labels", labels)):
        if len(each) != len(queries):
            raise InvalidInput(f"{name} has {len(each)} items for {len(queries)} queries", field=name)
    return [_group(n, *row) for n, row in enumerate(zip(queries, prompts, labels, strict=True))]


def reply(answers: list[GroupScores], _: Any) -> Any:
    """The answer; raises the error of the first score without a value."""
    values = values_of(answers)
    return {"rewards": values, "scores": values, "extra_logs": {"rewardhub": values}}


def _group(place: int, query: Any, prompt: Any, label: Any) -> Mapping[str, Any]:
    asked, where = expect(prompt, str, f"prompts[{place}]"), f"query[{place}]"
    text = said(expect(query, str, where), asked, where)
    return {"prompt": asked, "reference": as_reference(label), "responses": [text]}
