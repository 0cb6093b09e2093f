"""What a scorer gave that is no score: law 1 for plugins, judges and models alike."""

import math
from dataclasses import replace
from numbers import Real
from types import NoneType

from rewardhub.types import Score, Status


def flaw(score: Score) -> str:
    """Why what a scorer gave is no score, "" for one that is: a failure has no value, and numbers are finite."""
    if score.value is None:
        if score.status is Status.OK:
            return "the scorer returned no value with the status ok"
    elif not finite(score.value):
        return "the scorer returned a value that is no finite number"
    elif not score.status.is_verdict:
        return f"the scorer returned a value with the status {score.status}"
    if not all(each is None or finite(each) for each in (score.confidence, *score.steps)):
        return "the scorer returned steps or a confidence that are no finite numbers"
    return ""


def finite(number: object) -> bool:
    """Whether it is a number, and not NaN or without bounds."""
    try:
        return isinstance(number, (float, Real)) and math.isfinite(number)
    except OverflowError:  # an integer beyond all floats
        return False


def plain(score: Score) -> Score:
    """The score with Python's own floats, which every message holds."""
    numbers = (score.value, score.confidence, *score.steps)
    if all(type(each) in {float, NoneType} for each in numbers):
        return score
    value, confidence, *steps = (None if each is None else float(each) for each in numbers)
    return replace(score, value=value, confidence=confidence, steps=tuple(steps))
