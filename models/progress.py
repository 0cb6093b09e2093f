"""Signs that the thread that scores gets on, and how long it may go without one.

A sign is given whenever a module of torch is entered, a text tokenised, an image cut, a group read: what lies between
two signs is one layer's part at most, be the batch as long as it may. On a GPU, which is given its work in advance, it
is a pass. How long that takes is measured, batch by batch, with the tokens that the model had in hand: a stretch may
take ``FACTOR`` times the longest that was seen of so many tokens, on a machine that is crowded since, and twice what
follows where it grows with the square of the tokens, as attention does, where there were never so many.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FACTOR, GROWTH = 10.0, 2.0


class Pace:
    """The longest stretches of one model between two signs, by doublings of the tokens in hand."""

    def __init__(self) -> None:
        self._longest: dict[int, tuple[int, float]] = {}

    def learn(self, size: int, seconds: float) -> None:
        """A batch of at most ``size`` tokens in hand took ``seconds`` for its longest stretch."""
        _, before = self._longest.get(size.bit_length(), (0, 0.0))
        self._longest[size.bit_length()] = size, max(seconds, (before + seconds) / 2)

    def patience_s(self, size: int) -> float:
        """Seconds that a stretch may take with ``size`` tokens in hand; infinite where nothing is known."""
        at = size.bit_length()
        below = [self._longest[each] for each in self._longest if each <= at]
        above = [seconds for each, (_, seconds) in self._longest.items() if each > at]
        most = FACTOR * min(above, default=float("inf"))
        if below:
            known, seconds = max(below)
            growth = size / known if known else 1.0
            most = min(most, seconds * max(FACTOR, GROWTH * growth**2))
        return most


class Progress:
    """What the thread that scores tells of itself, and others ask. There is one such thread in a process."""

    def __init__(self) -> None:
        self._pace: Pace | None = None
        self._elsewhere = False
        self._size = 0
        self._since = self._longest = self._allowed = 0.0

    @contextmanager
    def work(self, pace: Pace) -> Iterator[None]:
        """A batch, of which ``pace`` learns when it ends well."""
        self._size, self._since, self._longest, self._allowed = 0, time.monotonic(), 0.0, 0.0
        self._pace = pace
        try:
            yield
            self.step()
            pace.learn(self._size, self._longest)
        finally:
            self._pace = None

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Another process, which is watched by other means, is waited for: no sign is expected meanwhile."""
        self._elsewhere = True
        try:
            yield
        finally:
            self._since = time.monotonic()
            self._elsewhere = False

    def step(self) -> None:
        """A sign."""
        now = time.monotonic()
        if not self._allowed:
            self._longest = max(self._longest, now - self._since)
        self._since, self._allowed = now, 0.0

    def allow(self, seconds: float) -> None:
        """What follows, up to the next sign, may take so long, whatever was measured, and is no measure for others."""
        self.step()
        self._allowed = seconds

    def holds(self, size: int) -> None:
        """The model has so many tokens in hand, those that they attend to among them."""
        self.step()  # what went before was not of this size
        self._size = max(self._size, size)

    @property
    def expected(self) -> bool:
        """Whether signs are: something is computed here."""
        return self._pace is not None and not self._elsewhere

    @property
    def silent_s(self) -> float:
        """Seconds since the last sign; 0 while none is expected."""
        return time.monotonic() - self._since if self.expected else 0.0

    @property
    def patience_s(self) -> float:
        """How long the present stretch may take."""
        pace = self._pace
        if pace is None:
            return float("inf")
        return max(FACTOR * self._longest, pace.patience_s(self._size), self._allowed)

    def watch_modules(self) -> None:
        """From now on every module that is entered in this process is a sign; costs about a microsecond each."""
        from torch.nn.modules.module import register_module_forward_pre_hook

        def entered(*_: Any) -> None:
            self.step()

        register_module_forward_pre_hook(entered)


progress = Progress()
