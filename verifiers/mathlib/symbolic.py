"""The symbolic tier: SymPy objects made node by node from the typed tree, never from text.

It runs where it can be killed: SymPy's simplification has no bound of its own.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rewardhub.verifiers.mathlib.limits import Undecided
from rewardhub.verifiers.mathlib.numeric import agree
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
    Sym,
)


def symbolic_equal(one: Node, two: Node) -> bool:
    """Whether SymPy proves the difference zero, or cannot and both agree to 40 digits at four points."""
    try:
        left, right = build(one), build(two)
        proved = True if left == right else _is_zero(left - right)
    except Undecided:
        return False
    except MemoryError:
        raise
    except Exception:  # SymPy raises many kinds on odd input; the digits decide then
        proved = None
    return agree(one, two) is True if proved is None else proved


def _is_zero(difference: Any) -> bool | None:
    import sympy

    zero: bool | None = True if difference == 0 else sympy.simplify(difference).is_zero
    return zero


def build(node: Node) -> Any:
    """The SymPy object of a scalar tree; raises ``Undecided`` for anything outside the allow-list."""
    import sympy

    match node:
        case Num(value=value):
            return sympy.Rational(value.numerator, value.denominator)
        case Sym(name=name):
            return sympy.Symbol(name, real=True)
        case Const(name=name):
            if name not in {"pi", "e", "i", "oo"}:
                raise Undecided("the empty set")
            return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "oo": sympy.oo}[name]
        case Add(terms=terms):
            return sympy.Add(*map(build, terms))
        case Mul(factors=factors):
            return sympy.Mul(*map(build, factors))
        case Neg(value=value):
            return -build(value)
        case Div(top=top, bottom=bottom):
            return build(top) / build(bottom)
        case Pow(base=base, exponent=exponent):
            return _power(base, exponent)
        case Percent(value=value):
            return build(value) / 100
        case Quantity(value=value):
            return build(value)
        case Call(name=name, args=args):
            return _call(name, args)
    raise Undecided(f"no symbolic form of {type(node).__name__}")


def _power(base: Node, exponent: Node) -> Any:
    """``x^(1/3)`` of an odd order is the real root, as in the exact tier."""
    import sympy

    made, power = build(base), build(exponent)
    if power.is_Rational and power.q % 2 and power.q > 1 and made.is_extended_real:
        return sympy.real_root(made, power.q) ** power.p
    return sympy.Pow(made, power)


def _call(name: str, args: tuple[Node, ...]) -> Any:
    import sympy

    values = [build(arg) for arg in args]
    if name[0] == "?":
        return sympy.Function(name[1:])(*values)
    if name in _ANGLES and isinstance(args[0], Quantity) and args[0].unit.startswith(("°", "deg")):
        values[0] = values[0] * sympy.pi / 180
    if name == "log":
        return sympy.log(values[0]) / sympy.log(values[1] if len(values) > 1 else 10)
    made = _functions().get(name)
    if made is None or len(values) > 8:
        raise Undecided(f"no symbolic form of {name}")
    try:
        return made(*values)
    except TypeError as error:
        raise Undecided(f"arguments of {name}") from error


_ANGLES = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})


@lru_cache(maxsize=1)
def _functions() -> dict[str, Callable[..., Any]]:
    import sympy

    return {
        "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec,
        "csc": sympy.csc, "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh, "arcsin": sympy.asin,
        "arccos": sympy.acos, "arctan": sympy.atan, "arccot": sympy.acot, "ln": sympy.log, "abs": sympy.Abs,
        "max": sympy.Max, "min": sympy.Min, "floor": sympy.floor, "ceil": sympy.ceiling,
        "factorial": sympy.factorial, "binom": sympy.binomial, "gcd": sympy.gcd, "lcm": sympy.lcm,
    }  # fmt: skip
