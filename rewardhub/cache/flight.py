"""One look-up under way."""

from collections.abc import Awaitable, Callable, Sequence

from rewardhub.cache.row import Row, column_of, rows_of
from rewardhub.raised import failure
from rewardhub.types import CacheMode, Column, Status

Compute = Callable[[list[int]], Awaitable[Column]]
"""Scores the rows at some positions of a look-up."""


class VersionChanged(Exception):
    """The scorer was exchanged between the look-up and the computation, so their rows do not mix."""


class Flight:
    """The rows of a look-up, which fill up; ``current`` until something of another version was computed.

    ``names`` are what its keys are known by to others in flight: who computes anew takes no row from who may have
    found one.
    """

    def __init__(
        self,
        keys: Sequence[bytes],
        mode: CacheMode,
        compute: Compute,
        fingerprint: str,
        rows: list[Row | None],
        cached: list[bool],
    ) -> None:
        self.keys, self.mode, self.rows = keys, mode, rows
        self.names = [b"anew" + key for key in keys] if mode == "refresh" else keys
        self.current = True
        self._compute, self._cached, self._fingerprint = compute, cached, fingerprint

    async def run(self, positions: list[int]) -> list[Row]:
        """Computes some rows; what goes wrong is a status in each of them."""
        column = await self._computed(positions)
        computed = rows_of(column)
        for position, row in zip(positions, computed, strict=True):
            self.rows[position] = row
        if column.fingerprint not in {"", self._fingerprint}:
            self.current = False
            if len(positions) < len(self.rows):
                raise VersionChanged
            self._fingerprint = column.fingerprint
        return computed

    async def _computed(self, positions: list[int]) -> Column:
        try:
            return await self._compute(positions)
        except TimeoutError:
            return Column.failed(len(positions), Status.TIMEOUT, "the deadline passed")
        except Exception as error:
            return Column.of([failure(error)] * len(positions))

    def take(self, rows: dict[int, Row]) -> None:
        """Rows that somebody else computed; a failure among them is no hit."""
        for position, row in rows.items():
            self.rows[position], self._cached[position] = row, row[1].is_verdict

    def column(self) -> Column:
        return column_of([row for row in self.rows if row is not None], self._fingerprint, self._cached)
