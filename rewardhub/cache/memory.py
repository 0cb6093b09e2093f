"""The first tier: rows in this process, bounded by bytes, least recently used out first."""

import sys
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from rewardhub.cache.row import Row

ENTRY_BYTES = 340
"""A row without steps and details, with its key and its place in the store."""


class MemoryStore:
    """Rows by key; ``capacity`` in bytes. A row that alone is larger is not kept."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows: OrderedDict[bytes, tuple[Row, int]] = OrderedDict()
        self.bytes = 0
        self.evictions = 0

    def get(self, keys: Sequence[bytes]) -> list[Row | None]:
        """The row of each key, None where there is none."""
        entries = self._rows
        found: list[Row | None] = []
        use = entries.move_to_end
        for key, entry in zip(keys, map(entries.get, keys), strict=True):
            if entry is None:
                found.append(None)
            else:
                use(key)
                found.append(entry[0])
        return found

    def put(self, rows: Iterable[tuple[bytes, Row]]) -> None:
        if not self._capacity:
            return
        for key, row in rows:
            size = _size(row)
            if old := self._rows.pop(key, None):
                self.bytes -= old[1]
            if size <= self._capacity:
                self._rows[key] = row, size
                self.bytes += size
        while self.bytes > self._capacity:
            self.bytes -= self._rows.popitem(last=False)[1][1]
            self.evictions += 1


def _size(row: Row) -> int:
    steps, details = row[3], row[4]
    return ENTRY_BYTES + (_held([steps, details]) if steps or details else 0)


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
