"""Inputs that cost workers their life: the second loss is the last one.

An input is known by the digest of what its scorer sees, under the scorer's fingerprint, so that it is known
again in another group, another call, from another tenant and through the other door. After one loss it is
suspected and is tried once more, by one worker at a time and apart from others; after the second it is
answered at once with what the second loss was, for ``kept_s`` seconds. The oldest are forgotten where there
are too many. A copy that another worker was running already cannot be called back.
"""

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rewardhub.cache.key import row_keys
from rewardhub.owned import own_score
from rewardhub.scheduler.beginnings import beside
from rewardhub.scheduler.figures import Figures
from rewardhub.scorer import Bound
from rewardhub.types import Group, Score

TRIES = 2
"""Workers that one input may cost."""
_log = logging.getLogger("rewardhub.scheduler")


@dataclass
class _Record:
    """``until`` is in ``time.monotonic`` seconds; ``verdict`` once the input has lost its trial."""

    until: float
    verdict: Score | None = None
    trial: asyncio.Lock = field(default_factory=asyncio.Lock)


class Quarantine:
    """Shared by the lanes of a hub; empty, and then free of cost, unless workers were lost lately."""

    def __init__(self, figures: Figures | None = None, *, kept_s: float = 600.0, limit: int = 8_192) -> None:
        self._figures = figures or Figures()
        self._kept_s = kept_s
        self._limit = limit
        self._records: OrderedDict[bytes, _Record] = OrderedDict()

    def __len__(self) -> int:
        """Inputs that lost a worker, suspected or refused."""
        return len(self._records)

    @property
    def refused(self) -> int:
        """Inputs that are answered at once now."""
        return sum(1 for key in [*self._records] if (record := self._record(key)) and record.verdict)

    def verdict(self, key: bytes) -> Score | None:
        """The answer of an input that has lost its tries; None for any other."""
        record = self._record(key)
        return own_score(record.verdict) if record and record.verdict else None

    async def verdicts(self, bound: Bound, group: Group, rows: Sequence[int]) -> dict[int, Score]:
        """By position in ``rows`` the answers of what is refused."""
        keys = await beside(group, lambda: inputs_of(bound, group, rows)) if self._records else []
        found = {place: score for place, key in enumerate(keys) if (score := self.verdict(key)) is not None}
        self._figures.refused(bound.info.name, len(found))
        return found

    def marks(self, key: bytes) -> bool:
        """Whether the input lost a worker, and perhaps all its tries."""
        return self._record(key) is not None

    def suspects(self, key: bytes) -> bool:
        """Whether the input lost a worker and may be tried once more."""
        record = self._record(key)
        return record is not None and record.verdict is None

    def trial(self, key: bytes) -> asyncio.Lock:
        """Held by whoever tries a suspected input."""
        record = self._record(key)
        return record.trial if record else asyncio.Lock()

    def strike(self, key: bytes, score: Score, *, on_trial: bool) -> Score | None:
        """A worker was lost on an input; ``score``, with its reason, is the answer where it was on trial."""
        on_trial = on_trial and self.suspects(key)
        record = self._record(key) or _Record(0.0)
        record.until = time.monotonic() + self._kept_s
        if on_trial:
            reason = f"{score.details['reason']}: in quarantine for {self._kept_s:g} s"
            _log.warning("input %s %s", key.hex()[:12], reason)
            record.verdict = replace(score, details={**score.details, "reason": reason})
        self._records[key] = record
        self._records.move_to_end(key)
        while len(self._records) > self._limit:
            self._records.popitem(last=False)
        return own_score(record.verdict) if record.verdict else None

    def absolve(self, key: bytes) -> None:
        """A worker outlived the input."""
        if self.suspects(key):
            del self._records[key]

    def clear(self) -> None:
        """Everything may be tried again."""
        self._records.clear()

    def _record(self, key: bytes) -> _Record | None:
        record = self._records.get(key)
        if record is not None and record.until <= time.monotonic():
            del self._records[key]
            return None
        return record


def inputs_of(bound: Bound, group: Group, rows: Sequence[int]) -> list[bytes]:
    """A digest per row of what the scorer sees: for pair and group scope the same for all rows.

    An input that has no canonical form is like no other.
    """
    try:
        keys = row_keys(bound, group, rows, "")
    except Exception:
        return [secrets.token_bytes(32) for _ in rows]
    return keys if bound.info.scope == "response" else keys[:1] * len(keys)
