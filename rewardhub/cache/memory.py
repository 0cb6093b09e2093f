"""The first tier: rows in this process, bounded by bytes, least recently used out first."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from rewardhub.cache.row import Row

ROW_BYTES = 400


class MemoryStore:
    """Rows by key; ``capacity`` in bytes, estimated per row."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows: OrderedDict[bytes, Row] = OrderedDict()
        self.bytes = 0
        self.evictions = 0

    def get(self, keys: Sequence[bytes]) -> list[Row | None]:
        """The row of each key, None where there is none."""
        rows = self._rows
        found = list(map(rows.get, keys))
        use = rows.move_to_end
        for key, row in zip(keys, found, strict=True):
            if row is not None:
                use(key)
        return found

    def put(self, rows: Iterable[tuple[bytes, Row]]) -> None:
        if not self._capacity:
            return
        for key, row in rows:
            old = self._rows.pop(key, None)
            self._rows[key] = row
            self.bytes += _size(row) - (_size(old) if old else 0)
        while self.bytes > self._capacity and self._rows:
            self.bytes -= _size(self._rows.popitem(last=False)[1])
            self.evictions += 1


def _size(row: Row) -> int:
    return ROW_BYTES + 8 * len(row[3]) + (len(str(row[4])) if row[4] else 0)
