"""What is cached of one response: a row of a column, as a plain tuple, and its form in Redis.

In Redis a row is a mark, a checksum and JSON: readable by any later version, and never unpickled. The
checksum is of the key and the row, so that a row is worth nothing under another key, as where an answer of Redis came
to another call than asked for it. It is against damage, not against forgery: who may write to Redis is trusted.
"""

import json
import sys
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from rewardhub.types import PASSING, Column, Json, Status

Row = tuple[float | None, Status, float | None, tuple[float | None, ...], Json | None]
"""Value, status, confidence, steps, details."""
MARK = b"rh3"
_BODY = 7
ENTRY_BYTES = 340
"""A row without steps and details, with its key and its place in memory."""


_Read = tuple[float | None, Status, float | None, tuple[float | None, ...], dict[str, Any] | None]
_encoder = msgspec.json.Encoder()
_strict = json.JSONEncoder(allow_nan=False)
_one = msgspec.json.Decoder(_Read)
_many = msgspec.json.Decoder(list[_Read])


def rows_of(column: Column) -> list[Row]:
    """The rows of a column, without its fingerprint."""
    size = len(column)
    confidence = column.confidence or [None] * size
    steps = column.steps or [()] * size
    details = column.details or [None] * size
    return list(zip(column.values, column.statuses, confidence, steps, details, strict=True))


def column_of(rows: Sequence[Row], fingerprint: str, cached: list[bool]) -> Column:
    """The inverse of :func:`rows_of`; ``cached`` says which rows were not computed for this call.

    Details are copies: a caller in process may write into what it gets, and others get the row too.
    """
    values, statuses, confidence, steps, details = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [], [])
    return Column(
        values,
        statuses,
        fingerprint,
        details=_copies(details) if any(details) else None,
        confidence=confidence if confidence.count(None) < len(rows) else None,
        steps=steps if any(steps) else None,
        cached=cached if any(cached) else None,
    )


def _copies(details: list[Json | None]) -> list[Json | None]:
    try:
        copies: list[Json | None] = msgspec.to_builtins(details)
    except (TypeError, RecursionError):  # no JSON, which no scorer's details are
        return details
    return copies


def lasts(row: Row) -> bool:
    """Whether a row is worth remembering: a verdict that will be the same tomorrow."""
    return row[1].is_verdict and not (row[4] and row[4].get(PASSING))


def bytes_of(row: Row) -> int:
    """The bytes of memory that a row takes, with its key."""
    steps, details = row[3], row[4]
    return ENTRY_BYTES + (_held([steps, details]) if steps or details else 0)


def encode(key: bytes, row: Row) -> bytes | None:
    """The bytes that Redis keeps under ``key``; None for details that are no JSON, such as half of a surrogate pair or
    a number that is not finite: it would come back as null, for which a recipe may state another value.
    """
    value, status, confidence, steps, details = row
    try:
        body = _encoder.encode((value, status, confidence, steps, dict(details) if details else None))
        if details:
            _strict.encode(dict(details))
    except (TypeError, ValueError, RecursionError):
        return None
    return _checked(key, body) + body


def decode(keys: Sequence[bytes], values: Sequence[bytes | None]) -> list[Row | None]:
    """The rows of ``keys``; None for what is missing, not intact, another key's, of another schema or no verdict."""
    bodies = [_intact(key, value) if value else None for key, value in zip(keys, values, strict=True)]
    kept = [body for body in bodies if body is not None]
    try:
        rows = _many.decode(b"[" + b",".join(kept) + b"]")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        rows = []
    statuses = {row[1] for row in rows}
    if len(rows) != len(kept) or not all(status.is_verdict for status in statuses):
        return [None if body is None else _alone(body) for body in bodies]
    rest = iter(rows)
    return [None if body is None else next(rest) for body in bodies]


def _checked(key: bytes, body: bytes) -> bytes:
    return MARK + zlib.crc32(body, zlib.crc32(key)).to_bytes(4, "big")


def _intact(key: bytes, value: bytes) -> bytes | None:
    body = value[_BODY:]
    return body if value[:_BODY] == _checked(key, body) else None


def _alone(body: bytes) -> Row | None:
    try:
        row = _one.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return row if row[1].is_verdict else None


def _held(values: Any) -> int:
    """The bytes of objects and of all that they hold, of which each is counted once."""
    size, todo, seen = 0, list(values), set()
    while todo:
        value = todo.pop()
        if value is None or value is True or value is False or id(value) in seen:
            continue
        seen.add(id(value))
        size += sys.getsizeof(value)
        if isinstance(value, dict):
            todo.extend(value)
            todo.extend(value.values())
        elif isinstance(value, (list, tuple)):
            todo.extend(value)
    return size
