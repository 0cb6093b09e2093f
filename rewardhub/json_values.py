"""JSON values: how much text they are, and copies of them, so that what one holds another may change."""

from collections.abc import Iterable, Mapping
from typing import Any

MOST_WEIGHED = 100_000
VALUE_CHARS = 8
_UNCHANGING = {str, int, float, bool, type(None)}


def weight(value: Any) -> int:
    """About as many characters as a JSON value is written in; no more than ``MOST_WEIGHED`` are counted."""
    found, todo = 0, [value]
    while todo and found < MOST_WEIGHED:
        each = todo.pop()
        if isinstance(each, str):
            found += len(each)
        elif isinstance(each, (list, tuple)):
            found += VALUE_CHARS * len(each)
            todo.extend(each)
        elif isinstance(each, (dict, Mapping)):
            found += sum(map(len, each)) + VALUE_CHARS * len(each)
            todo.extend(each.values())
    return found


def is_unchanging(values: Iterable[Any]) -> bool:
    """Whether none of the values can be changed by who holds it."""
    return _UNCHANGING.issuperset(map(type, values))


def copied(value: Any) -> Any:
    """The value with lists and objects of its own; what cannot change, and what is no JSON, is the same."""
    if type(value) is dict and is_unchanging(value.values()):
        return value.copy()
    if isinstance(value, (dict, Mapping)):
        return {key: each if type(each) in _UNCHANGING else copied(each) for key, each in value.items()}
    if isinstance(value, list):
        return [each if type(each) in _UNCHANGING else copied(each) for each in value]
    if isinstance(value, tuple):
        return tuple([each if type(each) in _UNCHANGING else copied(each) for each in value])
    return value
