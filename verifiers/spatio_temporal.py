"""``spatio_temporal``: when something is seen, and where in each frame."""

from typing import Literal

from rewardhub.registry import Example, verifier
from rewardhub.types import Group, Json, Response, Score, Space
from rewardhub.verifiers.boxes import Convention
from rewardhub.verifiers.geometry.reading import Wrong, json_object, numbers
from rewardhub.verifiers.geometry.space import Share, frame_of
from rewardhub.verifiers.geometry.spans import ordered, reference_span, span_iou
from rewardhub.verifiers.geometry.tracks import reference_track, stated_track, track_ious

_TWO = {"time": [0, 2], "boxes": {"0": [0, 0, 10, 10], "1": [0, 0, 10, 10]}}


@verifier(
    "spatio_temporal",
    libraries=("numpy",),
    sources=(
        "rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.geometry.space",
        "rewardhub.verifiers.geometry.overlaps", "rewardhub.verifiers.geometry.tracks",
        "rewardhub.verifiers.geometry.spans", "rewardhub.verifiers.boxes", "rewardhub.verifiers.tags",
    ),
    examples=(
        Example('{"time": [0, 2], "boxes": {"1": [0, 0, 10, 5]}}', _TWO, 0.75),
        Example('{"time": [0, 2], "boxes": {"1": [0, 0, 10, 5]}}', _TWO, 0.625, {"frames": "reference"}),
        Example('{"time": [0, 1], "boxes": {}}', _TWO, 0.25),
        Example('{"time": [2, 0], "boxes": {"0": [0, 0, 10, 10]}}', _TWO, 0.5),
        Example('{"boxes": {"0": [0, 0, 10, 10]}}', _TWO, 0.5),
        Example('{"time": [0, 1], "boxes": {}}', _TWO, 0.4, {"time_weight": 0.8}),
    ),
)  # fmt: skip
def spatio_temporal(
    response: Response, reference: Json, group: Group, *,
    time_weight: Share = 0.5,
    frames: Literal["common", "reference"] = "common",
    space: Space = Space.PIXEL,
    reference_space: Space | None = None,
    convention: Convention = "continuous",
) -> Score:  # fmt: skip
    """``time_weight`` · temporal IoU + (1 - ``time_weight``) · mean box IoU, in [0, 1].

    The response is a JSON object with ``time``: [start, end] in seconds, and ``boxes``: frame name to
    [x1, y1, x2, y2]; the reference is alike. The mean is over the frames that both name (``common``, as
    published, which does not punish a missing frame) or over all of the ``reference``. A missing or
    malformed half counts 0. Source: OneThinker.
    """
    frame = frame_of(reference, group, space, reference_space, convention)
    wanted = reference_track(reference.get("boxes"), frame)
    span = reference_span(reference.get("time"), "reference.time")
    try:
        answer = json_object(response)
    except Wrong as wrong:
        return wrong.score()
    details: dict[str, object] = {}
    when, where = 0.0, 0.0
    try:
        when = span_iou(ordered(*(numbers(answer.get("time"), 2) or (0.0, 0.0))), span)
    except Wrong as wrong:
        details["time_reason"] = str(wrong)
    try:
        ious = track_ious(stated_track(answer.get("boxes")), wanted, frame)
        where = float(ious.sum()) / max(1, len(ious) if frames == "common" else len(wanted))
    except Wrong as wrong:
        details["boxes_reason"] = str(wrong)
    return Score(time_weight * when + (1.0 - time_weight) * where, details={"time": when, "boxes": where, **details})
