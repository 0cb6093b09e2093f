"""Inequalities in one variable as intervals, and unions of intervals in one order."""

from fractions import Fraction

from rewardhub.verifiers.mathlib.numeric import symbols, value_of
from rewardhub.verifiers.mathlib.tree import Call, Const, Neg, Node, Relation, Seq, Sym

_LESS = {"<": "(", "<=": "["}
_MORE = {">": "(", ">=": "["}
_CLOSE = {"(": ")", "[": "]"}
_INFINITY = Const("oo")
_Edge = tuple[float | Fraction, int]


def as_set(node: Relation) -> Node | None:
    """``1 < x <= 2`` as (1,2], ``x > 2`` as (2,oo), ``x != 0`` as a union, ``x in S`` as S; else None."""
    ops, sides = node.ops, node.sides
    if any(op in _MORE for op in ops) and not any(op in _LESS for op in ops):
        flip = {">": "<", ">=": "<="}
        ops, sides = tuple(flip.get(op, op) for op in reversed(ops)), tuple(reversed(sides))
    if any(_is_distance(side) for side in sides):
        return _mirrored(ops, sides)
    if ops == ("in",) and _is_name(sides[0]):
        return sides[1]
    if ops == ("!=",) and _is_name(sides[0]) and not symbols(sides[1]):
        return Call("union", (_interval("(", Neg(_INFINITY), sides[1], ")"), _interval("(", sides[1], _INFINITY, ")")))
    if not set(ops) <= set(_LESS):
        return None
    if len(ops) == 2 and _is_name(sides[1]) and not symbols(sides[0]) and not symbols(sides[2]):
        return _interval(_LESS[ops[0]], sides[0], sides[2], _CLOSE[_LESS[ops[1]]])
    if len(ops) == 1 and _is_name(sides[0]) and not symbols(sides[1]):
        return _interval("(", Neg(_INFINITY), sides[1], _CLOSE[_LESS[ops[0]]])
    if len(ops) == 1 and _is_name(sides[1]) and not symbols(sides[0]):
        return _interval(_LESS[ops[0]], sides[0], _INFINITY, ")")
    return None


def _is_distance(node: Node) -> bool:
    """``|x|``"""
    return isinstance(node, Call) and node.name == "abs" and isinstance(node.args[0], Sym)


def _mirrored(ops: tuple[str, ...], sides: tuple[Node, ...]) -> Node | None:
    """``|x| < 3`` as (-3,3), ``1 <= |x| <= 3`` as [-3,-1] and [1,3]; None where a bound is not positive."""
    bounds = [side for side in sides if not _is_distance(side)]
    values = [None if symbols(bound) else value_of(bound) for bound in bounds]
    if len(bounds) != len(ops) or not set(ops) <= set(_LESS) or any(not value or value < 0 for value in values):
        return None
    if _is_distance(sides[0]):
        return _interval(_LESS[ops[0]], Neg(sides[1]), sides[1], _CLOSE[_LESS[ops[0]]])
    opening = _LESS[ops[0]]
    outer, closing = (sides[2], _CLOSE[_LESS[ops[1]]]) if len(ops) == 2 else (_INFINITY, ")")
    mirror = _interval("(" if closing == ")" else "[", Neg(outer), Neg(sides[0]), _CLOSE[opening])
    return Call("union", (mirror, _interval(opening, sides[0], outer, closing)))


def _is_name(node: Node) -> bool:
    """A variable, or an unknown function of one: ``x``, ``f(x)``."""
    return isinstance(node, Sym) or (isinstance(node, Call) and node.name.startswith("?"))


def _interval(opening: str, low: Node, high: Node, closing: str) -> Seq:
    return Seq(opening, (low, high), closing)


def is_interval(node: Node) -> bool:
    return isinstance(node, Seq) and len(node.items) == 2 and node.opening in {"(", "["} and node.closing in {")", "]"}


def opened(node: Seq) -> Seq:
    """An interval with every infinite end open: ``[-oo, 3]`` is (-oo,3]."""
    if not is_interval(node):
        return node
    low, high = node.items
    opening = "(" if low == Neg(_INFINITY) else node.opening
    return Seq(opening, node.items, ")" if high == _INFINITY else node.closing)


def parts(node: Node) -> list[Node]:
    """The members of a union, flattened; anything else is its only member."""
    if isinstance(node, Call) and node.name == "union":
        return [part for arg in node.args for part in parts(arg)]
    return [node]


def spans(node: Node) -> list[tuple[_Edge, _Edge]] | None:
    """A union of real intervals as sorted, merged edges ``(value, side)``; None where it is not one.

    ``side`` orders edges at one value: an open left edge and a closed right edge lie just above it.
    """
    found: list[tuple[_Edge, _Edge]] = []
    for part in parts(node):
        if isinstance(part, Call) and part.name == "difference":
            whole, without = spans(part.args[0]), spans(part.args[1])
            if whole is None or without is None:
                return None
            found += _without(whole, without)
        elif isinstance(part, Seq) and part.opening == "{":
            points = [_edge(item) for item in part.items]
            found += [((point, 0), (point, 1)) for point in points if point is not None]
            if None in points:
                return None
        elif is_interval(part) and isinstance(part, Seq):
            low, high = _edge(part.items[0]), _edge(part.items[1])
            if low is None or high is None:
                return None
            left, right = (low, int(part.opening == "(")), (high, int(part.closing == "]"))
            if left < right:
                found.append((left, right))
        else:
            return None
    return _merged(sorted(found))


def _without(whole: list[tuple[_Edge, _Edge]], holes: list[tuple[_Edge, _Edge]]) -> list[tuple[_Edge, _Edge]]:
    """Sorted edges of ``whole`` without the sorted ``holes``."""
    for begin, end in holes:
        cut = [pair for left, right in whole for pair in ((left, min(right, begin)), (max(left, end), right))]
        whole = [(left, right) for left, right in cut if left < right]
    return whole


def _merged(found: list[tuple[_Edge, _Edge]]) -> list[tuple[_Edge, _Edge]]:
    out: list[tuple[_Edge, _Edge]] = []
    for left, right in found:
        if out and left <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], right))
        else:
            out.append((left, right))
    return out


def _edge(node: Node) -> float | Fraction | None:
    if isinstance(node, Neg) and node.value == _INFINITY:
        return float("-inf")
    if node == _INFINITY:
        return float("inf")
    return value_of(node)
