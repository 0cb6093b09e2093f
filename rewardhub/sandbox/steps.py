"""System calls that are prepared before a fork and made after it.

Every page of memory that a fork writes to is copied first, and in Python to use a thing is to write to
it: a short loop over what lies ready touches few of the pages that the code behind it would.
"""

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any

Step = tuple[str, Callable[..., int], tuple[Any, ...]]
"""What it is for, the function of the C library, and its arguments."""


def take(steps: Sequence[Step]) -> None:
    """Makes the calls in order; raises ``OSError`` at the first that fails."""
    for what, call, arguments in steps:
        if call(*arguments) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{what}: {os.strerror(number)}")
