"""The cheap look at a tree before anything is compared: no power, factorial or binomial past the limits."""

from rewardhub.verifiers.mathlib.canonical import canonical
from rewardhub.verifiers.mathlib.limits import TooLarge, Undecided
from rewardhub.verifiers.mathlib.numeric import symbols, value_of
from rewardhub.verifiers.mathlib.tree import Add, Call, Div, Neg, Node, Num, Pow, walk

_SMALL = 32
_HIGH = 10_000
_GROWING = frozenset({"factorial", "binom"})


def screen(node: Node) -> None:
    """Raises ``TooLarge`` if some part of the tree, however deep, exceeds the size of a number."""
    for each in walk(node):
        if isinstance(each, Pow) and not _harmless(each):
            _sized(each)
            if isinstance(each.exponent, Num) and abs(each.exponent.value.numerator) > _HIGH:
                _single(each.base)
        elif isinstance(each, Call) and each.name in _GROWING:
            _sized(each)


def _sized(node: Node) -> None:
    """Works the power out exactly, or to 40 digits, where either is possible."""
    try:
        canonical(node)
    except Undecided:
        value_of(node)
    else:
        if not symbols(node):
            value_of(node)


def _single(base: Node) -> None:
    if isinstance(base, Add) and symbols(base):
        raise TooLarge(f"a sum to a power of more than {_HIGH}")


def _harmless(node: Pow) -> bool:
    """A small literal exponent, or a root."""
    exponent = node.exponent.value if isinstance(node.exponent, Neg) else node.exponent
    if isinstance(exponent, Div):
        return isinstance(exponent.top, Num) and exponent.top.value == 1 and isinstance(exponent.bottom, Num)
    return isinstance(exponent, Num) and isinstance(exponent.value, int) and exponent.value <= _SMALL
