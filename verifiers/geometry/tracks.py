"""Boxes by frame: what a response says of each, beside the reference's."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rewardhub.errors import ReferenceUnparseable
from rewardhub.verifiers.geometry.overlaps import aligned_iou
from rewardhub.verifiers.geometry.reading import Item, Wrong, four_numbers
from rewardhub.verifiers.geometry.space import Floats, Frame

MAX_FRAMES = 10_000


def reference_track(value: Any, frame: Frame) -> dict[str, Floats]:
    """The reference's boxes by frame; raises ``ReferenceUnparseable`` where one is no box, or none is there."""
    field = "reference.boxes"
    if not isinstance(value, Mapping) or not 0 < len(value) <= MAX_FRAMES:
        raise ReferenceUnparseable(f"{field} must be an object of 1 to {MAX_FRAMES} frames to boxes", field=field)
    boxes, _ = frame.reference_boxes(list(value.values()), field, MAX_FRAMES)
    return {frame_name(name): row for name, row in zip(value, boxes, strict=True)}


def stated_track(value: Any) -> dict[str, Item]:
    """The response's boxes by frame; raises ``Wrong`` where it holds no such object."""
    if not isinstance(value, Mapping):
        raise Wrong("boxes is not an object of frames to boxes")
    if len(value) > MAX_FRAMES:
        raise Wrong(f"more than {MAX_FRAMES} frames")
    return {frame_name(name): Item(four_numbers(box)) for name, box in value.items()}


def frame_name(name: Any) -> str:
    """The frame's name; "007" and 7 are one frame."""
    text = str(name).strip()
    return str(int(text)) if len(text) <= 18 and text.isascii() and text.isdigit() else text


def track_ious(said: dict[str, Item], wanted: dict[str, Floats], frame: Frame) -> Floats:
    """The IoU of each frame that both name, in the reference's order; a malformed box has 0."""
    shared = [name for name in wanted if name in said]
    boxes, valid = frame.boxes([said[name] for name in shared])
    truths = np.array([wanted[name] for name in shared], dtype=np.float64).reshape(-1, 4)
    return aligned_iou(boxes, truths, frame.pixel) * valid
