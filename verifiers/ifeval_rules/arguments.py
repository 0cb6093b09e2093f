"""The arguments of an instruction, checked before any response is read.

The public script fills a missing or unusable argument with a random one; here it is an error.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rewardhub.errors import ReferenceUnparseable, nearest
from rewardhub.types import Json
from rewardhub.verifiers.ifeval_rules.language import canonical, known_codes
from rewardhub.verifiers.ifeval_rules.locales import RELATIONS

Reader = Callable[[Any], Any]
"""Makes an argument of a raw value; raises ``ValueError`` that says what it must be."""

_LARGEST = 100_000
_LONGEST, _MOST = 20_000, 100
"""Characters of one text, texts of one list."""


def count(raw: Any) -> int:
    """A whole number from 0 to 100,000; data sets store some as floats."""
    whole = isinstance(raw, int) or (isinstance(raw, float) and raw.is_integer())
    if isinstance(raw, bool) or not whole or not 0 <= raw <= _LARGEST:
        raise ValueError(f"must be a whole number from 0 to {_LARGEST}")
    return int(raw)


def text(raw: Any) -> str:
    if not isinstance(raw, str) or not raw.strip() or len(raw) > _LONGEST:
        raise ValueError("must be text that is not blank")
    return raw.strip()


def texts(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple) or not 0 < len(raw) <= _MOST:
        raise ValueError("must be a list of texts")
    return tuple(text(item) for item in raw)


def letter(raw: Any) -> str:
    """One character; any, though the public script replaces all but a-z by a random letter."""
    if len(found := text(raw)) != 1:
        raise ValueError("must be one character")
    return found


def relation(raw: Any) -> str:
    if not isinstance(raw, str) or raw not in RELATIONS:
        raise ValueError(f"must be one of {', '.join(RELATIONS)}")
    return RELATIONS[raw]


def language(raw: Any) -> str:
    if not isinstance(raw, str) or canonical(raw) not in known_codes():
        raise ValueError(f"must be the ISO 639 code of a known language{nearest(str(raw)[:40], known_codes())}")
    return canonical(raw)


def read_arguments(
    raw: Json, needed: Mapping[str, Reader], optional: Mapping[str, Reader], where: str
) -> dict[str, Any]:
    """The arguments by name; null is "not given".

    Raises ``ReferenceUnparseable`` that names what is missing, unknown or unusable, and ``where``.
    """
    given = {key: value for key, value in raw.items() if value is not None}
    known = {**needed, **optional}
    for key in given:
        if key not in known:
            raise ReferenceUnparseable(f"{where} has no argument {key!r}{nearest(str(key), known)}", field=where)
    for key in needed:
        if key not in given:
            raise ReferenceUnparseable(f"{where} lacks its argument {key!r}", field=where)
    return {key: _read(known[key], value, f"{where}: {key!r}") for key, value in given.items()}


def _read(reader: Reader, value: Any, where: str) -> Any:
    try:
        return reader(value)
    except ValueError as error:
        raise ReferenceUnparseable(f"{where} {error}", field=where) from None
