"""The remote reward model of slime and its forks: ``--rm-type remote_rm --rm-url`` with an address.

Request: ``{"prompt": text or messages, "response": text, "label": text}``; response: the reward, a bare number.
There is no word for a failure: a failed score fails the request, which is sent again.
"""

from collections.abc import Mapping
from typing import Any

from rewardhub.errors import InvalidInput
from rewardhub.server.compat.values import values_of
from rewardhub.types import GroupScores
from rewardhub.wire.fields import expect
from rewardhub.wire.samples import as_reference


def groups(body: Any) -> list[Mapping[str, Any]]:
    """The group of the sample; raises ``InvalidInput`` that names the field at fault."""
    data = expect(body, dict, "body")
    if data.get("response") is None:
        raise InvalidInput("response is missing, expected text", field="response")
    text = expect(data["response"], str, "response")
    return [{"prompt": data.get("prompt"), "reference": as_reference(data.get("label")), "responses": [text]}]


def reply(answers: list[GroupScores], _: Any) -> Any:
    """The number; raises the error of a score without one."""
    (value,) = values_of(answers)
    return value
