"""``polygon_iou``: areas bounded by polygons, which may be concave, in several pieces or self-crossing."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from rewardhub.errors import ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Group, Json, Response, Score, Space
from rewardhub.verifiers.geometry.areas import area_of, area_overlap
from rewardhub.verifiers.geometry.reading import Wrong, answer_text, find_json, missing, numbers
from rewardhub.verifiers.geometry.space import Floats, Frame, frame_of, inside

MAX_VERTICES = 500
"""Vertices of one answer or reference in all."""

_KEYS = ("polygons", "polygon", "segmentation", "points")
_SQUARE = {"polygon": [[0, 0], [10, 0], [10, 10], [0, 10]]}
_BOW = "[[0, 0], [10, 10], [10, 0], [0, 10]]"


@verifier(
    "polygon_iou",
    lane="pool",
    libraries=("numpy", "shapely"),
    sources=(
        "rewardhub.verifiers.geometry.areas", "rewardhub.verifiers.geometry.reading",
        "rewardhub.verifiers.geometry.space", "rewardhub.verifiers.boxes", "rewardhub.verifiers.tags",
    ),
    examples=(
        Example("[[0, 0], [10, 0], [10, 10]]", _SQUARE, 0.5),
        Example("<answer>[[5, 0], [15, 0], [15, 10], [5, 10]]</answer>", _SQUARE, 1 / 3),
        Example("[0, 0, 10, 0, 10, 10, 0, 10]", _SQUARE, 1.0),
        Example('{"polygon": [[10, 10], [0, 10], [0, 0], [10, 0]]}', _SQUARE, 1.0),
        Example("[[[0, 0], [5, 0], [5, 10], [0, 10]], [[5, 0], [10, 0], [10, 10], [5, 10]]]", _SQUARE, 1.0),
        Example("[[0, 0, 5, 0, 5, 10, 0, 10], [0, 0, 5, 0, 5, 10, 0, 10]]", _SQUARE, 0.5),
        Example(_BOW, _SQUARE, 0.5),
        Example("[[0, 0], [500, 0], [500, 1000], [0, 1000]]", {**_SQUARE, "size": [10, 10]}, 0.5,
                {"space": "norm_0_1000", "reference_space": "pixel"}),
        Example("[[0, 0], [10, 0], [10, 6], [0, 6]]", _SQUARE, 1.0, {"threshold": 0.5}),
        Example("[[0, 0], [5, 5], [10, 10]]", _SQUARE, 0.0),
        Example("[[0, 0], [NaN, 0], [10, 10]]", _SQUARE, 0.0),
        Example("[[0, 0], [10, 0]]", _SQUARE, 0.0),
    ),
)  # fmt: skip
def polygon_iou(
    response: Response, reference: Json, group: Group, *,
    space: Space = Space.PIXEL,
    reference_space: Space | None = None,
    threshold: float | None = None,
) -> Score:  # fmt: skip
    """Intersection over union of two areas, in [0, 1]; with ``threshold`` 1.0 where it is greater.

    A polygon is [[x, y], …] or [x1, y1, x2, y2, …] of at least three vertices, in either direction, open
    or closed; several are united. The reference is ``polygon`` or ``polygons``. A self-crossing polygon
    covers what an odd number of its turns encloses (even-odd). Malformed polygons, zero area and more
    than 500 vertices are wrong, and so are edges that meet more than 10,000 times.
    """
    frame = frame_of(reference, group, space, reference_space)
    wanted = _reference_rings(reference, frame)
    try:
        said = _rings(_stated(response), frame.space, frame.scale)
        iou = area_overlap(said, wanted)
    except Wrong as wrong:
        return wrong.score()
    return Score(iou if threshold is None else float(iou > threshold), details={"iou": iou})


def _reference_rings(reference: Json, frame: Frame) -> list[Floats]:
    key = "polygons" if "polygons" in reference else "polygon"
    try:
        return _rings(reference.get(key), frame.target, (1.0, 1.0))
    except Wrong as wrong:
        raise ReferenceUnparseable(f"reference.{key}: {wrong}", field=f"reference.{key}") from None


def _stated(response: Response) -> Any:
    text, stated = answer_text(response)
    found = find_json(text)
    if found is None and "[" not in text:
        raise missing("polygon", stated)
    return next((found[key] for key in _KEYS if key in found), None) if isinstance(found, Mapping) else found


def _rings(value: Any, space: Space, scale: tuple[float, float]) -> list[Floats]:
    """The vertices of one polygon or a list of them; raises ``Wrong`` where they cover no area."""
    if not isinstance(value, list | tuple) or not value:
        raise Wrong("not a polygon")
    listed = [value] if _is_ring(value) else value
    rings = [_vertices(each, space) * np.array(scale) for each in islice(listed, MAX_VERTICES)]
    if len(listed) > MAX_VERTICES or sum(map(len, rings)) > MAX_VERTICES:
        raise Wrong(f"more than {MAX_VERTICES} vertices")
    if not area_of(rings) > 0.0:
        raise Wrong("the polygon has no area")
    return rings


def _is_ring(value: Sequence[Any]) -> bool:
    """Whether this is one polygon: numbers, or pairs of numbers, and no list of either."""
    return not isinstance(value[0], list | tuple) or numbers(value[0], 2) is not None


def _vertices(value: Any, space: Space) -> Floats:
    """The vertices (n, 2) as they were written; raises ``Wrong`` where they bound nothing."""
    if not isinstance(value, list | tuple) or len(value) > 2 * MAX_VERTICES:
        raise Wrong(f"a polygon is not a list of at most {MAX_VERTICES} vertices")
    flat = numbers(value, len(value))
    pairs = [numbers(each, 2) for each in value] if flat is None else list(zip(flat[::2], flat[1::2], strict=False))
    if len(pairs) < 3 or None in pairs or (flat is not None and len(flat) % 2):
        raise Wrong("a polygon is not a list of at least three vertices [x, y]")
    points = np.array(pairs, dtype=np.float64)
    if not inside(points, space).all():
        raise Wrong(f"a vertex is outside {space.value} or not finite")
    return points
