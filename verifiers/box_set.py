"""``box_set`` and ``box_point_set``: predicted objects against reference objects, matched one to one."""

from typing import Any, Literal

import numpy as np

from rewardhub.errors import ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Group, Json, Response, Score, Space
from rewardhub.verifiers.boxes import Convention
from rewardhub.verifiers.geometry.overlaps import assign, pairwise_iou
from rewardhub.verifiers.geometry.reading import (
    Item,
    Wrong,
    answer_text,
    bounded,
    find_json,
    four_numbers,
    missing,
    numbers,
    stated_items,
)
from rewardhub.verifiers.geometry.space import Flags, Floats, Frame, frame_of

Over = Literal["larger", "reference", "predicted"]
Measure = Literal["accuracy", "fields", "count"]

_SOURCES = (
    "rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.geometry.space",
    "rewardhub.verifiers.geometry.overlaps", "rewardhub.verifiers.boxes", "rewardhub.verifiers.tags",
)  # fmt: skip
_TEN = {"boxes": [[0, 0, 10, 10]]}
_PETS = {"boxes": [{"box": [0, 0, 10, 10], "label": "cat"}, {"box": [20, 0, 30, 10], "label": "dog"}]}
_ONE = {"objects": [{"box": [100, 100, 200, 200], "point": [150, 150]}]}
_HIT = '{"bbox_2d": [100, 100, 200, 200], "point_2d": [150, 150], "affordance": "hold"}'


@verifier(
    "box_set",
    libraries=("numpy", "scipy"),
    sources=_SOURCES,
    examples=(
        Example("[[0, 0, 10, 10]]", _TEN, 1.0),
        Example("[[5, 0, 15, 10]]", _TEN, 1 / 3),
        Example("[[5, 0, 15, 10]]", _TEN, 0.375, {"convention": "inclusive"}),
        Example("[[0, 0, 10, 10], [50, 50, 60, 60]]", _TEN, 0.5),
        Example("[[0, 0, 10, 10], [50, 50, 60, 60]]", _TEN, 1.0, {"over": "reference"}),
        Example("[[0, 0, 10, 10], [50, 50, 60, 60]]", _TEN, 0.75, {"over": "reference", "surplus_penalty": 0.25}),
        Example("[[5, 0, 15, 10]]", _TEN, 0.0, {"gate": 0.5}),
        Example("[[0, 0, 10, 6]]", _TEN, 1.0, {"gate": 0.5, "hits": True}),
        Example("[[0, 0, 10, 5]]", _TEN, 0.0, {"gate": 0.5, "hits": True}),
        Example('[{"box": [20, 0, 30, 10], "label": "Dog"}, {"box": [0, 0, 10, 10], "label": "cat"}]', _PETS, 1.0),
        Example('[{"box": [0, 0, 10, 10], "label": "dog"}, {"box": [20, 0, 30, 10], "label": "cat"}]', _PETS, 0.0),
        Example("[]", _TEN, 0.0),
        Example("[]", {"boxes": []}, 1.0),
    ),
)  # fmt: skip
def box_set(
    response: Response, reference: Json, group: Group, *,
    space: Space = Space.PIXEL,
    reference_space: Space | None = None,
    convention: Convention = "continuous",
    gate: float = 0.0,
    hits: bool = False,
    over: Over = "larger",
    surplus_penalty: float = 0.0,
) -> Score:  # fmt: skip
    """The sum of IoU over the best one-to-one (Hungarian) matching, divided; in [0, 1].

    A pair counts where its IoU is greater than ``gate``, with its IoU, or 1 with ``hits``. ``over``
    divides by the larger of both counts, or by either. ``surplus_penalty`` is taken off per predicted
    box beyond the reference's number, divided likewise. The reference is ``boxes``: lists of four
    numbers, or objects with ``box`` and ``label``, or with ``labels`` beside them; labels are compared
    where the reference has any. A malformed predicted box matches nothing but is counted; more than
    1,000 are wrong.
    """
    frame = frame_of(reference, group, space, reference_space, convention)
    wanted, labels = frame.labelled_boxes(reference)
    try:
        items = stated_items(response)
    except Wrong as wrong:
        return wrong.score()
    if not items and not len(wanted):
        return Score(1.0)
    said, valid = frame.boxes(items)
    ious = pairwise_iou(said, wanted, frame.pixel) * comparable(items, valid, labels)
    gains = np.where(ious > gate, 1.0 if hits else ious, 0.0)
    rows, columns = assign(gains)
    counts = {"larger": max(gains.shape), "reference": len(wanted), "predicted": len(items)}
    surplus = surplus_penalty * max(0, len(items) - len(wanted))
    value = (float(gains[rows, columns].sum()) - surplus) / max(1, counts[over])
    details = {"matched": int((gains[rows, columns] > 0).sum()), "predicted": len(items), "reference": len(wanted)}
    return Score(min(1.0, max(0.0, value)), details=details)


def comparable(items: list[Item], valid: Flags, labels: list[str]) -> Flags:
    """Which predicted boxes (n) may match which reference boxes (m): (n, m)."""
    if not any(labels):
        return np.broadcast_to(valid[:, None], (len(items), len(labels)))
    said, wanted = np.array([item.label for item in items], dtype=object), np.array(labels, dtype=object)
    same: Flags = np.equal(said[:, None], wanted[None, :]).astype(bool)
    return same & valid[:, None]


@verifier(
    "box_point_set",
    range=(0.0, 3.0),
    libraries=("numpy", "scipy"),
    sources=_SOURCES,
    examples=(
        Example(f"<answer>[{_HIT}]</answer>", _ONE, 3.0),
        Example('<answer>[{"bbox_2d": [100, 100, 164, 200], "point_2d": [150, 150]}]</answer>', _ONE, 2.0),
        Example(f'[{_HIT}, {{"bbox_2d": [0, 0, 5, 5], "point_2d": [900, 900]}}]', _ONE, 1.5),
        Example('[{"bbox_2d": [100, 100, 200, 200], "point_2d": [180, 150]}]', _ONE, 2.0),
        Example('[{"bbox_2d": [100, 100, 200, 140], "point_2d": [150, 150]}]', _ONE, 0.0),
        Example(f"[{_HIT}]", _ONE, 3.0, {"measure": "fields"}),
        Example('[{"bbox_2d": [1, 2, 3, 4]}, {"point_2d": [1, 2], "affordance": "hold"}]', _ONE, 1.5,
                {"measure": "fields"}),
        Example(f"[{_HIT}]", _ONE, 1.0, {"measure": "count"}),
        Example(f"[{_HIT}, {_HIT}]", _ONE, 0.0, {"measure": "count"}),
    ),
)  # fmt: skip
def box_point_set(
    response: Response, reference: Json, group: Group, *,
    measure: Measure = "accuracy",
    space: Space = Space.PIXEL,
    reference_space: Space | None = None,
    convention: Convention = "continuous",
    iou: float = 0.65,
    l1: float = 10.0,
    radius: float = 30.0,
    max_objects: int = 120,
) -> Score:  # fmt: skip
    """Objects with a box and a point each, matched one to one; in [0, 3].

    ``accuracy``: per pair one for IoU > ``iou``, one for mean absolute corner difference < ``l1``, one
    for a point nearer than ``radius`` that lies in its own predicted box (edges included); the greatest
    sum over matchings, divided by the larger count. ``fields``: the mean number of well-formed
    ``bbox_2d``, ``point_2d`` and ``affordance`` per object. ``count``: 1.0 for as many objects as the
    reference. The reference is ``objects``, each with ``box`` and ``point``. More than ``max_objects``
    predicted objects are wrong. Distances are in units of the reference's space. Source: Affordance-R1
    and VisionReasoner (``iou`` 0.5), which count pixels inclusively.
    """
    frame = frame_of(reference, group, space, reference_space, convention)
    boxes, points = _reference_objects(reference, frame, max_objects)
    try:
        objects = _stated_objects(response, max_objects)
    except Wrong as wrong:
        return wrong.score()
    details = {"predicted": len(objects), "reference": len(boxes)}
    if measure == "count":
        return Score(float(len(objects) == len(boxes)), details=details)
    if measure == "fields":
        return Score(sum(map(_fields, objects)) / max(1, len(objects)), details=details)
    gains = _gains(frame, objects, boxes, points, (iou, l1, radius))
    rows, columns = assign(gains)
    return Score(float(gains[rows, columns].sum()) / max(gains.shape), details=details)


def _gains(
    frame: Frame, objects: list[Any], boxes: Floats, points: Floats, limits: tuple[float, float, float]
) -> Floats:
    """What each predicted object (n) would earn with each reference object (m): (n, m)."""
    fields = [each if isinstance(each, dict) else {} for each in objects]
    said, valid = frame.boxes([Item(four_numbers(each.get("bbox_2d"))) for each in fields])
    spots, placed = frame.points([numbers(each.get("point_2d"), 2) for each in fields])
    inside = placed & valid & ((spots >= said[:, :2]) & (spots <= said[:, 2:])).all(axis=1)
    close = pairwise_iou(said, boxes, frame.pixel) > limits[0]
    tight = np.abs(said[:, None] - boxes[None]).mean(axis=2) < limits[1]
    near = np.linalg.norm(spots[:, None] - points[None], axis=2) < limits[2]
    total: Floats = ((close.astype(float) + tight) * valid[:, None]) + (near & inside[:, None])
    return total


def _fields(item: Any) -> int:
    if not isinstance(item, dict):
        return 0
    named = isinstance(item.get("affordance"), str) and bool(item["affordance"].strip())
    return (four_numbers(item.get("bbox_2d")) is not None) + (numbers(item.get("point_2d"), 2) is not None) + named


def _stated_objects(response: Response, most: int) -> list[Any]:
    text, stated = answer_text(response)
    found = find_json(text)
    if found is None and "[" not in text and "{" not in text:
        raise missing("list of objects", stated)
    objects = [found] if isinstance(found, dict) else found
    if not isinstance(objects, list):
        raise Wrong("the answer is not a list of objects")
    if len(bounded(objects)) > most:
        raise Wrong(f"more than {most} objects")
    return objects


def _reference_objects(reference: Json, frame: Frame, most: int) -> tuple[Floats, Floats]:
    objects = need(reference, "objects", (list, tuple))
    if not 0 < len(objects) <= most or not all(isinstance(each, dict) for each in objects):
        raise ReferenceUnparseable(f"reference.objects must be 1 to {most} objects", field="reference.objects")
    boxes, _ = frame.reference_boxes([each.get("box") for each in objects], "reference.objects.box")
    return boxes, frame.reference_points([each.get("point") for each in objects], "reference.objects.point")
