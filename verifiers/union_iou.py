"""``union_iou``: the area that all predicted boxes cover against the area that all reference boxes cover."""

from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Group, Json, Response, Score, Space
from rewardhub.verifiers.boxes import Convention
from rewardhub.verifiers.geometry.overlaps import union_overlap
from rewardhub.verifiers.geometry.reading import Wrong, stated_items
from rewardhub.verifiers.geometry.space import Resize, frame_of

MAX_BOXES = 500

_TWO = {"boxes": [[0, 0, 10, 10], [10, 0, 20, 10]]}
_RESIZE = {"factor": 28, "min_pixels": 200_704, "max_pixels": 401_408}
_RESIZED = {"space": "model_input", "reference_space": "pixel", "resize": _RESIZE}
_BIG = {"boxes": [[0, 0, 1000, 500]], "size": [1000, 1000]}


@verifier(
    "union_iou",
    libraries=("numpy",),
    sources=(
        "rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.geometry.space",
        "rewardhub.verifiers.geometry.overlaps", "rewardhub.verifiers.boxes", "rewardhub.verifiers.tags",
    ),
    examples=(
        Example("[[0, 0, 10, 10]]", _TWO, 0.5),
        Example("[[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]]", _TWO, 0.5),
        Example("[[0, 0, 20, 10]]", _TWO, 1.0),
        Example('[{"bbox_2d": [0, 0, 10, 10]}, {"bbox_2d": [10, 0, 20, 10]}]', _TWO, 1.0),
        Example("<bbox>[[0, 0, 20, 10]]</bbox>", _TWO, 1.0),
        Example("[[0, 0, 616, 308]]", _BIG, 1.0, _RESIZED),
        Example("[[0, 0, 616, 308]]", _BIG, 0.379456),
        Example("[[20, 10, 0, 0]]", _TWO, 0.0),
        Example("[[0, 0, 20, 10], [nan, 0, 1, 1]]", _TWO, 0.0),
    ),
)  # fmt: skip
def union_iou(
    response: Response, reference: Json, group: Group, *,
    space: Space = Space.PIXEL,
    reference_space: Space | None = None,
    convention: Convention = "continuous",
    resize: Resize | None = None,
    threshold: float | None = None,
) -> Score:  # fmt: skip
    """Intersection over union of two unions of boxes, in [0, 1]; with ``threshold`` 1.0 where it is greater.

    Overlaps and duplicates change nothing. The reference is ``boxes``, a list of [x1, y1, x2, y2]; an
    empty list is matched by an empty list only. ``space``, ``reference_space`` and ``convention`` as for
    ``box_iou``; ``resize`` derives the size of the model's input from ``reference.size`` where
    ``reference.input_size`` is not given. A malformed box, or more than 500, is wrong. Source: SATORI-R1.
    """
    frame = frame_of(reference, group, space, reference_space, convention, resize)
    wanted, _ = frame.reference_boxes(need(reference, "boxes", (list, tuple)), "reference.boxes")
    try:
        items = stated_items(response)
        said, valid = frame.boxes(items)
        if len(items) > MAX_BOXES:
            raise Wrong(f"more than {MAX_BOXES} boxes")
        if not valid.all():
            raise Wrong(f"box {int(valid.argmin())} is malformed")
    except Wrong as wrong:
        return wrong.score()
    iou = union_overlap(said, wanted, frame.pixel)
    return Score(iou if threshold is None else float(iou > threshold), details={"iou": iou, "boxes": len(items)})
