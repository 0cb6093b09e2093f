"""Equations and inequalities: unwrapping ``x = 5`` and comparing two relations."""

from rewardhub.verifiers.mathlib.algebra import Mono, Poly, Quotient, multiply
from rewardhub.verifiers.mathlib.limits import Undecided
from rewardhub.verifiers.mathlib.numeric import value_of
from rewardhub.verifiers.mathlib.policy import Policy
from rewardhub.verifiers.mathlib.scalars import Oracle, exact, scalar_equal
from rewardhub.verifiers.mathlib.tree import (
    Add,
    Const,
    Div,
    Mul,
    Neg,
    Node,
    Num,
    Pow,
    Rational,
    Relation,
    Sym,
    Text,
    walk,
)

_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!=", "~": "="}
_EQUATIONS = frozenset({"=", "~"})


def unwrapped(reference: Node, answer: Node, policy: Policy) -> tuple[Node, Node]:
    """Both sides with ``x = 5`` and ``x ∈ S`` read as 5 and S where only one side is a relation."""
    reference, answer = settled(reference), settled(answer)
    if policy.relation == "keep":
        return reference, answer
    if _is_equation(answer) and not isinstance(reference, Relation) and not _contradiction(answer):
        return reference, _value(answer)
    if _is_assignment(reference) and not isinstance(answer, Relation):
        return _value(reference), answer
    return reference, answer


def settled(node: Node) -> Node:
    """``5/3 ≈ 1.67`` is the exact form with a remark, ``\\text{area} = 5`` is 5; ``x ≈ 1.67`` stays."""
    if isinstance(node, Relation) and node.ops[0] == "=" and isinstance(node.sides[0], Text):
        return settled(Relation(node.ops[1:], node.sides[1:])) if len(node.ops) > 1 else node.sides[1]
    if isinstance(node, Relation) and node.ops[-1] == "~" and (len(node.ops) > 1 or not isinstance(node.sides[0], Sym)):
        kept = node.sides[:-1]
        return kept[0] if len(kept) == 1 else Relation(node.ops[:-1], kept)
    return node


def _is_equation(node: Node) -> bool:
    return isinstance(node, Relation) and (set(node.ops) <= _EQUATIONS or node.ops == ("in",))


def _contradiction(node: Node) -> bool:
    """``8 = 10``: an equation between different integers states nothing."""
    if not isinstance(node, Relation) or set(node.ops) != {"="}:
        return False
    values = {side.value for side in node.sides if isinstance(side, Num) and isinstance(side.value, int)}
    return len(values) > 1


def _is_assignment(node: Node) -> bool:
    if not isinstance(node, Relation) or not _is_equation(node):
        return False
    parts = list(walk(node.sides[0]))
    return any(isinstance(part, Sym) for part in parts) and not any(isinstance(part, Num | Const) for part in parts)


def _value(node: Node) -> Node:
    """The last side of an equation; the other one where the last is but a variable, as in ``5 = x``."""
    if not isinstance(node, Relation):
        return node
    turned = node.ops == ("=",) and isinstance(node.sides[1], Sym) and isinstance(node.sides[0], Num)
    return node.sides[0] if turned else node.sides[-1]


def relation_equal(reference: Relation, answer: Relation, policy: Policy, oracle: Oracle) -> bool | None:
    """Equations up to a factor, inequalities up to a positive factor and direction, chains side by side."""
    reference, answer = _shortened(reference), _shortened(answer)
    if "in" in reference.ops or "in" in answer.ops:
        return reference == answer
    if len(reference.ops) != len(answer.ops):
        return False
    if len(reference.ops) > 1:
        return _chains(_upward(reference), _upward(answer), policy, oracle)
    reference, answer = _upward(reference), _upward(answer)
    if reference.ops != answer.ops:
        return False
    return _proportional(reference, answer, policy, oracle)


def _shortened(node: Relation) -> Relation:
    """``a = b = c`` says ``a = c``."""
    if len(node.ops) > 1 and set(node.ops) <= _EQUATIONS:
        return Relation(("=",), (node.sides[0], node.sides[-1]))
    return node


def _upward(node: Relation) -> Relation:
    """The same relation with every > turned into <."""
    ops = tuple("=" if op == "~" else op for op in node.ops)
    if any(op in {">", ">="} for op in ops):
        return Relation(tuple(_FLIPPED.get(op, op) for op in reversed(ops)), tuple(reversed(node.sides)))
    return Relation(ops, node.sides)


def _chains(one: Relation, two: Relation, policy: Policy, oracle: Oracle) -> bool | None:
    if one.ops != two.ops:
        return False
    found = [scalar_equal(a, b, policy, oracle) for a, b in zip(one.sides, two.sides, strict=True)]
    return False if False in found else None if None in found else True


def _proportional(one: Relation, two: Relation, policy: Policy, oracle: Oracle) -> bool | None:
    ours, theirs = _difference(one), _difference(two)
    left, right = exact(ours), exact(theirs)
    if left is not None and right is not None:
        try:
            return _same_up_to_factor(left, right, one.ops[0])
        except Undecided:
            pass
    found = scalar_equal(ours, theirs, policy, oracle)
    if found is not True and one.ops[0] in {"=", "!="}:
        other = scalar_equal(ours, Neg(theirs), policy, oracle)
        found = other if found is False or other else found
    return found


def _difference(node: Relation) -> Node:
    return Add((node.sides[0], Neg(node.sides[1])))


def _same_up_to_factor(one: Quotient, two: Quotient, op: str) -> bool:
    ordered = op in {"<", "<="}
    if ordered and (_symbolic(one.bottom) or _symbolic(two.bottom)):
        raise Undecided("an inequality between fractions")
    if not one.top or not two.top:
        return not one.top and not two.top
    one, two = (
        Quotient(_cleared(one.top, ordered=ordered), one.bottom),
        Quotient(_cleared(two.top, ordered=ordered), two.bottom),
    )
    ours, theirs = _by_symbols(one.top), _by_symbols(two.top)
    if ours.keys() != theirs.keys():
        if all(_known(atom) for atom in one.atoms() | two.atoms()):
            return False
        raise Undecided("other functions")
    first = min(ours, key=str)
    same = multiply(one.top, theirs[first]) == multiply(two.top, ours[first])
    if same and ordered:
        return _sign(ours[first], one.bottom) == _sign(theirs[first], two.bottom)
    if not same and not all(_known(atom) for atom in one.atoms() | two.atoms()):
        raise Undecided("other functions")
    return same


def _cleared(poly: Poly, *, ordered: bool) -> Poly:
    """The polynomial times the variables that stand in its denominators: ``y - 1/x`` as ``xy - 1``."""
    lowest: dict[str, Rational] = {}
    for mono in poly:
        for atom, exponent in mono:
            if exponent < 0 and atom[0] == "$":
                lowest[atom] = min(lowest.get(atom, 0), exponent)
    if not lowest:
        return poly
    if ordered:
        raise Undecided("an inequality between fractions")
    return multiply(poly, {tuple(sorted((atom, -exponent) for atom, exponent in lowest.items())): 1})


def _known(atom: str) -> bool:
    return atom[0] in "$#" or atom in {"i", "pi"}


def _symbolic(poly: Poly) -> bool:
    return any(atom[0] != "#" and atom not in {"i", "pi", "e"} for mono in poly for atom, _ in mono)


def _by_symbols(poly: Poly) -> dict[Mono, Poly]:
    """The polynomial as symbols' monomials with constant coefficients."""
    parts: dict[Mono, Poly] = {}
    for mono, value in poly.items():
        free = tuple(each for each in mono if _symbolic({(each,): 1}))
        fixed = tuple(each for each in mono if each not in free)
        parts.setdefault(free, {})[fixed] = value
    return parts


def _sign(*polys: Poly) -> int:
    """The sign of a product of constants; raises ``Undecided`` where it is not rational."""
    sign = 1
    for poly in polys:
        if set(poly) != {()}:
            value = value_of(_node(poly))
            if not value:
                raise Undecided("a sign")
            sign = sign if value > 0 else -sign
        elif poly[()] < 0:
            sign = -sign
    return sign


def _node(poly: Poly) -> Node:
    terms: list[Node] = []
    for mono, value in poly.items():
        factors: list[Node] = [Num(value)]
        for atom, exponent in mono:
            base: Node = Num(int(atom[1:])) if atom[0] == "#" else Const(atom)
            factors.append(Pow(base, Div(Num(exponent.numerator), Num(exponent.denominator))))
        terms.append(Mul(tuple(factors)))
    return Add(tuple(terms))
