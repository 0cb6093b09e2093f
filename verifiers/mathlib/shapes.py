"""Trees brought into the shape that is compared: ± written out, matrices scaled, units set aside."""

from collections.abc import Callable
from itertools import chain

from rewardhub.verifiers.mathlib.tree import (
    Add,
    Call,
    Div,
    Matrix,
    Mul,
    Neg,
    Node,
    PlusMinus,
    Pow,
    Quantity,
    Relation,
    Seq,
    Sym,
    Text,
    children,
    larger,
    rebuilt,
    walk,
)
from rewardhub.verifiers.mathlib.units import canonical_unit

_HEDGES = frozenset({"or", "not", "maybe", "perhaps", "either", "if", "unless", "except", "possibly"})
_ENTRIES = 1_000
"""Products of entries in a product of two matrices."""
_NODES = 10_000
"""Nodes of a product of matrices."""
_REMARKS = frozenset({"about", "approximately", "approx", "exactly", "roughly", "around", "nearly"})


def expanded(node: Node) -> Node:
    """``a ± b`` as the list ``a+b, a-b``, inside lists and sets too; scaled and summed matrices as one."""
    if not any(isinstance(each, PlusMinus | Matrix) for each in walk(node)):
        return node
    if isinstance(node, Seq):
        items = [_listed(expanded(item)) for item in node.items]
        return Seq(node.opening, tuple(chain.from_iterable(items)), node.closing)
    if isinstance(node, Quantity):
        return Quantity(expanded(node.value), node.unit)
    if isinstance(node, Mul) and unitless(node) is not node:
        return expanded(unitless(node))
    if isinstance(node, Relation) and isinstance(node.sides[-1], Seq):
        return Relation(node.ops, (*node.sides[:-1], expanded(node.sides[-1])))
    if any(isinstance(each, PlusMinus) for each in walk(node)):
        return Seq("", (_signed(node, 1), _signed(node, -1)), "")
    return _matrix(node)


def _determinant(rows: tuple[tuple[Node, ...], ...]) -> Node:
    """By cofactors of the first row; for matrices of at most four rows."""
    if len(rows) == 1:
        return rows[0][0]
    terms: list[Node] = []
    for column, entry in enumerate(rows[0]):
        minor = _determinant(tuple(row[:column] + row[column + 1 :] for row in rows[1:]))
        terms.append(Mul((entry, minor)) if column % 2 == 0 else Neg(Mul((entry, minor))))
    return Add(tuple(terms))


def _listed(node: Node) -> tuple[Node, ...]:
    return node.items if isinstance(node, Seq) and not node.opening and not node.closing else (node,)


def _signed(node: Node, sign: int) -> Node:
    if isinstance(node, PlusMinus):
        left, right = _signed(node.left, sign), _signed(node.right, sign)
        return Add((left, right if sign > 0 else Neg(right)))
    parts = children(node)
    return rebuilt(node, tuple(_signed(part, sign) for part in parts)) if parts else node


def _matrix(node: Node) -> Node:
    """``k·M``, ``-M``, ``M/k``, sums of matrices of one shape and products, carried out entry by entry."""
    if isinstance(node, Relation):
        return Relation(node.ops, tuple(_matrix(side) for side in node.sides))
    if isinstance(node, Neg) and isinstance(inner := _matrix(node.value), Matrix):
        return _each(inner, Neg)
    if isinstance(node, Div) and isinstance(inner := _matrix(node.top), Matrix):
        return _each(inner, lambda entry: Div(entry, node.bottom))
    if isinstance(node, Call) and node.name == "det" and isinstance(inner := node.args[0], Matrix):
        return _determinant(inner.rows) if len(inner.rows) == len(inner.rows[0]) <= 4 else node
    if isinstance(node, Pow) and isinstance(node.base, Matrix) and node.exponent == Sym("T"):
        return Matrix(tuple(zip(*node.base.rows, strict=True)))
    if isinstance(node, Add):
        return _summed(node)
    return _multiplied(node) if isinstance(node, Mul) else node


def _summed(node: Add) -> Node:
    terms = [_matrix(term) for term in node.terms]
    tables = [term.rows for term in terms if isinstance(term, Matrix)]
    if len(tables) < len(terms) or len({(len(table), len(table[0])) for table in tables}) > 1:
        return node
    return Matrix(
        tuple(tuple(Add(entries) for entries in zip(*rows, strict=True)) for rows in zip(*tables, strict=True))
    )


def _multiplied(node: Mul) -> Node:
    """Scalars times the matrices, which are multiplied in their order."""
    factors = [_matrix(factor) for factor in node.factors]
    matrices = [factor for factor in factors if isinstance(factor, Matrix)]
    rest = tuple(factor for factor in factors if not isinstance(factor, Matrix))
    if not matrices:
        return node
    total = matrices[0]
    for matrix in matrices[1:]:
        if (
            len(total.rows[0]) != len(matrix.rows)
            or len(total.rows) * len(matrix.rows) * len(matrix.rows[0]) > _ENTRIES
        ):
            return node
        columns = tuple(zip(*matrix.rows, strict=True))
        total = Matrix(tuple(tuple(_dot(row, column) for column in columns) for row in total.rows))
        if larger(total, _NODES):
            return node
    return _each(total, lambda entry: Mul((*rest, entry))) if rest else total


def _dot(row: tuple[Node, ...], column: tuple[Node, ...]) -> Node:
    return Add(tuple(Mul(pair) for pair in zip(row, column, strict=True)))


def _each(matrix: Matrix, make: Callable[[Node], Node]) -> Matrix:
    return Matrix(tuple(tuple(make(entry) for entry in row) for row in matrix.rows))


def unit_of(node: Node) -> str:
    """The unit in one spelling; empty where there is none."""
    if isinstance(node, Quantity):
        return canonical_unit(node.unit)
    if isinstance(node, Mul) and isinstance(node.factors[-1], Text):
        return canonical_unit(node.factors[-1].words)
    return ""


def unitless(node: Node) -> Node:
    """The value without its unit, trailing words or a leading "about"; words that hedge stay."""
    while True:
        if isinstance(node, Quantity):
            node = node.value
        elif (
            isinstance(node, Neg) and isinstance(node.value, Quantity | Mul) and unitless(node.value) is not node.value
        ):
            node = Neg(unitless(node.value))
        elif isinstance(node, Mul) and len(node.factors) > 1 and _droppable(node.factors[-1]):
            node = _product(node.factors[:-1])
        elif isinstance(node, Mul) and isinstance(node.factors[0], Text) and _remark(node.factors[0]):
            node = _product(node.factors[1:])
        else:
            return node


def _product(factors: tuple[Node, ...]) -> Node:
    return factors[0] if len(factors) == 1 else Mul(factors)


def _droppable(node: Node) -> bool:
    if not isinstance(node, Text):
        return False
    words = node.words.lower().replace("(", " ").replace(")", " ").split()
    return not _HEDGES.intersection(words) and not any(map(str.isdigit, node.words))


def _remark(node: Text) -> bool:
    return node.words.lower().strip(" .") in _REMARKS
