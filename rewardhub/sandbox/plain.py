"""Plain data as text, for comparing what a program made outside of it.

Also loaded by the guard inside, as a module that the program cannot find.
"""

from __future__ import annotations

# The functions below keep these builtins, whatever the program does to the shared ones.
__builtins__ = dict(vars(__import__("builtins")))  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEEPEST, MOST_PARTS = 100, 200_000


def encode(value: Any, *, as_json: bool = False) -> str:
    """Plain data as text such that equal texts mean equal values, as ``==`` of Python's own types has it.

    Only the stored data of a value counts: whatever a subclass redefines is not asked. With
    ``as_json`` a tuple is a list and every key a string. What is no plain data, not a number, too deep
    or too large raises ``ValueError``.
    """
    left = [MOST_PARTS]

    def go(thing: Any, depth: int) -> str:
        left[0] -= 1
        if depth > DEEPEST or left[0] < 0:
            raise ValueError("too deep or too large")
        kind = type(thing)
        if thing is None:
            return "N"
        if issubclass(kind, int):
            return f"i{int.__index__(thing):x}"
        if issubclass(kind, float):
            return number(float.__pos__(thing))
        if issubclass(kind, str):
            return quoted("s", str.__str__(thing))
        if issubclass(kind, (bytes, bytearray)):
            return quoted("b", bytes.hex(thing) if issubclass(kind, bytes) else bytearray.hex(thing))
        if issubclass(kind, list):
            return f"l[{','.join([go(each, depth + 1) for each in list.__iter__(thing)])}]"
        if issubclass(kind, tuple):
            inner = ",".join([go(each, depth + 1) for each in tuple.__iter__(thing)])
            return f"{'l' if as_json else 't'}[{inner}]"
        if issubclass(kind, dict):
            pairs = [(go_key(key, depth + 1), go(each, depth + 1)) for key, each in dict.items(thing)]
            return f"d[{','.join(sorted(f'{key}={each}' for key, each in pairs))}]"
        if issubclass(kind, (set, frozenset)):
            walk = set.__iter__ if issubclass(kind, set) else frozenset.__iter__
            return f"e[{','.join(sorted([go(each, depth + 1) for each in walk(thing)]))}]"
        if issubclass(kind, complex):
            real, imaginary = complex.__getattribute__(thing, "real"), complex.__getattribute__(thing, "imag")
            return f"c{number(real)},{number(imaginary)}" if imaginary else number(real)
        raise ValueError(f"not plain: {kind.__name__}")

    def go_key(key: Any, depth: int) -> str:
        plain_number = as_json and issubclass(type(key), (int, float))
        return (
            quoted("s", repr(int.__index__(key)) if issubclass(type(key), int) else float.__repr__(key))
            if plain_number
            else go(key, depth)
        )

    return go(value, 0)


def number(value: float) -> str:
    if value != value:  # noqa: PLR0124  # not a number, equal to nothing
        raise ValueError("not a number")
    return f"i{int(value):x}" if value.is_integer() else f"f{value.hex()}"


def quoted(mark: str, text: str) -> str:
    return f"{mark}{len(text)}:{text}"
