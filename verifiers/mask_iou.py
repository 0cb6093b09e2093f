"""``mask_iou``: one segmentation mask against another, pixel by pixel."""

from rewardhub.errors import ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score
from rewardhub.verifiers.geometry.masks import Mask, mask_overlap, read_mask
from rewardhub.verifiers.geometry.reading import Wrong, answer_text, find_json, missing

_ROWS = {"mask": [[1, 1, 0, 0], [1, 1, 0, 0]]}
_HUNDRED = {"mask": {"size": [10, 30], "counts": [0, 100, 200]}}


@verifier(
    "mask_iou",
    libraries=("numpy",),
    sources=(
        "rewardhub.verifiers.geometry.masks", "rewardhub.verifiers.geometry.reading",
        "rewardhub.verifiers.geometry.space", "rewardhub.verifiers.boxes", "rewardhub.verifiers.tags",
    ),
    examples=(
        Example("[[0, 1, 1, 0], [0, 1, 1, 0]]", _ROWS, 1 / 3),
        Example("0110\n0110", _ROWS, 1 / 3),
        Example('{"size": [2, 4], "counts": [0, 4, 4]}', _ROWS, 1.0),
        Example('<answer>{"size": [2, 4], "counts": "044"}</answer>', _ROWS, 1.0),
        Example('{"size": [10, 30], "counts": [50, 100, 150]}', _HUNDRED, 1 / 3),
        Example('{"size": [10, 30], "counts": [50, 100, 150]}', _HUNDRED, 0.0, {"threshold": 0.5}),
        Example("[[0, 0], [0, 0]]", {"mask": [[0, 0], [0, 0]]}, 1.0),
        Example("[[1, 1], [1, 1]]", _ROWS, 0.0),
        Example('{"size": [2, 4], "counts": [0, 4, 5]}', _ROWS, 0.0),
        Example('{"size": [60000, 60000], "counts": [0, 3600000000]}', _ROWS, 0.0),
    ),
)  # fmt: skip
def mask_iou(response: Response, reference: Json, *, threshold: float | None = None) -> Score:
    """Intersection over union of two masks of one size, in [0, 1]; with ``threshold`` 1.0 where greater.

    A mask is ``{"size": [height, width], "counts": …}`` with COCO's run lengths (column by column, zeros
    first) as a list or compressed, or rows of 0 and 1; the reference is ``mask``. Two empty masks
    agree: 1.0. Another size or malformed runs are wrong. Source: the public COCO API.
    """
    wanted = reference_mask(reference)
    try:
        iou = mask_overlap(_stated_mask(response, wanted), wanted)
    except Wrong as wrong:
        return wrong.score()
    return Score(iou if threshold is None else float(iou > threshold), details={"iou": iou})


def reference_mask(reference: Json) -> Mask:
    """The mask of ``reference.mask``; raises ``ReferenceUnparseable``."""
    mask = read_mask(reference.get("mask"))
    if isinstance(mask, str):
        raise ReferenceUnparseable(f"reference.mask: {mask}", field="reference.mask")
    return mask


def _stated_mask(response: Response, wanted: Mask) -> Mask:
    text, stated = answer_text(response)
    found = find_json(text)
    if found is None:
        found = text
        if "{" not in text and "[" not in text and not any(set(line) <= {"0", "1"} for line in text.split()):
            raise missing("mask", stated)
    mask = read_mask(found)
    if isinstance(mask, str):
        raise Wrong(mask)
    if (mask.height, mask.width) != (wanted.height, wanted.width):
        raise Wrong(f"the mask has {mask.height} x {mask.width} pixels, expected {wanted.height} x {wanted.width}")
    return mask
