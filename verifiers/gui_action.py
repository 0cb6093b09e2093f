"""``gui_action``: an action on a screen against the recorded one."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from rapidfuzz.distance import LCSseq, Levenshtein

from rewardhub.errors import ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.geometry.overlaps import box_iou
from rewardhub.verifiers.geometry.reading import Wrong, answer_text, find_json, missing, numbers
from rewardhub.verifiers.repetition import most_frequent_window

Style = Literal["osworld", "androidworld", "webvoyager"]
Action = Mapping[str, Any]

_LONGEST = 5_000
_LONGER, _REPEATS = 50, 10
