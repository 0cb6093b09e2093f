"""What a judge may spend: retries in proportion to its questions, requests and tokens per minute."""

import time
from dataclasses import dataclass, field

BURST_S = 10.0


@dataclass(slots=True)
class RetryBudget:
    """A token bucket: each question puts in ``ratio`` of a token, each retry takes a whole one.

    It starts full with ``burst`` tokens, so of n questions at most burst + ratio * n are retried
    (retry throttling of gRPC, proposal A6).
    """

    ratio: float
    burst: int
    tokens: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = float(self.burst)

    def deposit(self) -> None:
        self.tokens = min(max(float(self.burst), 1.0), self.tokens + self.ratio)

    def withdraw(self) -> bool:
        """Takes a token where there is one."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


@dataclass(slots=True)
class Allowance:
    """A rate: ``per_minute`` of something, 0 for no limit, with ten seconds' worth to spend at once."""

    per_minute: int
    level: float = field(init=False)
    updated: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.level = self.per_minute / 60.0 * BURST_S

    def take(self, amount: float) -> float:
        """Takes ``amount``, on credit where it must; the seconds to wait until it is covered."""
        if not self.per_minute:
            return 0.0
        now, rate = time.monotonic(), self.per_minute / 60.0
        self.level = min(rate * BURST_S, self.level + rate * (now - self.updated)) - amount
        self.updated = now
        return max(0.0, -self.level / rate)

    def give_back(self, amount: float) -> None:
        """Returns what was taken and not spent; negative where more was spent than taken."""
        self.level += amount
