"""The typed tree that the grammar makes. Nodes hold values only; nothing here evaluates."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TypeAlias

Rational: TypeAlias = int | Fraction


@dataclass(slots=True)
class Num:
    """An exact rational; ``decimal`` if it was written with a decimal point."""

    value: Rational
    decimal: bool = False


@dataclass(slots=True)
class Const:
    """``pi``, ``e``, ``i`` or ``oo``."""

    name: str


@dataclass(slots=True)
class Sym:
    """A variable; a subscript is part of its name."""

    name: str


@dataclass(slots=True)
class Add:
    terms: "tuple[Node, ...]"


@dataclass(slots=True)
class Neg:
    value: "Node"


@dataclass(slots=True)
class Mul:
    factors: "tuple[Node, ...]"


@dataclass(slots=True)
class Div:
    top: "Node"
    bottom: "Node"


@dataclass(slots=True)
class Pow:
    base: "Node"
    exponent: "Node"


@dataclass(slots=True)
class Call:
    """A function of the grammar's allow-list, or ``f(x)`` of an unknown one (``name`` starts with ``?``)."""

    name: str
    args: "tuple[Node, ...]"


@dataclass(slots=True)
class PlusMinus:
    """``left ± right``: both values."""

    left: "Node"
    right: "Node"


@dataclass(slots=True)
class Percent:
    value: "Node"


@dataclass(slots=True)
class Quantity:
    """A value with its unit as written."""

    value: "Node"
    unit: str


@dataclass(slots=True)
class Seq:
    """Items between brackets; bare lists have empty brackets. Intervals are pairs: ``(1,2]``."""

    opening: str
    items: "tuple[Node, ...]"
    closing: str


@dataclass(slots=True)
class Matrix:
    rows: "tuple[tuple[Node, ...], ...]"


@dataclass(slots=True)
class Relation:
    """``sides[0] ops[0] sides[1] ops[1] …``; operators are ``= < > <= >= != in ~ →``."""

    ops: tuple[str, ...]
    sides: "tuple[Node, ...]"


@dataclass(slots=True)
class Text:
    """Words inside mathematics."""

    words: str


Node: TypeAlias = (
    Num | Const | Sym | Add | Neg | Mul | Div | Pow | Call | PlusMinus | Percent | Quantity | Seq | Matrix
    | Relation | Text
)  # fmt: skip


def children(node: Node) -> tuple[Node, ...]:
    """The direct parts of a node, in order."""
    match node:
        case Add(terms=parts) | Mul(factors=parts) | Call(args=parts) | Seq(items=parts):
            return parts
        case Relation(sides=parts):
            return parts
        case Neg(value=part) | Percent(value=part) | Quantity(value=part):
            return (part,)
        case Div(top=one, bottom=two) | Pow(base=one, exponent=two) | PlusMinus(left=one, right=two):
            return (one, two)
        case Matrix(rows=rows):
            return tuple(entry for row in rows for entry in row)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it, parents first."""
    stack = [node]
    while stack:
        each = stack.pop()
        yield each
        stack.extend(children(each))


def larger(node: Node, limit: int) -> bool:
    """Whether the tree has more than ``limit`` nodes; looks at no more than that."""
    return next(islice(walk(node), limit, None), None) is not None


def depth(node: Node) -> int:
    """The longest path down the tree, in nodes."""
    level, count = [node], 0
    while level:
        count += 1
        level = [part for each in level for part in children(each)]
    return count


def rebuilt(node: Node, parts: tuple[Node, ...]) -> Node:
    """The same node over other parts, in the order of :func:`children`."""
    match node:
        case Add():
            return Add(parts)
        case Mul():
            return Mul(parts)
        case Call(name=name):
            return Call(name, parts)
        case Seq(opening=opening, closing=closing):
            return Seq(opening, parts, closing)
        case Relation(ops=ops):
            return Relation(ops, parts)
        case Neg():
            return Neg(parts[0])
        case Percent():
            return Percent(parts[0])
        case Quantity(unit=unit):
            return Quantity(parts[0], unit)
        case Div():
            return Div(*parts)
        case Pow():
            return Pow(*parts)
        case PlusMinus():
            return PlusMinus(*parts)
        case Matrix(rows=rows):
            width = len(rows[0])
            return Matrix(tuple(parts[at : at + width] for at in range(0, len(parts), width)))
    return node
