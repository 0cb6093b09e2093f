"""The cheap look at a tree before anything is compared: no power, factorial or binomial past the limits."""

from rewardhub.verifiers.mathlib.canonical import canonical
from rewardhub.verifiers.mathlib.limits import Undecided
from rewardhub.verifiers.mathlib.tree import Call, Const, Div, Node, Num, Pow, Sym, walk

_SMALL = 32
_GROWING = frozenset({"factorial", "binom"})


def screen(node: Node) -> None:
    """Raises ``TooLarge`` if some part of the tree, however deep, exceeds the size of a number."""
    for each in walk(node):
        if (isinstance(each, Pow) and not _harmless(each)) or (isinstance(each, Call) and each.name in _GROWING):
            try:
                canonical(each)
            except Undecided:
                continue


def _harmless(node: Pow) -> bool:
    """A small literal exponent on a literal or a variable, or a root."""
    exponent = node.exponent
    if isinstance(exponent, Div):
        return isinstance(exponent.top, Num) and exponent.top.value == 1 and isinstance(exponent.bottom, Num)
    return (
        isinstance(exponent, Num) and -_SMALL <= exponent.value <= _SMALL and isinstance(node.base, Num | Sym | Const)
    )
