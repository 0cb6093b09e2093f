"""Comparisons and calculations that ask Python's own types, not objects that the program made up.

An object that equals everything does not pass, whatever its class redefines. Loaded by the guard inside, as
a module that the program cannot find.
"""

from __future__ import annotations

# The functions below keep these builtins, whatever the program does to the shared ones.
__builtins__ = dict(vars(__import__("builtins")))  # type: ignore[assignment]

import operator
from _collections import deque  # type: ignore[import-not-found]  # collections costs milliseconds
from types import FunctionType, WrapperDescriptorType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_OPERATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "Eq": operator.eq, "NotEq": operator.ne, "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt,
    "GtE": operator.ge,
    "In": lambda left, right: left in right, "NotIn": lambda left, right: left not in right,
}  # fmt: skip
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Div": operator.truediv,
    "FloorDiv": operator.floordiv, "Mod": operator.mod, "Pow": operator.pow,
}  # fmt: skip
_ASKED = ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")
_CALCULATED = tuple(
    f"__{side}{name}__" for side in ("", "r") for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")
)
_DEEPEST = 100
NOT_A_NUMBER = float("nan")
_CONTAINERS: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.items()))
_SCALARS = (bool, int, float, complex, str, bytes, bytearray)


class _Unsound(Exception):
    """A value answers comparisons by the program's own code."""


def make_compare(library: tuple[str, ...]) -> Callable[..., Any]:
    """``compare(operations, *sides)`` on sound values: one comparison or a chain of them, or a calculation.

    Two objects of the program's own classes are compared as they wish, and so is membership in one; one
    of them is never equal, less or greater than a value of Python's or the library's types, and what is
    calculated of both is not a number.
    """

    def soundly(value: Any, asked: tuple[str, ...]) -> tuple[Any, bool]:
        try:
            return _sound(value, library, 0, asked), True
        except _Unsound:
            return value, False

    def one(operation: str, left: Any, right: Any) -> Any:
        calculation = operation in _ARITHMETIC
        asked = _CALCULATED if calculation else _ASKED
        (left, left_sound), (right, right_sound) = soundly(left, asked), soundly(right, asked)
        mixed = left_sound != right_sound
        if calculation:
            return NOT_A_NUMBER if mixed else _ARITHMETIC[operation](left, right)
        if mixed and not (operation in ("In", "NotIn") and not right_sound):
            return operation in ("NotEq", "NotIn")
        return _OPERATIONS[operation](left, right)

    def close(left: Any, right: Any, places: int | None, delta: Any) -> bool:
        if one("Eq", left, right):
            return True
        apart = abs(one("Sub", left, right))
        if delta is not None or apart != apart:  # noqa: PLR0124  # not a number
            return bool(apart <= (delta or 0))
        return bool(round(apart, 7 if places is None else places) == 0)

    def compare(operations: str, *sides: Any) -> Any:
        if operations == "Raises":
            kinds = type.__dict__["__mro__"].__get__(type(sides[0]))
            return any(each is kind for each in kinds for kind in (sides[1] if type(sides[1]) is tuple else sides[1:]))
        if operations == "Close":
            return close(*sides)
        names = operations.split(" ")
        if len(names) == 1:
            return one(operations, *sides)
        return all(one(name, left, right) for name, left, right in zip(names, sides, sides[1:], strict=False))

    return compare


def _sound(value: Any, library: tuple[str, ...], depth: int, asked: tuple[str, ...] = _ASKED) -> Any:
    """The value, or one of Python's own types with the same stored data; raises ``_Unsound``."""
    kind = type(value)
    if value is None or kind in _SCALARS:
        return value
    if depth > _DEEPEST:
        raise _Unsound
    for base in _CONTAINERS:
        if issubclass(kind, base):
            return _rebuilt(value, base, [*base.__iter__(value)], library, depth)
    if issubclass(kind, dict):
        keys, values = [*dict.keys(value)], [*dict.values(value)]
        inner = [_sound(each, library, depth + 1) for each in (*keys, *values)]
        same = _honest(kind, library) and _unchanged(inner, (*keys, *values))
        return value if same else dict(zip(inner[: len(keys)], inner[len(keys) :], strict=True))
    if kind in _VIEWS:
        return {_sound(each, library, depth + 1) for each in value}
    return value if _honest(kind, library, asked) else _stored(value, kind)


def _rebuilt(value: Any, base: Any, parts: list[Any], library: tuple[str, ...], depth: int) -> Any:
    inner = [_sound(each, library, depth + 1) for each in parts]
    return value if _honest(type(value), library) and _unchanged(inner, parts) else base(inner)


def _unchanged(inner: list[Any], before: Any) -> bool:
    return all(one is other for one, other in zip(inner, before, strict=True))


def _stored(value: Any, kind: type) -> Any:
    """The number or text that an object of a subclass of Python's stores."""
    if issubclass(kind, int):
        return int.__index__(value)
    if issubclass(kind, float):
        return float.__pos__(value)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, bytes):
        return bytes.__add__(value, b"")
    raise _Unsound


def _honest(kind: type, library: tuple[str, ...], asked: tuple[str, ...] = _ASKED) -> bool:
    """Whether the class answers comparisons (or what is ``asked``) by code of Python, the library or the suffix."""
    own = [type.__dict__["__dict__"].__get__(base) for base in type.__dict__["__mro__"].__get__(kind)]
    for name in asked:
        found = next((space[name] for space in own if name in space), None)
        if found is None and asked is _CALCULATED:
            continue
        if type(found) is WrapperDescriptorType and found.__name__ == name:
            continue
        if type(found) is FunctionType and found.__code__.co_filename.startswith(library):
            continue
        return False
    return True
