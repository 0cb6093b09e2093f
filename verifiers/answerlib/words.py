"""Number words up to the millions."""

_UNITS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_VALUES = {word: value for value, word in enumerate(_UNITS.split())}
_VALUES |= {word: 10 * value for value, word in enumerate(_TENS.split(), start=2)}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_LONGEST = 20


def worded_number(text: str) -> int | None:
    """The number that a whole text says in words ("twenty-one", "two hundred and five"); None for any other.

    Tens, units and scales must come in the usual order.
    """
    words = text.casefold().strip(" .,!*\"'").replace("-", " ").split()
    if not words or len(words) > _LONGEST:
        return None
    total, current, previous = 0, 0, ""
    for word in words:
        if word == "and" and previous in _SCALES:
            continue
        if word in _SCALES:
            scale = _SCALES[word]
            if not current or (scale == 100 and current > 9) or (scale > 100 and total % (1_000 * scale)):
                return None
            total, current = _scaled(total, current, scale)
        elif word in _VALUES and (not current % 100 or _follows(current, word)) and previous != "zero":
            current += _VALUES[word]
        else:
            return None
        previous = word
    return total + current


def _follows(current: int, word: str) -> bool:
    """Whether a unit may stand behind what was read: behind a round ten, or a hundred."""
    return current % 100 >= 20 and current % 10 == 0 and 0 < _VALUES[word] < 10


def _scaled(total: int, current: int, scale: int) -> tuple[int, int]:
    return (total, current * scale) if scale == 100 else (total + current * scale, 0)
