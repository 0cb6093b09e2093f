"""What the pool remembers of one endpoint: load, health, circuit breaker and push-back."""

import math
import time
from dataclasses import dataclass, field

FAILURES_TO_OPEN = 5
QUIET_S = 1.0
AILING = 0.2
"""The share of calls that fail, lately, above which an endpoint is asked only where there is no other."""
FIRST_COOLDOWN_S = 1.0
LONGEST_COOLDOWN_S = 30.0


@dataclass(slots=True)
class EndpointState:
    """The health of one endpoint. Times are ``time.monotonic`` seconds.

    The breaker opens after ``FAILURES_TO_OPEN`` failures in a row with no success for ``QUIET_S``, so that
    a busy endpoint which fails now and then stays in use. Once the cooldown is over it lets one probe
    through; each failed probe doubles the cooldown.
    """

    url: str
    model: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    first_model: str = ""
    served_model: str = ""
    in_flight: int = 0
    calls: int = 0
    failures: int = 0
    openings: int = 0
    open_until: float = 0.0
    last_success: float = -math.inf
    last_failure: float = -math.inf
    failing: float = 0.0
    not_before: float = 0.0
    probing: bool = False
    fastest_s: float = math.inf
    mean_s: float = 0.0

    @property
    def answering_model(self) -> str:
        """The model that answers here: the name it returned, until the first reply the configured one."""
        return self.served_model or self.model

    @property
    def answered(self) -> bool:
        return self.last_success > -math.inf

    @property
    def exchanged(self) -> str:
        """The model that answers here now, where that is no longer the first one that did; else ""."""
        return self.served_model if self.served_model != self.first_model else ""

    def closed(self, now: float) -> bool:
        """Whether a call may go here: the circuit is closed, or due for its one probe."""
        return now >= self.open_until and not self.probing

    def ailing(self, now: float) -> bool:
        """Whether it failed just now, and often: having few calls under way for that, it would draw most of them."""
        return self.failing > AILING and now - self.last_failure < QUIET_S

    def begin(self) -> bool:
        """Enters a call; True where it is the probe of an open circuit."""
        self.in_flight += 1
        self.calls += 1
        self.probing = self.probing or self.open_until > 0
        return self.open_until > 0

    def end(self, probe: bool) -> None:
        self.in_flight -= 1
        self.probing = self.probing and not probe

    def succeeded(self, took_s: float, model: str) -> None:
        self.failures = self.openings = 0
        self.failing *= 0.9
        self.open_until = 0.0
        self.last_success = time.monotonic()
        self.fastest_s = min(self.fastest_s, took_s)
        self.mean_s = took_s if not self.mean_s else 0.9 * self.mean_s + 0.1 * took_s
        self.served_model = model or self.served_model
        self.first_model = self.first_model or self.served_model

    def failed(self, probe: bool) -> None:
        """Counts a failure. Of many calls that fail together only the first to open the circuit counts."""
        self.failures += 1
        self.failing = 0.9 * self.failing + 0.1
        self.last_failure = time.monotonic()
        dead = self.failures >= FAILURES_TO_OPEN and time.monotonic() - self.last_success > QUIET_S
        if probe or (dead and not self.open_until):
            cooldown = min(LONGEST_COOLDOWN_S, FIRST_COOLDOWN_S * 2.0 ** min(self.openings, 10))
            self.open_until = time.monotonic() + cooldown
            self.openings += 1

    def push_back(self, seconds: float) -> None:
        """The endpoint asked to be left alone for so long."""
        self.not_before = max(self.not_before, time.monotonic() + seconds)

    def too_slow_for(self, took_s: float) -> bool:
        """Whether a call cut by its deadline after ``took_s`` speaks against the endpoint.

        A tenant with short deadlines must not close an endpoint to the others.
        """
        return self.mean_s > 0 and took_s > 3 * self.mean_s
