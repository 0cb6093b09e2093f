"""What a verifier may leave changed in its worker, on which others' scores would depend: put back after its calls."""

import decimal
import locale
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

_SIGNALS = (
    signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD,
    signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


class Ambient:
    """The working directory, locale, decimal context, limits of recursion and digits, signal handlers and timers of
    this process as they are now.
    """

    def __init__(self) -> None:
        self._place: Path | None = None
        with suppress(OSError):  # the hub's may have been removed
            self._place = Path.cwd()
        self._locale = locale.setlocale(locale.LC_ALL)
        self._decimal = decimal.getcontext().copy()
        self._depth, self._digits = sys.getrecursionlimit(), sys.get_int_max_str_digits()
        found = {number: signal.getsignal(number) for number in _SIGNALS}
        self._handlers = {number: handler for number, handler in found.items() if handler is not None}

    def restore(self) -> None:
        """Puts everything back; a timer that was left running would end the worker during another's response."""
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        for number, handler in self._handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        sys.setrecursionlimit(self._depth)
        sys.set_int_max_str_digits(self._digits)
        decimal.setcontext(self._decimal.copy())
        with suppress(OSError):
            if self._place:
                os.chdir(self._place)
        with suppress(locale.Error):
            if locale.setlocale(locale.LC_ALL) != self._locale:
                locale.setlocale(locale.LC_ALL, self._locale)
