"""``region_calls``: whether the zoom-in calls of a reasoning trace are well formed."""

import re2

from rewardhub.registry import Example, verifier
from rewardhub.types import Group, Json, Response, Score, Space
from rewardhub.verifiers.geometry.reading import MAX_ITEMS, find_json, items_of
from rewardhub.verifiers.geometry.space import frame_of

_CALL = re2.compile(r"\{[^{}]*\}")
_KEY = '"bbox_2d"'
_ONE = 'Look closer. {"bbox_2d": [0, 0, 10, 10]} It is a dog.'
_SAME = 'a {"bbox_2d": [0, 0, 10, 10]} b {"bbox_2d": [0, 0, 10, 10]}'


@verifier(
    "region_calls",
    libraries=("google-re2", "numpy"),
    sources=(
        "rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.geometry.space",
        "rewardhub.verifiers.boxes", "rewardhub.verifiers.tags",
    ),
    examples=(
        Example(_ONE, {}, 1.0),
        Example(_SAME, {}, 1.0),
        Example(_SAME, {}, 0.0, {"least": 2}),
        Example(_ONE + ' {"bbox_2d": [1, 2, 3, 4], "label": "eye"}', {}, 1.0, {"least": 2}),
        Example(_ONE + ' {"bbox_2d": [0, 0, 10}', {}, 0.0),
        Example(_ONE + ' {"bbox_2d": [10, 0, 0, 10]}', {}, 0.0),
        Example(_ONE, {"size": [8, 8]}, 0.0),
        Example("It is a dog.", {}, 0.0),
    ),
)  # fmt: skip
def region_calls(
    response: Response, reference: Json, group: Group, *, least: int = 1, space: Space = Space.PIXEL
) -> Score:  # fmt: skip
    """1.0 where every ``{"bbox_2d": [x1, y1, x2, y2]}`` in the text is a box and ``least`` of them differ.

    Else 0.0, so also without any call. Boxes are continuous and, in pixels, lie in the image where its
    ``reference.size`` [width, height] is given. More than 1,000 calls are wrong. Source: VLM-R3.
    """
    calls = response.text.count(_KEY)
    if not 0 < calls <= MAX_ITEMS:
        return Score(0.0, details={"reason": f"{calls} region calls"})
    text = response.text
    found = [find_json(match.group()) for match in _CALL.finditer(text) if _KEY in match.group()]
    frame = frame_of(reference, group, space)
    boxes, valid = frame.boxes([items_of(each)[0] for each in found if isinstance(each, dict)])
    if len(boxes) != calls or not valid.all():
        return Score(0.0, details={"reason": "a region call is malformed", "calls": calls})
    if "size" in reference and space is Space.PIXEL:
        width, height = frame.reference_points(reference["size"], "reference.size")[0]
        if (boxes < 0.0).any() or (boxes > [width, height, width, height]).any():
            return Score(0.0, details={"reason": "a region is outside the image", "calls": calls})
    unique = len({tuple(row) for row in boxes.tolist()})
    return Score(float(unique >= least), details={"calls": calls, "unique": unique})
