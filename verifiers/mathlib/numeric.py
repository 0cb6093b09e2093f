"""The value of a tree at a few fixed points, to 40 digits; bounded by construction.

Two expressions that differ at a point are different. Agreement proves nothing about variables, only
about constants, where 40 digits are taken as equality.
"""

import threading
from fractions import Fraction
from typing import Any
from zlib import crc32

from rewardhub.verifiers.mathlib.canonical import canonical
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
    Sym,
    walk,
)

_LOCAL = threading.local()
_DIGITS = 40
_SPARE_BITS = 40
_POINTS = 4
_ANGLES = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})


def symbols(node: Node) -> frozenset[str]:
    """The variables of a tree, unknown functions included."""
    names = {each.name for each in walk(node) if isinstance(each, Sym)}
    return frozenset(names | {each.name for each in walk(node) if isinstance(each, Call) and each.name[0] == "?"})


def agree(one: Node, two: Node) -> bool | None:
    """False: they differ at a point. True: equal wherever both have a value. None: no point has a value."""
    ctx, seen = _context(), False
    names = sorted(symbols(one) | symbols(two))
    for point in range(_POINTS if names else 1):
        env = {name: _at(ctx, name, point) for name in names}
        try:
            left, right = _value(ctx, one, env), _value(ctx, two, env)
        except TooLarge:
            continue
        if left is None or right is None:
            continue
        seen = True
        scale = max(abs(left), abs(right), ctx.mpf(10) ** -15)
        if abs(left - right) > scale * ctx.mpf(10) ** -_DIGITS:
            return False
    return True if seen else None


def value_of(node: Node) -> Fraction | None:
    """The value of a real constant, good to 40 digits; None where it has none."""
    if symbols(node):
        return None
    ctx = _context()
    value = _value(ctx, node, {})
    if value is None:
        return None
    if isinstance(value, ctx.mpc):
        if abs(value.imag) > ctx.mpf(10) ** -_DIGITS * max(1, abs(value)):
            return None
        value = value.real
    sign, mantissa, exponent, _ = value._mpf_
    if abs(exponent) > MAX_BITS:
        return None
    size = int(mantissa) * Fraction(2) ** int(exponent)
    return -size if sign else size


def _context() -> Any:
    """A context of this thread with a fixed precision; the global one is shared between threads."""
    if not hasattr(_LOCAL, "context"):
        from mpmath import MPContext  # type: ignore[import-untyped]

        _LOCAL.context = MPContext()
        _LOCAL.context.dps = _DIGITS + 20
    return _LOCAL.context


def _at(ctx: Any, name: str, point: int) -> Any:
    """A fixed point of mixed signs, from the name alone."""
    spread = crc32(f"{name}/{point}".encode()) % 99_991
    value = ctx.mpf(spread) / 99_991 * 2 + ctx.mpf(1) / 7
    return -value if (spread + point) % 2 else value


def _value(ctx: Any, node: Node, env: dict[str, Any]) -> Any | None:
    """The value to at least 40 digits; a sum that cancels is worked out again with as many more."""
    try:
        ctx.lost = 0
        found = ctx.convert(_evaluate(ctx, node, env))
        if ctx.lost > _SPARE_BITS:
            found = _with_more_digits(ctx, node, env)
    except (Undecided, ValueError, ArithmeticError, TypeError, ctx.NoConvergence):
        return None
    return found if ctx.isfinite(found) else None


def _with_more_digits(ctx: Any, node: Node, env: dict[str, Any]) -> Any:
    usual = ctx.prec
    if ctx.lost > MAX_BITS:
        raise Undecided("too much cancellation")
    ctx.prec = usual + int(ctx.lost)
    try:
        return ctx.convert(_evaluate(ctx, node, env))
    finally:
        ctx.prec = usual


def _sum(ctx: Any, terms: list[Any]) -> Any:
    """The sum; ``ctx.lost`` keeps the worst number of leading bits that cancelled."""
    total = ctx.fsum(terms)
    largest = max(ctx.mag(term) if term else 0 for term in terms)
    left = ctx.mag(total) if total else -ctx.prec
    ctx.lost = max(ctx.lost, largest - left)
    return total


def _evaluate(ctx: Any, node: Node, env: dict[str, Any]) -> Any:
    match node:
        case Num(value=value):
            return ctx.mpf(value.numerator) / value.denominator
        case Sym(name=name):
            return env[name]
        case Const(name=name) if name in {"pi", "e", "i"}:
            return {"pi": ctx.mpf(ctx.pi), "e": ctx.mpf(ctx.e), "i": ctx.mpc(0, 1)}[name]
        case Add(terms=terms):
            return _sum(ctx, [_evaluate(ctx, term, env) for term in terms])
        case Mul(factors=factors):
            return ctx.fprod(_evaluate(ctx, factor, env) for factor in factors)
        case Neg(value=value):
            return -_evaluate(ctx, value, env)
        case Div(top=top, bottom=bottom):
            return _evaluate(ctx, top, env) / _evaluate(ctx, bottom, env)
        case Pow(base=base, exponent=exponent):
            return _power(ctx, _evaluate(ctx, base, env), _evaluate(ctx, exponent, env), exponent)
        case Percent(value=value):
            return _evaluate(ctx, value, env) / 100
        case Quantity(value=value):
            return _evaluate(ctx, value, env)
        case Call(name=name, args=args):
            return _call(ctx, name, args, env)
    raise Undecided("no value")


def _power(ctx: Any, base: Any, exponent: Any, written: Node) -> Any:
    """Real odd roots of negative reals; refuses results past the size limit."""
    if base == 0:
        if ctx.re(exponent) <= 0:
            raise Undecided("zero to a power that is not positive")
        return base
    if abs(exponent) * (1 + abs(ctx.log(abs(base)))) > 50 * MAX_BITS:
        raise TooLarge("a power of too many digits")
    if isinstance(written, Div) and not isinstance(base, ctx.mpc) and base < 0 and isinstance(written.bottom, Num):
        order = written.bottom.value
        if isinstance(order, int) and order % 2 and 0 < order < 1_000 and isinstance(written.top, Num):
            return (-ctx.nthroot(-base, order)) ** int(written.top.value)
    return base**exponent


def _call(ctx: Any, name: str, args: tuple[Node, ...], env: dict[str, Any]) -> Any:
    values = [_evaluate(ctx, arg, env) for arg in args]
    if name[0] == "?":
        return env[name] * sum(value * (index + 3) for index, value in enumerate(values)) + env[name]
    if name in _ANGLES and isinstance(args[0], Quantity) and args[0].unit.startswith(("°", "deg")):
        values[0] = values[0] * ctx.pi / 180
    if name == "log":
        return ctx.log(values[0]) / ctx.log(values[1] if len(values) > 1 else 10)
    if name in {"max", "min"}:
        return (max if name == "max" else min)(values)
    if name in {"gcd", "lcm"}:
        return _rational(ctx, Call(name, args))
    if name not in _NAMES:
        raise Undecided(f"no value of {name}")
    if any(abs(value) > (MAX_FACTORIAL if name in {"factorial", "binom"} else 10**6) for value in values):
        raise Undecided("too large an argument")
    return getattr(ctx, _NAMES[name])(*values)


def _rational(ctx: Any, node: Node) -> Any:
    value = canonical(node).rational()
    if value is None:
        raise Undecided("not a rational number")
    return ctx.mpf(value.numerator) / value.denominator


_NAMES = {
    "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc", "sinh": "sinh",
    "cosh": "cosh", "tanh": "tanh", "floor": "floor", "ceil": "ceil", "factorial": "factorial", "ln": "ln",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "abs": "fabs", "binom": "binomial",
}  # fmt: skip
