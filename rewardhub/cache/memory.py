"""The first tier: scores in this process, bounded by bytes, least recently used out first."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from rewardhub.types import Score

ROW_BYTES = 400


class MemoryStore:
    """Scores by key; ``capacity`` in bytes, estimated per row."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows: OrderedDict[str, tuple[Score, int]] = OrderedDict()
        self.bytes = 0
        self.evictions = 0

    def get(self, keys: Sequence[str]) -> dict[str, Score]:
        found = {}
        for key in keys:
            entry = self._rows.get(key)
            if entry is not None:
                self._rows.move_to_end(key)
                found[key] = entry[0]
        return found

    def put(self, scores: Mapping[str, Score]) -> None:
        for key, score in scores.items():
            size = ROW_BYTES + (len(str(score.details)) if score.details else 0)
            old = self._rows.pop(key, None)
            self._rows[key] = (score, size)
            self.bytes += size - (old[1] if old else 0)
        while self.bytes > self._capacity and self._rows:
            self.bytes -= self._rows.popitem(last=False)[1][1]
            self.evictions += 1
