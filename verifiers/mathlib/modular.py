r"""Congruences: ``x \equiv 3 \pmod{7}`` is 3 with the modulus 7, kept like a unit."""

from rewardhub.verifiers.mathlib.cursor import Rules
from rewardhub.verifiers.mathlib.limits import Unparseable
from rewardhub.verifiers.mathlib.tree import Neg, Node, Num, Quantity, Relation

_UNIT = "mod "


def moduli(parser: Rules, value: Node) -> Node:
    r"""``value`` with what ``\pmod``, already taken, puts behind it."""
    base = parser.script()
    if not isinstance(base, Num) or not isinstance(base.value, int) or base.value < 1:
        raise Unparseable("a modulus that is no number")
    return Quantity(value, f"{_UNIT}{base.value}")


def modulus(node: Node) -> int | None:
    """The modulus of a congruence or of a value; None where there is none."""
    last = node.sides[-1] if isinstance(node, Relation) else node
    return int(last.unit.removeprefix(_UNIT)) if isinstance(last, Quantity) and last.unit.startswith(_UNIT) else None


def congruent(reference: Node, answer: Node) -> bool | None:
    """Whether two whole values are congruent; None where one is not whole, or no modulus stands on either side.

    A value without a modulus must be the least residue.
    """
    ours, theirs = modulus(reference), modulus(answer)
    one, two = _whole(reference), _whole(answer)
    if (ours is None and theirs is None) or one is None or two is None:
        return None
    if ours and theirs:
        return ours == theirs and (one - two) % ours == 0
    return one == two or (
        (one - two) % (ours or theirs or 1) == 0 and 0 <= (two if ours else one) < (ours or theirs or 1)
    )


def _whole(node: Node) -> int | None:
    value = node.value if isinstance(node, Quantity) else node
    sign = 1
    if isinstance(value, Neg):
        sign, value = -1, value.value
    return sign * value.value if isinstance(value, Num) and isinstance(value.value, int) else None
