"""Exact arithmetic: quotients of polynomials in symbols, pi, e, i and real radicals.

A monomial maps atoms to exponents. The atom ``#p`` is the prime p with an exponent in (0, 1); products of
distinct such radicals are linearly independent over the rationals (Besicovitch 1940), so that a
polynomial in symbols, radicals and i is zero only if it has no terms.
"""

import threading
from fractions import Fraction
from hashlib import sha256
from math import isqrt
from typing import TypeAlias

from rewardhub.verifiers.mathlib.limits import MAX_BITS, MAX_TERMS, MAX_WORK, TooLarge, Undecided
from rewardhub.verifiers.mathlib.tree import Rational

Mono: TypeAlias = tuple[tuple[str, Rational], ...]
Poly: TypeAlias = dict[Mono, Rational]


class Work(threading.local):
    """What one verdict may still spend, in products of terms (some microseconds each)."""

    left = MAX_WORK


WORK = Work()
_KEY_CHARS = 200
_TRIAL = 10_000
_PRIMES = [n for n in range(2, 1_000) if all(n % d for d in range(2, isqrt(n) + 1))]


class Quotient:
    """``top / bottom``, compared by cross multiplication; ``bottom`` is never zero."""

    __slots__ = ("bottom", "top")

    def __init__(self, top: Poly, bottom: Poly | None = None) -> None:
        self.top = top
        self.bottom = bottom or ONE

    @classmethod
    def number(cls, value: Rational) -> "Quotient":
        return cls({(): value} if value else {})

    @classmethod
    def atom(cls, name: str, exponent: Rational = 1) -> "Quotient":
        return cls({((name, exponent),): 1})

    def rational(self) -> Rational | None:
        """Its value if it is a rational number."""
        if not self.top:
            return 0
        if self.bottom is ONE and len(self.top) == 1 and () in self.top:
            return self.top[()]
        return None

    def __add__(self, other: "Quotient") -> "Quotient":
        if self.bottom is ONE and other.bottom is ONE:
            return Quotient(_add(self.top, other.top))
        top = _add(multiply(self.top, other.bottom), multiply(other.top, self.bottom))
        return Quotient(top, multiply(self.bottom, other.bottom))

    def __neg__(self) -> "Quotient":
        return Quotient({mono: -value for mono, value in self.top.items()}, self.bottom)

    def __sub__(self, other: "Quotient") -> "Quotient":
        return self + -other

    def __mul__(self, other: "Quotient") -> "Quotient":
        left, right = self.rational(), other.rational()
        if left is not None and right is not None:
            return _number(left * right)
        bottom = ONE if self.bottom is ONE and other.bottom is ONE else multiply(self.bottom, other.bottom)
        return Quotient(multiply(self.top, other.top), bottom)

    def inverse(self) -> "Quotient":
        """Raises ``Undecided`` for zero. A single term inverts to a single term."""
        if not self.top:
            raise Undecided("division by zero")
        number = self.rational()
        if number is not None:
            return _number(Fraction(number.denominator, number.numerator))
        if len(self.top) == 1:
            ((mono, value),) = self.top.items()
            inverted = _term(tuple((atom, -exponent) for atom, exponent in mono), Fraction(1) / value)
            return Quotient(multiply(self.bottom, inverted))
        return Quotient(self.bottom, self.top)

    def __truediv__(self, other: "Quotient") -> "Quotient":
        return self * other.inverse()

    def power(self, exponent: int) -> "Quotient":
        """Integer powers; raises ``TooLarge`` or ``Undecided`` before anything large is made."""
        if exponent < 0:
            return self.inverse().power(-exponent)
        if len(self.top) == 1 and self.bottom is ONE:
            ((mono, value),) = self.top.items()
            _bounded(value, exponent)
            return Quotient(_term(tuple((atom, each * exponent) for atom, each in mono), value**exponent))
        if exponent > 1 and exponent * max(len(self.top), len(self.bottom)) > 4_000:
            raise Undecided("a high power of a sum")
        result, square = Quotient.number(1), self
        while exponent:
            if exponent & 1:
                result = result * square
            exponent >>= 1
            if exponent:
                square = square * square
        return result

    def equals(self, other: "Quotient") -> bool:
        if self.bottom is other.bottom or self.bottom == other.bottom:
            return self.top == other.top
        return multiply(self.top, other.bottom) == multiply(other.top, self.bottom)

    def key(self) -> str:
        """Equal keys mean equal values (not the other way round)."""
        return _key(self.top) if self.bottom is ONE else f"({_key(self.top)})/({_key(self.bottom)})"

    def atoms(self) -> set[str]:
        return {atom for poly in (self.top, self.bottom) for mono in poly for atom, _ in mono}


ONE: Poly = {(): 1}


def _number(value: Rational) -> Quotient:
    if _bits(value) > MAX_BITS:
        raise TooLarge(f"a number of more than {MAX_BITS} bits")
    return Quotient.number(value.numerator if value.denominator == 1 else value)


def _key(poly: Poly) -> str:
    """Atoms of atoms nest, so that a long key is replaced by its digest."""
    terms = sorted(
        "*".join([_hex(value), *(f"{atom}^{power}" for atom, power in mono)]) for mono, value in poly.items()
    )
    text = "+".join(terms)
    return text if len(text) <= _KEY_CHARS else sha256(text.encode()).hexdigest()


def _hex(value: Rational) -> str:
    return f"{value.numerator:x}/{value.denominator:x}" if value.denominator != 1 else f"{value.numerator:x}"


def _add(one: Poly, two: Poly) -> Poly:
    total = dict(one)
    for mono, value in two.items():
        new = total.get(mono, 0) + value
        if not new:
            del total[mono]
        elif _bits(new) > MAX_BITS:
            raise TooLarge(f"a number of more than {MAX_BITS} bits")
        else:
            total[mono] = new
    return total


def multiply(one: Poly, two: Poly) -> Poly:
    if one is ONE:
        return two
    if two is ONE:
        return one
    WORK.left -= len(one) * len(two)
    if WORK.left < 0:
        raise Undecided("too much work")
    total: Poly = {}
    for mono, value in one.items():
        for other, factor in two.items():
            for product, scale in _term(_merge(mono, other), value * factor).items():
                new = total.get(product, 0) + scale
                if new:
                    total[product] = new
                else:
                    total.pop(product, None)
    if len(total) > MAX_TERMS:
        raise Undecided("too many terms")
    if any(_bits(value) > MAX_BITS for value in total.values()):
        raise TooLarge(f"a number of more than {MAX_BITS} bits")
    return total


def _merge(one: Mono, two: Mono) -> Mono:
    if not one or not two:
        return one or two
    exponents: dict[str, Rational] = dict(one)
    for atom, exponent in two:
        exponents[atom] = exponents.get(atom, 0) + exponent
    return tuple(sorted(exponents.items()))


def _term(mono: Mono, value: Rational) -> Poly:
    """One reduced term: i to a power below 2, primes to powers in (0, 1)."""
    kept: list[tuple[str, Rational]] = []
    for atom, power in mono:
        exponent = power
        if atom == "i" and isinstance(exponent, int):
            value = -value if exponent % 4 >= 2 else value
            exponent %= 2
        elif atom[0] == "#":
            whole = exponent.__floor__()
            if whole:
                _bounded(int(atom[1:]), whole)
                value *= Fraction(int(atom[1:])) ** whole
                exponent -= whole
        if exponent:
            if isinstance(exponent, Fraction) and exponent.denominator == 1:
                exponent = exponent.numerator
            kept.append((atom, exponent))
    if isinstance(value, Fraction) and value.denominator == 1:
        value = value.numerator
    return {tuple(kept): value} if value else {}


def _bits(value: Rational) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _bounded(value: Rational, exponent: int) -> None:
    if (_bits(value) - (abs(value) == 1)) * abs(exponent) > MAX_BITS and abs(value) not in {0, 1}:
        raise TooLarge(f"a power of more than {MAX_BITS} bits")


def root(value: Rational, exponent: Fraction) -> Quotient:
    """``value ** exponent`` of a rational; roots of odd order of negative numbers are real."""
    if value == 0:
        if exponent <= 0:
            raise Undecided("zero to a power that is not positive")
        return Quotient.number(0)
    sign = Quotient.number(1)
    if value < 0:
        if exponent.denominator % 2:
            sign = Quotient.number(-1 if exponent.numerator % 2 else 1)
        elif exponent.denominator == 2:
            sign = Quotient.atom("i").power(exponent.numerator % 4)
        else:
            raise Undecided("an even root of a negative number")
    total = sign
    for prime, count in factors(-value if value < 0 else value).items():
        power = exponent * count
        _bounded(prime, power.__floor__())
        total = total * Quotient(_term(((f"#{prime}", power),), 1))
    return total


def factors(value: Rational) -> dict[int, int]:
    """Prime factors of a positive rational; raises ``Undecided`` where trial division does not finish."""
    found: dict[int, int] = {}
    for number, sign in ((value.numerator, 1), (value.denominator, -1)):
        rest = number
        if rest.bit_length() > MAX_BITS // 10:
            raise Undecided("a number too large to factor")
        for prime in _PRIMES:
            while rest % prime == 0:
                rest //= prime
                found[prime] = found.get(prime, 0) + sign
            if rest == 1:
                break
        if rest > 1:
            _large_factor(rest, sign, found)
    return found


def _large_factor(rest: int, sign: int, found: dict[int, int]) -> None:
    """A rest without factors below 1,000: prime below 10^6, or the square of such a prime, or unknown."""
    square = isqrt(rest)
    if rest < 1_000_000:
        found[rest] = found.get(rest, 0) + sign
    elif square * square == rest and square < 1_000_000:
        found[square] = found.get(square, 0) + 2 * sign
    else:
        divisor = next((d for d in range(1_001, _TRIAL, 2) if rest % d == 0), 0)
        if not divisor and rest >= _TRIAL**2:
            raise Undecided("a number too large to factor")
        for part in (divisor, rest // divisor) if divisor else (rest,):
            if divisor and part >= _TRIAL**2:
                raise Undecided("a number too large to factor")
            found[part] = found.get(part, 0) + sign
