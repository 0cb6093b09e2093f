"""Controls: rewards that know nothing, beside which a scorer's figure is read.

They are :class:`~rewardhub.types.Rewards`, so they run through the same line as a hub.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rewardhub.errors import UnknownName
from rewardhub.types import Call, Column, Group, GroupScores, Response, Status


@dataclass(frozen=True, slots=True)
class Control:
    """Scores a response by a function of its group and text; every status is ``ok``."""

    name: str
    value: Callable[[Group, Response], float]
    version: int = 1

    def score(self, groups: Sequence[Group], call: Call) -> list[GroupScores]:
        return list(self.stream(groups, call))

    def stream(self, groups: Iterable[Group], call: Call) -> Iterator[GroupScores]:
        for group in groups:
            values: list[float | None] = [self.value(group, response) for response in group.responses]
            rows = len(values)
            column = Column(values, [Status.OK] * rows, f"control:{self.name}:{self.version}")
            yield GroupScores(group.id, column, indices=list(range(rows)))


def control(name: str, *, seed: int = 0) -> Control:
    """``length`` is the number of characters, ``shortest`` its negative, ``random`` a seeded draw.

    The draw is uniform in [0, 1) and depends on seed, prompt and response only, so that it is the
    same in both orders and in any batch. Raises ``UnknownName``.
    """
    values: dict[str, Callable[[Group, Response], float]] = {
        "length": lambda _, response: float(len(response.text)),
        "shortest": lambda _, response: -float(len(response.text)),
        "random": lambda group, response: _draw(seed, group, response),
    }
    if name not in values:
        raise UnknownName("control", name, CONTROLS, field="scorer")
    return Control(name if name != "random" else f"random:{seed}", values[name])


CONTROLS = ("length", "shortest", "random")


def _draw(seed: int, group: Group, response: Response) -> float:
    content = json.dumps([seed, group.prompt, response.text]).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:6], "big") / 2**48
