"""``points``: stated points, or the centres of stated boxes, against a box, a mask or points."""

from typing import Any, Literal

import numpy as np

from rewardhub.errors import ConfigError, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Group, Json, Response, Score, Space
from rewardhub.verifiers.geometry.masks import read_mask
from rewardhub.verifiers.geometry.overlaps import assign
from rewardhub.verifiers.geometry.reading import Wrong, answer_text, bounded, find_points, missing, stated_items
from rewardhub.verifiers.geometry.space import Flags, Floats, Frame, frame_of

_BOX = {"box": [0, 0, 10, 10]}
_MASK = {"mask": [[1, 1, 0, 0], [1, 1, 0, 0]]}
_PAIR = {"points": [[10, 10], [50, 50]]}
_TARGETS = ("box", "boxes", "mask", "point", "points")


@verifier(
    "points",
    libraries=("numpy", "scipy"),
    sources=(
        "rewardhub.verifiers.geometry.masks", "rewardhub.verifiers.geometry.reading",
        "rewardhub.verifiers.geometry.space", "rewardhub.verifiers.geometry.overlaps",
        "rewardhub.verifiers.boxes", "rewardhub.verifiers.tags",
    ),
    examples=(
        Example("(5, 5)", _BOX, 1.0),
        Example("(10, 5)", _BOX, 1.0),
        Example("[11, 5]", _BOX, 0.0),
        Example('{"point_2d": [5, 5]}', _BOX, 1.0),
        Example("[[5, 5], [50, 50]]", _BOX, 0.5),
        Example("(5, 5) (25, 5)", {"boxes": [[0, 0, 10, 10], [20, 0, 30, 10]]}, 1.0),
        Example("[0, 0, 20, 10]", _BOX, 1.0, {"read": "box_centres"}),
        Example("[4, 0, 20, 10]", _BOX, 0.0, {"read": "box_centres"}),
        Example("(1.5, 0.5)", _MASK, 1.0),
        Example("(2, 0)", _MASK, 0.0),
        Example("(1.5, 0.5), (-1, 0), (9, 9), (0, 1)", _MASK, 0.5),
        Example("[[50, 50], [10, 10]]", _PAIR, 1.0),
        Example("[[10, 39]]", _PAIR, 0.5),
        Example("[[10, 40]]", _PAIR, 0.0),
        Example("[[10, 10], [50, 50], [90, 90], [99, 99]]", _PAIR, 0.5),
        Example("(10, 20)", {"point": [10, 10]}, 0.980199, {"sigma": 50.0}),
        Example("(5, 5, 5)", _BOX, 0.0),
        Example("(nan, 5)", _BOX, 0.0),
    ),
)  # fmt: skip
def points(
    response: Response, reference: Json, group: Group, *,
    read: Literal["points", "box_centres"] = "points",
    radius: float = 30.0,
    sigma: float | None = None,
    space: Space = Space.PIXEL,
    reference_space: Space | None = None,
) -> Score:  # fmt: skip
    """How well stated points fall where they should, in [0, 1].

    The reference has exactly one of ``box``, ``boxes`` (the share of points in any of them, edges
    included), ``mask`` (as for ``mask_iou``, in pixels: the share of points whose pixel is set), ``point``
    and ``points`` (matched one to one, the sum over pairs divided by the larger number of points). A
    pair earns 1 where its distance is less than ``radius``, or exp(-distance² / (2 ``sigma``²)); both
    are in units of the reference's space. Points are [x, y] or (x, y); ``box_centres`` reads boxes
    instead. A malformed point falls nowhere but is counted; more than 1,000 are wrong. Source:
    Jigsaw-R1, Affordance-R1; ``sigma`` of OneThinker.
    """
    if not radius > 0.0 or (sigma is not None and not sigma > 0.0):
        raise ConfigError("radius and sigma must be greater than 0", field="radius")
    frame = frame_of(reference, group, space, reference_space)
    target = [key for key in _TARGETS if key in reference]
    if len(target) != 1:
        raise ReferenceUnparseable(f"the reference must have exactly one of {', '.join(_TARGETS)}", field="reference")
    wanted = _target(target[0], reference[target[0]], frame)
    try:
        said, valid = _stated_points(response, frame, read)
    except Wrong as wrong:
        return wrong.score()
    if target[0] in ("point", "points"):
        gains = _closeness(said, wanted, radius, sigma) * valid[:, None]
        rows, columns = assign(gains)
        return Score(float(gains[rows, columns].sum()) / max(gains.shape), details={"points": len(said)})
    inside = valid & (wanted.holds(said) if target[0] == "mask" else _in_any(said, wanted))
    return Score(float(inside.mean()), details={"inside": int(inside.sum()), "points": len(said)})


def _target(key: str, value: Any, frame: Frame) -> Any:
    """The reference's mask, boxes (m, 4) or points (m, 2)."""
    field = f"reference.{key}"
    if key == "mask":
        mask = read_mask(value)
        if isinstance(mask, str) or frame.target is not Space.PIXEL:
            reason = mask if isinstance(mask, str) else "a mask is in pixels: reference_space must be pixel"
            raise ReferenceUnparseable(f"{field}: {reason}", field=field)
        return mask
    if key in ("point", "points"):
        return frame.reference_points(value, field)
    boxes, _ = frame.reference_boxes([value] if key == "box" else value, field)
    if not len(boxes):
        raise ReferenceUnparseable(f"{field} holds no box", field=field)
    return boxes


def _stated_points(response: Response, frame: Frame, read: str) -> tuple[Floats, Flags]:
    if read == "box_centres":
        boxes, valid = frame.boxes(stated_items(response))
        found = (boxes[:, :2] + boxes[:, 2:]) / 2.0
    else:
        text, stated = answer_text(response)
        listed = find_points(text)
        if not listed:
            raise missing("point", stated)
        found, valid = frame.points([*bounded(listed)])
    if not len(found):
        raise Wrong("no point in the answer")
    return found, valid


def _in_any(spots: Floats, boxes: Floats) -> Flags:
    """Which points (n, 2) lie in a box, edges included."""
    after = np.all(spots[:, None] >= boxes[None, :, :2], axis=2)
    before = np.all(spots[:, None] <= boxes[None, :, 2:], axis=2)
    found: Flags = np.any(after & before, axis=1)
    return found


def _closeness(spots: Floats, targets: Floats, radius: float, sigma: float | None) -> Floats:
    """What each point (n) earns with each target (m): (n, m)."""
    distance: Floats = np.linalg.norm(spots[:, None] - targets[None], axis=2)
    if sigma is None:
        return (distance < radius).astype(np.float64)
    return np.exp(-((distance / sigma) ** 2) / 2.0)
