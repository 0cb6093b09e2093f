"""The stated limits of one answer; past them a response is ``over_limit`` and a reference unusable."""

MAX_CHARS = 2_000
"""Characters of an extracted answer."""
MAX_DIGITS = 1_500
"""Digits of a written number."""
MAX_DEPTH = 40
"""Nested groups."""
MAX_TREE = 80
"""Operations inside operations, brackets or not: ``1/2/3/…``."""
MAX_BITS = 20_000
"""Bits of any integer that an exact evaluation makes (about 6,000 digits)."""
MAX_FACTORIAL = 1_800
"""Largest argument of a factorial that is evaluated (its value stays under ``MAX_BITS``)."""
MAX_ITEMS = 64
"""Items of a list, set or tuple, and entries of a matrix row or column."""
MAX_WORK = 20_000
"""Products of terms that one verdict spends before it is left to the symbolic tier."""
MAX_TERMS = 300
"""Terms of an expanded polynomial."""


class TooLarge(Exception):  # a limit, not a fault
    """An answer exceeds a stated limit; the message says which."""


class Unparseable(Exception):  # a verdict, not a fault
    """The text is not mathematics that the grammar knows; the message says where."""


class Undecided(Exception):  # control flow of the exact tier
    """Exact arithmetic cannot represent this value."""
