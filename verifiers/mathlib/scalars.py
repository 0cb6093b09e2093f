"""Whether two values are equal: exact first, then by 40 digits, then by the oracle."""

from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

from rewardhub.verifiers.mathlib.algebra import Quotient
from rewardhub.verifiers.mathlib.canonical import canonical
from rewardhub.verifiers.mathlib.limits import Undecided
from rewardhub.verifiers.mathlib.numeric import agree, symbols, value_of
from rewardhub.verifiers.mathlib.plain import close
from rewardhub.verifiers.mathlib.policy import Policy
from rewardhub.verifiers.mathlib.tree import (
    Add,
    Const,
    Div,
    Neg,
    Node,
    Num,
    Percent,
    Quantity,
    Rational,
    Sym,
    children,
    rebuilt,
    walk,
)

Oracle: TypeAlias = Callable[[Node, Node], bool | None]
"""Decides what exact arithmetic cannot; answers None to leave it open."""
_ANGLE_APPROXIMATIONS = (Num(Fraction(157, 50)), Div(Num(22), Num(7)), Num(Fraction(31416, 10_000)))


def scalar_equal(reference: Node, answer: Node, policy: Policy, oracle: Oracle) -> bool | None:
    """``answer`` equals ``reference`` under the policy; None where only the symbolic tier can tell."""
    if _is_percent(reference) or _is_percent(answer):
        return _percent_equal(reference, answer, policy, oracle)
    if reference == answer:
        return True
    names = _names_equal(reference, answer, policy)
    if names is not None:
        return names
    verdict = _plain_equal(reference, answer, policy, oracle)
    if verdict is False and policy.pi_approx:
        return _pi_equal(reference, answer, policy)
    return verdict


def exact(node: Node) -> Quotient | None:
    """The exact form, or None where there is none."""
    try:
        return canonical(node)
    except Undecided:
        return None


def _plain_equal(reference: Node, answer: Node, policy: Policy, oracle: Oracle) -> bool | None:
    one, two = exact(reference), exact(answer)
    if one is not None and two is not None:
        left, right = one.rational(), two.rational()
        if left is not None and right is not None:
            return left == right or _close(left, right, reference, answer, policy)
        try:
            if one.equals(two):
                return True
            if _proved(one) and _proved(two):
                return _near(reference, answer, policy)
        except Undecided:
            pass
    same = agree(reference, answer)
    if not same:
        return _near(reference, answer, policy)
    if not symbols(reference) and not symbols(answer):
        return True
    return oracle(reference, answer)


def _proved(value: Quotient) -> bool:
    """Whether unequal forms over these atoms are unequal values."""
    return all(atom[0] in "$#" or atom in {"i", "pi"} for atom in value.atoms())


def _near(reference: Node, answer: Node, policy: Policy) -> bool:
    """Constants that differ, within the tolerances."""
    if not (_decimal(reference) or _decimal(answer) or policy.abs_tol or policy.rel_tol):
        return False
    left, right = value_of(reference), value_of(answer)
    return left is not None and right is not None and _close(left, right, reference, answer, policy)


def _close(one: Rational, two: Rational, reference: Node, answer: Node, policy: Policy) -> bool:
    decimal = _decimal(reference) or _decimal(answer)
    return close(one, two, policy, rounded=decimal and not (_integer(reference) or _integer(answer)))


def _bare(node: Node) -> Node:
    while isinstance(node, Neg | Percent | Quantity):
        node = node.value
    return node


def _decimal(node: Node) -> bool:
    inner = _bare(node)
    return isinstance(inner, Num) and inner.decimal


def _integer(node: Node) -> bool:
    inner = _bare(node)
    return isinstance(inner, Num) and isinstance(inner.value, int) and not inner.decimal


def _names_equal(reference: Node, answer: Node, policy: Policy) -> bool | None:
    """Lone variables and infinities are equal by name."""
    if isinstance(reference, Sym) and isinstance(answer, Sym):
        if policy.ignore_case:
            return reference.name.casefold() == answer.name.casefold()
        return reference.name == answer.name
    pair = {type(reference), type(answer)}
    if pair == {Sym, Const} and policy.ignore_case:
        one, two = getattr(reference, "name", ""), getattr(answer, "name", "")
        return {one, two} == {"E", "e"}
    left, right = _infinity(reference), _infinity(answer)
    return left == right if left or right else None


def _infinity(node: Node) -> int:
    """1, -1 or, for anything but an infinity with finite numbers added, 0."""
    if isinstance(node, Neg):
        return -_infinity(node.value)
    if isinstance(node, Add):
        signs = {sign for sign in map(_infinity, node.terms) if sign}
        rest = [term for term in node.terms if not _infinity(term)]
        finite = all(value_of(term) is not None for term in rest)
        return signs.pop() if len(signs) == 1 and finite else 0
    return 1 if isinstance(node, Const) and node.name == "oo" else 0


def _is_percent(node: Node) -> bool:
    return isinstance(node, Percent) or (isinstance(node, Neg) and isinstance(node.value, Percent))


def _percent_equal(reference: Node, answer: Node, policy: Policy, oracle: Oracle) -> bool | None:
    if _is_percent(reference) and _is_percent(answer):
        return scalar_equal(_signed_number(reference), _signed_number(answer), policy, oracle)
    found = _plain_equal(reference, answer, policy, oracle)
    inner = [_bare(each) for each in (reference, answer)]
    if found is True or policy.percent == "value" or not all(isinstance(each, Num) for each in inner):
        return found
    if any(isinstance(each, Num) and each.value < 1 for each in inner):
        return found
    return _plain_equal(_signed_number(reference), _signed_number(answer), policy, oracle)


def _signed_number(node: Node) -> Node:
    """The number without its percent sign."""
    if isinstance(node, Neg):
        return Neg(_signed_number(node.value))
    return node.value if isinstance(node, Percent) else node


def _pi_equal(reference: Node, answer: Node, policy: Policy) -> bool:
    """One side is written with pi and the other with an approximation of it."""
    ours, theirs = _has_pi(reference), _has_pi(answer)
    if ours == theirs:
        return False
    for value in _ANGLE_APPROXIMATIONS:
        left = value_of(_with_pi(reference, value))
        right = value_of(_with_pi(answer, value))
        if left is not None and right is not None and abs(left - right) <= Fraction(1, 2 * 10**policy.decimals):
            return True
    return False


def _has_pi(node: Node) -> bool:
    return any(isinstance(each, Const) and each.name == "pi" for each in walk(node))


def _with_pi(node: Node, value: Node) -> Node:
    if isinstance(node, Const) and node.name == "pi":
        return value
    parts = children(node)
    return rebuilt(node, tuple(_with_pi(part, value) for part in parts)) if parts else node
