"""Reading fields of untrusted JSON objects: every error names the field and what was expected."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from rewardhub.errors import InvalidInput, nearest
from rewardhub.types import MAX_RUN

T = TypeVar("T")
_WORDS: dict[type, str] = {
    str: "text",
    int: "an integer",
    float: "a number",
    dict: "an object",
    list: "a list",
}
_WORDS[bool] = "true or false"


def known_only(data: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Raises ``InvalidInput`` for a key that is not ``known``, naming the nearest known one."""
    for key in data:
        if key not in known:
            raise InvalidInput(f"unknown field {key!r}{nearest(str(key), known)}", field=join(where, str(key)))


def take(data: Mapping[str, Any], key: str, kind: type[T], default: T, where: str) -> T:
    """The field ``key`` of type ``kind``; null and missing give ``default``."""
    value = data.get(key)
    return default if value is None else expect(value, kind, join(where, key))


def expect(value: Any, kind: type[T], where: str) -> T:
    """``value`` if it is of type ``kind``; an integer passes as a number, 3.0 as an integer, true and false do not."""
    if kind is int and isinstance(value, float) and value.is_integer():  # many languages write every number as one
        value = int(value)
    right = isinstance(value, (int, float) if kind is float else kind)
    if not right or (isinstance(value, bool) and kind is not bool):
        raise InvalidInput(f"{where} is {describe(value)}, expected {named(kind)}", field=where)
    if kind is str:
        _check_text(str(value), where)
    return _float(value, where) if kind is float else value  # type: ignore[return-value]


def text_or(value: Any, kind: type[T], where: str) -> str | T:
    """``value`` if it is a text or of type ``kind``."""
    if isinstance(value, str | kind):
        return expect(value, str, where) if isinstance(value, str) else value
    raise InvalidInput(f"{where} is {describe(value)}, expected text or {named(kind)}", field=where)


def each(data: Mapping[str, Any], key: str, read: Callable[[Any, str], T], where: str) -> tuple[T, ...]:
    """The list under ``key``, each item read by ``read(item, where)``."""
    items = take(data, key, list, [], where)
    return tuple(read(item, f"{join(where, key)}[{index}]") for index, item in enumerate(items))


def choice(data: Mapping[str, Any], key: str, allowed: Sequence[str], where: str) -> str:
    """One of the ``allowed`` words; the first is the default."""
    value = take(data, key, str, allowed[0], where)
    if value not in allowed:
        raise InvalidInput(f"{join(where, key)} is {value!r}{nearest(value, allowed)}", field=join(where, key))
    return value


def numbers(data: Mapping[str, Any], key: str, where: str) -> dict[str, float]:
    """An object of finite numbers."""
    found = {
        name: expect(value, float, f"{join(where, key)}.{name}")
        for name, value in take(data, key, dict, {}, where).items()
    }
    for name, value in found.items():
        if not math.isfinite(value):
            raise InvalidInput(f"{join(where, key)}.{name} is not finite", field=f"{join(where, key)}.{name}")
    return found


def natural(data: Mapping[str, Any], key: str, where: str) -> int:
    """A non-negative integer below 2^31; 0 by default."""
    value = take(data, key, int, 0, where)
    if not 0 <= value < 2**31:
        raise InvalidInput(f"{join(where, key)} is {value}, expected 0 to 2147483647", field=join(where, key))
    return value


def run_name(value: str, where: str) -> str:
    """The name of a run: the hub keeps it, so that it is no long text."""
    if len(value) > MAX_RUN:
        raise InvalidInput(f"{where} has {len(value)} characters, at most {MAX_RUN}", field=where)
    return value


def join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def describe(value: Any) -> str:
    return "null" if value is None else named(type(value))


def named(kind: type) -> str:
    """The kind of value in words."""
    return _WORDS.get(kind, kind.__name__)


def _float(value: Any, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InvalidInput(f"{where} is an integer of more than 308 digits", field=where) from None


def _check_text(value: str, where: str) -> None:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"{where} holds half of a surrogate pair, expected text", field=where) from None
