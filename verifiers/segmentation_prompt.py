"""``segmentation_prompt``: the box, points and time with which a response would prompt a segmenter."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rewardhub.errors import ConfigError, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Group, Json, Response, Score, Space
from rewardhub.verifiers.boxes import Convention
from rewardhub.verifiers.geometry.overlaps import aligned_iou, assign
from rewardhub.verifiers.geometry.reading import Item, Wrong, four_numbers, json_object, numbers
from rewardhub.verifiers.geometry.space import Floats, Frame, frame_of

_TIME_SCALE_S = 2.0
_IMAGE = {
    "box": [0, 0, 100, 100],
    "positive_points": [[20, 20], [50, 50], [80, 80]],
    "negative_points": [[150, 20], [150, 50], [150, 80]],
}
_VIDEO = {**_IMAGE, "time": 4.0}
_NEGATIVES = '"negative_points": [[150, 80], [150, 20], [150, 50]]'
_SHIFTED = f'{{"boxes": [0, 0, 100, 50], "positive_points": [[60, 50], [30, 20], [90, 80]], {_NEGATIVES}}}'
_EXACT = f'"positive_points": [[20, 20], [50, 50], [80, 80]], {_NEGATIVES}}}'


@verifier(
    "segmentation_prompt",
    libraries=("numpy", "scipy"),
    sources=(
        "rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.geometry.space",
        "rewardhub.verifiers.geometry.overlaps", "rewardhub.verifiers.boxes", "rewardhub.verifiers.tags",
    ),
    examples=(
        Example(f"<answer>{_SHIFTED}</answer>", _IMAGE, 0.5 * 0.5 + 0.25 * math.exp(-0.02) + 0.25),
        Example(f'{{"time": 2, "boxes": [0, 0, 100, 50], {_EXACT}', _VIDEO, 0.55 + 0.3 * math.exp(-1.0)),
        Example(f'{{"time": 4, "boxes": [0, 0, 100, 100], {_EXACT}', _VIDEO, 1.0),
        Example(f'{{"boxes": [0, 0, 100, 100], {_EXACT}', _VIDEO, 0.7),
        Example('{"boxes": [0, 0, 100, 100], "positive_points": [[20, 20]]}', _IMAGE, 0.5),
        Example('{"boxes": [100, 100, 0, 0]}', _IMAGE, 0.0),
    ),
)  # fmt: skip
def segmentation_prompt(
    response: Response, reference: Json, group: Group, *,
    sigma: float = 50.0,
    video: bool = False,
    space: Space = Space.PIXEL,
    reference_space: Space | None = None,
    convention: Convention = "continuous",
) -> Score:  # fmt: skip
    """Box, positive and negative points, and for a video the time, against the reference's; in [0, 1].

    Image: 0.5 · IoU + 0.25 · s⁺ + 0.25 · s⁻. Video, where the reference has ``time`` in seconds:
    0.3 · IoU + 0.3 · exp(-|Δt| / 2 s) + 0.2 · s⁺ + 0.2 · s⁻. s = exp(-d² / (2 ``sigma``²)), where d is the
    least mean distance over one-to-one pairings, in units of the reference's space; as many points as
    the reference has (three as published), else 0. With ``video`` the reference must have its time. The
    response is a JSON object with ``boxes`` (or ``box``), ``positive_points``, ``negative_points`` and
    ``time``; a missing or malformed part counts 0.
    Source: OneThinker.
    """
    if not sigma > 0.0:
        raise ConfigError("sigma must be greater than 0", field="sigma")
    frame = frame_of(reference, group, space, reference_space, convention)
    box, _ = frame.reference_boxes([reference.get("box")], "reference.box")
    wanted = [frame.reference_points(reference.get(key), f"reference.{key}") for key in _POINTS]
    time = _reference_time(reference)
    if video and time is None:
        raise ReferenceUnparseable("reference.time is missing", field="reference.time")
    try:
        answer = json_object(response)
    except Wrong as wrong:
        return wrong.score()
    said, valid = frame.boxes([Item(four_numbers(answer.get("boxes", answer.get("box"))))])
    iou = float(aligned_iou(said, box, frame.pixel)[0]) if valid[0] else 0.0
    positive, negative = (
        _similarity(answer.get(key), points, frame, sigma) for key, points in zip(_POINTS, wanted, strict=True)
    )
    details = {"iou": iou, "positive": positive, "negative": negative}
    if time is None:
        return Score(0.5 * iou + 0.25 * positive + 0.25 * negative, details=details)
    moment = _moment(answer, time)
    value = 0.3 * iou + 0.3 * moment + 0.2 * positive + 0.2 * negative
    return Score(min(1.0, value), details={**details, "time": moment})


_POINTS = ("positive_points", "negative_points")


def _similarity(value: Any, wanted: Floats, frame: Frame, sigma: float) -> float:
    """The similarity of as many points; 0 for another number of them or a malformed one."""
    if not isinstance(value, list) or len(value) != len(wanted):
        return 0.0
    said, valid = frame.points([numbers(each, 2) for each in value])
    if not valid.all():
        return 0.0
    distances = np.linalg.norm(said[:, None] - wanted[None], axis=2)
    rows, columns = assign(-distances)
    return math.exp(-((float(distances[rows, columns].mean()) / sigma) ** 2) / 2.0)


def _moment(answer: Mapping[str, Any], time: float) -> float:
    said = numbers([answer.get("time")], 1)
    return math.exp(-abs(said[0] - time) / _TIME_SCALE_S) if said and math.isfinite(said[0]) else 0.0


def _reference_time(reference: Json) -> float | None:
    if "time" not in reference:
        return None
    time = numbers([reference["time"]], 1)
    if time is None or not math.isfinite(time[0]):
        raise ReferenceUnparseable("reference.time must be a number of seconds", field="reference.time")
    return time[0]
