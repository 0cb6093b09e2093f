"""The pins of runs: a run's first use of a recipe fixes its version."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from rewardhub.errors import PinMismatch
from rewardhub.scorer import Ask
from rewardhub.types import Column

PINS_KEPT = 10_000
"""Pins of one tenant; the least recently used goes first, and never another tenant's."""

Key = tuple[str, str]
Pin = tuple[str, ...]
"""What a recipe and each of its scorers are known by, "" for a model that was not loaded yet."""


@dataclass(slots=True)
class Pins:
    """By tenant, then by run and recipe: what it is held to, and the fingerprint that its last scores had."""

    _held: dict[str, OrderedDict[Key, tuple[Pin, str]]] = field(default_factory=dict)

    def hold(self, tenant: str, key: Key, pin: Pin, fingerprint: str, *, anew: bool = False) -> None:
        """Holds the run to ``pin``, ``anew`` whatever it was held to; what was not known is added.

        Raises ``PinMismatch`` naming both fingerprints.
        """
        held = self._held.setdefault(tenant, OrderedDict())
        before = held.get(key)
        if before is not None and not anew:
            if not _agree(before[0], pin):
                run, recipe = key
                raise PinMismatch(
                    f"run {run!r} pinned {recipe!r} at {before[1]}, the hub now has {fingerprint}; "
                    "send repin to accept it",
                    field="run",
                )
            pin = tuple(now or then for then, now in zip(before[0], pin, strict=True))
        held[key] = pin, fingerprint
        held.move_to_end(key)
        if len(held) > PINS_KEPT:
            held.popitem(last=False)


def held_to(column: Column, ask: Ask, versions: Mapping[str, str]) -> Column:
    """The column, or a refusal where its model was exchanged since the run's group began with its ``versions``.

    A worker that ended, or slept, loads what now lies on the disk.
    """
    name = ask.bound.info.name
    begun = versions.get(name)
    if not begun or column.fingerprint in ("", begun):
        return column
    reason = f"the run began with {name} at {begun}, the hub now has {column.fingerprint}; send repin to accept it"
    return PinMismatch(reason, field="run").column(len(column))


def _agree(held: Pin, pin: Pin) -> bool:
    return len(held) == len(pin) and all(then == now or not (then and now) for then, now in zip(held, pin, strict=True))
