"""``external``: a number that something outside already knows, passed through."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from rewardhub.errors import ConfigError, InvalidInput, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status

LARGEST = 1e9

_Finite = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]


@verifier(
    "external",
    range=(-LARGEST, LARGEST),
    examples=(
        Example(Response(signals={"reward": 1.0}), {}, 1.0),
        Example(Response(signals={"reward": -0.25}), {}, -0.25),
        Example(Response(signals={"sharpe": 0.5}), {}, 0.5, {"name": "sharpe"}),
        Example("won", {"reward": 300}, 0.5, {"source": "reference", "zero": 100.0, "one": 500.0}),
        Example(Response(signals={"reward": math.nan}), {}, None, status=Status.INVALID_INPUT),
        Example("no signal", {}, None, status=Status.INVALID_INPUT),
    ),
)
def external(
    response: Response, reference: Json, *,
    source: Literal["signal", "reference"] = "signal",
    name: str = "reward",
    zero: _Finite = 0.0,
    one: _Finite = 1.0,
) -> Score:  # fmt: skip
    """The trainer's signal ``name`` of the response, or ``reference[name]``, unchanged, in [-1e9, 1e9].

    For what only an environment knows: success, a game's score, a Sharpe ratio. ``zero`` and ``one`` are the
    values that become 0 and 1 (the human-normalised score of Atari: a random player's and a human's).
    Raises ``InvalidInput`` for a signal, and ``ReferenceUnparseable`` for a reference, that is missing or no
    finite number.
    """
    if zero == one:
        raise ConfigError("external: zero and one must differ", field="one")
    known: Any = response.signals.get(name) if source == "signal" else reference.get(name)
    kind = isinstance(known, int | float) and not isinstance(known, bool)
    value = (known - zero) / (one - zero) if kind and abs(known) <= LARGEST else math.nan
    if not abs(value) <= LARGEST:
        field = f"signals.{name}" if source == "signal" else f"reference.{name}"
        error = InvalidInput if source == "signal" else ReferenceUnparseable
        raise error(f"{field} must be a finite number", field=field)
    return Score(float(value))
