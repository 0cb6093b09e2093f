"""The pins of runs: a run's first use of a recipe fixes its version."""

from collections import OrderedDict
from dataclasses import dataclass, field

from rewardhub.errors import PinMismatch

PINS_KEPT = 10_000
"""Pins of one tenant; the least recently used goes first, and never another tenant's."""

Key = tuple[str, str]


@dataclass(slots=True)
class Pins:
    """By tenant, then by run and recipe: what it is held to, and the fingerprint that its last scores had."""

    _held: dict[str, OrderedDict[Key, tuple[str, str]]] = field(default_factory=dict)

    def hold(self, tenant: str, key: Key, pin: str, fingerprint: str, *, anew: bool = False) -> None:
        """Holds the run to ``pin``, ``anew`` whatever it was held to.

        Raises ``PinMismatch`` naming both fingerprints.
        """
        held = self._held.setdefault(tenant, OrderedDict())
        before = held.get(key)
        if before is not None and before[0] != pin and not anew:
            run, recipe = key
            raise PinMismatch(
                f"run {run!r} pinned {recipe!r} at {before[1]}, the hub now has {fingerprint}; send repin to accept it",
                field="run",
            )
        held[key] = pin, fingerprint
        held.move_to_end(key)
        if len(held) > PINS_KEPT:
            held.popitem(last=False)
