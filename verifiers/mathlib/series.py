r"""Sums, products, integrals and limits: what is over few whole numbers is written out, the rest is never evaluated."""

from collections.abc import Callable

from rewardhub.verifiers.mathlib.cursor import Rules
from rewardhub.verifiers.mathlib.tree import (
    Add,
    Call,
    Const,
    Mul,
    Node,
    Num,
    Relation,
    Sym,
    children,
    larger,
    rebuilt,
    walk,
)

SERIES = frozenset({"sum", "prod", "int", "iint", "oint", "lim"})
_LONGEST = 64
"""Terms of a sum or product that is written out."""
_LARGEST = 1_000_000
_NODES = 2_000
"""Nodes of what is written out."""


def series(parser: Rules, name: str, argument: Callable[[Rules], Node]) -> Node:
    r"""``\sum`` and the like, already taken, with bounds and body; an unknown function of them if not written out."""
    bounds: dict[str, Node] = {}
    while parser.sees("_", "^"):
        sign = parser.take().text
        bounds[sign] = argument(parser)
    parser.deeper()
    body = parser.sum() if name.endswith("int") else parser.product()
    parser.depth -= 1
    low, high = bounds.get("_"), bounds.get("^")
    return _written_out(name, low, high, body) or Call("?" + name, (*_parts(low), Sym("?to"), *_parts(high), body))


def _parts(bound: Node | None) -> tuple[Node, ...]:
    """What an unknown function can hold: ``k = 0`` as its sides and its sign."""
    if bound is None:
        return ()
    return (*bound.sides, Sym(f"?{''.join(bound.ops)}")) if isinstance(bound, Relation) else (bound,)


def _written_out(name: str, low: Node | None, high: Node | None, body: Node) -> Node | None:
    if name not in {"sum", "prod"} or not isinstance(low, Relation) or low.ops != ("=",):
        return None
    index, first = low.sides
    if not (isinstance(index, Sym | Const) and isinstance(first, Num) and isinstance(high, Num)):
        return None
    begin, end = first.value, high.value
    if not isinstance(begin, int) or not isinstance(end, int) or not 0 <= end - begin < _LONGEST or end > _LARGEST:
        return None
    if larger(body, _NODES // (end - begin + 1)):
        return None
    if any(
        isinstance(each, Sym) and "_" in each.name and index.name in each.name.partition("_")[2] for each in walk(body)
    ):
        return None
    terms = tuple(_put(body, index, Num(value)) for value in range(begin, end + 1))
    return Add(terms) if name == "sum" else Mul(terms)


def _put(node: Node, index: Node, value: Num) -> Node:
    if node == index:
        return value
    parts = children(node)
    return rebuilt(node, tuple(_put(part, index, value) for part in parts)) if parts else node
