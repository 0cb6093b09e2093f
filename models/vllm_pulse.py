"""Whether a vLLM server gets on with what it was asked for, as seen from outside: its health is well while its engine
hangs, and a row may take minutes.

Signs are any answer, figures of ``/metrics`` that move with the engine's steps, and, for servers that tell none, a row
of a few tokens that is scored beside those in flight. What lies between two of them is a step of the engine at most.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rewardhub.errors import RewardHubError

_log = logging.getLogger("rewardhub.models")
LOOK_S, SILENT_S = 0.5, 4.0
"""How often a server is looked at that gives no sign, and how long it may give none."""
BLIND_S = 15.0
"""How long one may that tells no figures: a short row may wait behind those of others, which are not seen."""
STEP = 8192
"""Tokens that vLLM reads in one step at most, unless it is told otherwise."""
SLOWER = 5.0
"""How many times longer than was measured, or seen at most, a step may take on a machine that is crowded since."""


class Pulse:
    """``figures`` tells what moves with a server's steps, "" for nothing; ``beat`` whether it scored a short row."""

    def __init__(self, figures: Callable[[], str], beat: Callable[[], bool]) -> None:
        self._figures = figures
        self._beat = beat
        self._tells = bool(figures())
        self._in_flight = False
        self._since = self._longest = self._step_s = 0.0
        self._any_s, self._measured = float("inf"), 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Rows are in flight within."""
        ended = threading.Event()
        self._since, self._in_flight = time.monotonic(), True
        threading.Thread(target=self._watch, args=(ended,), daemon=True).start()
        try:
            yield
        finally:
            self.sign()
            self._in_flight = False
            ended.set()

    def sign(self, *_: object) -> None:
        """The server gets on."""
        now = time.monotonic()
        # What is longer was a pause of this machine, not a step.
        if self._in_flight and self._longest < now - self._since < self.patience_s:
            self._longest = now - self._since
        self._since = now

    def measured(self, tokens: int, seconds: float) -> None:
        """A row of so many tokens took so long: but for what any row takes, a full step takes in proportion."""
        self._any_s = min(self._any_s, seconds)
        if tokens >= self._measured:
            self._measured = tokens
            self._step_s = self._any_s + (seconds - self._any_s) * max(1.0, STEP / tokens)

    @property
    def patience_s(self) -> float:
        """How long the server may give no sign."""
        return max(SILENT_S if self._tells else BLIND_S, SLOWER * self._step_s, SLOWER * self._longest)

    @property
    def lost(self) -> bool:
        """Whether rows are in flight and the server gives no sign any more."""
        return self._in_flight and time.monotonic() - self._since > self.patience_s

    def _watch(self, ended: threading.Event) -> None:
        before, beating = "", None
        while not ended.wait(LOOK_S):
            if time.monotonic() - self._since < LOOK_S:
                continue
            figures = self._figures()
            if ended.is_set():
                return
            if before and figures and figures != before:
                self.sign()
            before = figures or before
            if beating is None or not beating.is_alive():
                beating = threading.Thread(target=self._beat_once, daemon=True)
                beating.start()
            if self.lost:
                _log.warning("vLLM has given no sign for %.1f s, with rows in flight", self.patience_s)
                return

    def _beat_once(self) -> None:
        with suppress(RewardHubError, RuntimeError):  # a refusal is no sign, and the client may be closed meanwhile
            if self._beat():
                self.sign()
