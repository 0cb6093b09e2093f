"""The first tier: rows in this process, bounded by bytes, least recently used out first."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from rewardhub.cache.row import Row, bytes_of


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
            size = bytes_of(row)
            if old := self._rows.pop(key, None):
                self.bytes -= old[1]
            if size <= self._capacity:
                self._rows[key] = row, size
                self.bytes += size
        while self.bytes > self._capacity:
            self.bytes -= self._rows.popitem(last=False)[1][1]
            self.evictions += 1
