"""The most frequent answers without a parser: integers, decimals and simple fractions, by one pattern."""

import re
from fractions import Fraction
from typing import NamedTuple

from rewardhub.verifiers.mathlib.policy import Policy
from rewardhub.verifiers.mathlib.tree import Rational

_PLAIN = re.compile(
    r"([-+]?)(?:(\d{1,400})(?:\.(\d{1,400}))?|\.(\d{1,400})|\\frac\{(\d{1,400})\}\{(\d{1,400})\}|(\d{1,400})/(\d{1,400}))"
)


class Plain(NamedTuple):
    """A rational and how it is written."""

    value: Rational
    decimal: bool
    integer: bool


def plain(key: str) -> Plain | None:
    """The value of a key that is nothing but a number; None for anything else, ``1/0`` included."""
    match = _PLAIN.fullmatch(key)
    if match is None:
        return None
    sign, whole, places, bare, top, bottom, left, right = match.groups()
    value: Rational
    if places or bare:
        digits = places or bare
        value = Fraction(int((whole or "") + digits), 10 ** len(digits))
    elif whole:
        value = int(whole)
    else:
        denominator = int(bottom or right)
        if not denominator:
            return None
        value = Fraction(int(top or left), denominator)
    return Plain(-value if sign == "-" else value, bool(places or bare), bool(whole and not places))


def plain_equal(reference: Plain, answer: Plain, policy: Policy) -> bool:
    """Exactly equal, or within the policy's tolerances."""
    if reference.value == answer.value:
        return True
    decimal = reference.decimal or answer.decimal
    integer = reference.integer or answer.integer
    return close(reference.value, answer.value, policy, rounded=decimal and not integer)


def decimals_equal(reference: str, answer: str, policy: Policy) -> bool:
    """Whether one key is a decimal with a comma, ``2,74``, the other one with a point, and both are equal."""
    if ("," in reference) == ("," in answer):
        return False
    one, two = (plain(_COMMA.sub(r"\1.\2", key)) for key in (reference, answer))
    return one is not None and two is not None and one.decimal and two.decimal and plain_equal(one, two, policy)


_COMMA = re.compile(r"\A([-+]?\d{1,400}),(\d{1,400})\Z")


def close(one: Rational, two: Rational, policy: Policy, *, rounded: bool) -> bool:
    """Within a tolerance; ``rounded``: or equal as written decimals, where neither side is an integer.

    An integer is never equal to another number by rounding.
    """
    left, right = Fraction(one), Fraction(two)
    gap = abs(left - right)
    if policy.abs_tol and gap <= Fraction(policy.abs_tol):
        return True
    if policy.rel_tol and gap <= Fraction(policy.rel_tol) * abs(left):
        return True
    if not rounded or gap * 10 ** (policy.decimals // 2) > max(abs(left), abs(right)):
        return False
    return round(left, policy.decimals) == round(right, policy.decimals)
