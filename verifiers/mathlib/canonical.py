"""From the typed tree to an exact quotient of polynomials; what has no exact form becomes an atom."""

from collections.abc import Callable
from fractions import Fraction
from math import comb, factorial, gcd, lcm

from rewardhub.verifiers.mathlib.algebra import Quotient, factors, root
from rewardhub.verifiers.mathlib.limits import MAX_BITS, MAX_FACTORIAL, TooLarge, Undecided
from rewardhub.verifiers.mathlib.tree import (
    Add,
    Call,
    Const,
    Div,
    Mul,
    Neg,
    Node,
    Num,
    Percent,
    Pow,
    Quantity,
    Rational,
    Sym,
)

_POSITIVE_CONSTANTS = frozenset({"pi", "e"})
_ANGLES = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})


def canonical(node: Node) -> Quotient:
    """Raises ``Undecided`` where the value has no finite exact form, ``TooLarge`` past the limits."""
    match node:
        case Num(value=value):
            return Quotient.number(value)
        case Sym(name=name):
            return Quotient.atom("$" + name)
        case Const(name=name):
            return _constant(name)
        case Add(terms=terms):
            total = canonical(terms[0])
            for term in terms[1:]:
                total = total + canonical(term)
            return total
        case Neg(value=value):
            return -canonical(value)
        case Mul(factors=parts):
            product = canonical(parts[0])
            for part in parts[1:]:
                product = product * canonical(part)
            return product
        case Div(top=top, bottom=bottom):
            return canonical(top) / canonical(bottom)
        case Pow(base=base, exponent=exponent):
            return _power(canonical(base), canonical(exponent))
        case Percent(value=value):
            return canonical(value) * Quotient.number(Fraction(1, 100))
        case Quantity(value=value):
            return canonical(value)
        case Call(name=name, args=args):
            return _call(name, args)
    raise Undecided(f"no exact form of {type(node).__name__}")


def _constant(name: str) -> Quotient:
    if name == "oo":
        raise Undecided("infinity")
    return Quotient.atom(name)


def _power(base: Quotient, exponent: Quotient) -> Quotient:
    fixed = exponent.rational()
    if fixed is None:
        return _symbolic_power(base, exponent)
    if isinstance(fixed, int):
        if abs(fixed) > 10**9:
            raise TooLarge("an exponent of more than nine digits")
        return base.power(fixed)
    number = base.rational()
    if number is not None:
        if fixed.denominator > 1_000 or abs(fixed.numerator) > 10**6:
            raise Undecided("a root of high order")
        return root(number, fixed)
    return _root_of_term(base, fixed) or Quotient.atom(f"({base.key()})", fixed)


def _root_of_term(base: Quotient, exponent: Fraction) -> Quotient | None:
    """``(c·a^m·x)^(p/q)`` with c, a > 0 and at most one symbol, to the first power."""
    if base.bottom != {(): 1} or len(base.top) != 1:
        return None
    ((mono, value),) = base.top.items()
    if value <= 0 and exponent.denominator % 2 == 0:
        return None
    free = [(atom, power) for atom, power in mono if not _is_positive(atom)]
    if len(free) > 1 or any(power != 1 for _, power in free) or (free and free[0][0] == "i"):
        return None
    if value < 0 and free:
        return None
    total = root(value, exponent)
    for atom, power in mono:
        total = total * Quotient({((atom, power * exponent),): 1})
    return total


def _is_positive(atom: str) -> bool:
    return atom in _POSITIVE_CONSTANTS or atom[0] == "#"


def _symbolic_power(base: Quotient, exponent: Quotient) -> Quotient:
    """``b^(c + k·m)`` is ``b^c`` times the atom ``b^m`` to the power k, for positive constants b or integer k."""
    if exponent.bottom != {(): 1}:
        return Quotient.atom(f"({base.key()})^({exponent.key()})")
    bases = _bases(base)
    total = Quotient.number(1)
    for mono, scale in exponent.top.items():
        if mono == ():
            total = total * _power(base, Quotient.number(scale))
            continue
        whole = scale if isinstance(scale, int) else scale.numerator
        part = Quotient({mono: 1 if isinstance(scale, int) else Fraction(1, scale.denominator)})
        for name, count in bases:
            total = total * Quotient.atom(f"({name})^({part.key()})", whole * count)
    return total


def _bases(base: Quotient) -> list[tuple[str, int]]:
    """The base as prime powers where it is a positive rational, else itself."""
    number = base.rational()
    if number is not None and number > 0:
        return [(str(prime), count) for prime, count in factors(number).items()]
    return [(base.key(), 1)]


def _call(name: str, args: tuple[Node, ...]) -> Quotient:
    if name in {"union", "intersection", "difference", "det"} or name.startswith("?"):
        return Quotient.atom(f"{name}({','.join(canonical(arg).key() for arg in args)})")
    if name in _ANGLES and isinstance(args[0], Quantity) and args[0].unit.startswith(("°", "deg")):
        inner = canonical(args[0].value) * Quotient.atom("pi") * Quotient.number(Fraction(1, 180))
        return Quotient.atom(f"{name}({inner.key()})")
    values = [canonical(arg) for arg in args]
    if name in {"ln", "log"}:
        base = values[1] if len(values) > 1 else Quotient.number(10)
        return _ln(values[0]) if name == "ln" else _ln(values[0]) / _ln(base)
    numbers = [value.rational() for value in values]
    if name in _EXACT and all(number is not None for number in numbers):
        found = _EXACT[name](*[number for number in numbers if number is not None])
        if found is not None:
            return Quotient.number(found)
    return Quotient.atom(f"{name}({','.join(value.key() for value in values)})")


def _ln(value: Quotient) -> Quotient:
    """The natural logarithm, split over the primes of a positive rational."""
    number = value.rational()
    if number is not None and number > 0:
        total = Quotient.number(0)
        for prime, count in factors(number).items():
            total = total + Quotient.atom(f"ln{prime}") * Quotient.number(count)
        return total
    if value.bottom == {(): 1} and len(value.top) == 1:
        ((mono, scale),) = value.top.items()
        if scale == 1 and len(mono) == 1 and mono[0][0] == "e":
            return Quotient.number(mono[0][1])
    return Quotient.atom(f"ln({value.key()})")


def _factorial(n: Rational) -> Rational | None:
    if not isinstance(n, int) or n < 0:
        return None
    if n > MAX_FACTORIAL:
        raise TooLarge(f"a factorial of more than {MAX_FACTORIAL}")
    return factorial(n)


def _binomial(n: Rational, k: Rational) -> Rational | None:
    if not isinstance(n, int) or not isinstance(k, int) or n < 0:
        return None
    if not 0 <= k <= n:
        return 0
    if min(k, n - k) * n.bit_length() > MAX_BITS:
        raise TooLarge("a binomial coefficient of too many digits")
    return comb(n, k)


def _whole(*values: Rational) -> list[int] | None:
    return [int(value) for value in values] if all(isinstance(value, int) for value in values) else None


def _gcd(*values: Rational) -> Rational | None:
    whole = _whole(*values)
    return gcd(*whole) if whole else None


def _lcm(*values: Rational) -> Rational | None:
    whole = _whole(*values)
    return lcm(*whole) if whole and len(whole) <= 8 else None


_EXACT: dict[str, Callable[..., Rational | None]] = {
    "abs": abs, "floor": lambda value: value.__floor__(), "ceil": lambda value: value.__ceil__(),
    "factorial": _factorial, "binom": _binomial, "gcd": _gcd, "lcm": _lcm,
    "max": lambda *values: max(values), "min": lambda *values: min(values),
}  # fmt: skip
