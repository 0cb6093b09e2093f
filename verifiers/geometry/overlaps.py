"""Overlaps of many axis-aligned boxes at once, and the best one-to-one assignment."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from rewardhub.verifiers.geometry.space import Floats


def pairwise_iou(ones: Floats, others: Floats, pixel: float = 0.0) -> Floats:
    """Intersection over union of every box of ``ones`` (n, 4) with every one of ``others`` (m, 4): (n, m).

    ``pixel`` is 1 for inclusive boxes, 0 for continuous ones. An empty box overlaps nothing.
    """
    return aligned_iou(ones[:, None, :], others[None, :, :], pixel)


def aligned_iou(ones: Floats, others: Floats, pixel: float = 0.0) -> Floats:
    """Intersection over union of boxes pair by pair, over any leading shape (broadcast); in [0, 1]."""
    width = np.minimum(ones[..., 2], others[..., 2]) - np.maximum(ones[..., 0], others[..., 0]) + pixel
    height = np.minimum(ones[..., 3], others[..., 3]) - np.maximum(ones[..., 1], others[..., 1]) + pixel
    shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    union = areas(ones, pixel) + areas(others, pixel) - shared
    overlaps: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0.0)
    return np.minimum(overlaps, 1.0)


def areas(boxes: Floats, pixel: float = 0.0) -> Floats:
    """The areas of boxes (…, 4)."""
    found: Floats = (boxes[..., 2] - boxes[..., 0] + pixel) * (boxes[..., 3] - boxes[..., 1] + pixel)
    return found


def union_overlap(ones: Floats, others: Floats, pixel: float = 0.0) -> float:
    """Intersection over union of two unions of boxes, exact up to rounding; 1.0 where both are empty.

    The plane is cut at every edge, so memory grows with the square of the number of boxes.
    """
    grown = [np.column_stack((boxes[:, :2], boxes[:, 2:] + pixel)) for boxes in (ones, others)]
    both = np.concatenate(grown)
    if not len(both):
        return 1.0
    across, down = np.unique(both[:, ::2]), np.unique(both[:, 1::2])
    cells = np.outer(np.diff(across), np.diff(down))
    one, other = (_covered(boxes, across, down) for boxes in grown)
    return float(cells[one & other].sum() / cells[one | other].sum())


def _covered(boxes: Floats, across: Floats, down: Floats) -> NDArray[np.bool_]:
    """Which cells of the grid lie in a box: the sums of a grid that steps up and down at corners."""
    steps = np.zeros((len(across), len(down)), dtype=np.int16)
    left, right = (np.searchsorted(across, boxes[:, side]) for side in (0, 2))
    top, bottom = (np.searchsorted(down, boxes[:, side]) for side in (1, 3))
    for x, y, step in ((left, top, 1), (right, bottom, 1), (left, bottom, -1), (right, top, -1)):
        np.add.at(steps, (x, y), step)
    covered: NDArray[np.bool_] = steps.cumsum(0, dtype=np.int16).cumsum(1, dtype=np.int16)[:-1, :-1] > 0
    return covered


def assign(gains: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the one-to-one assignment with the greatest sum of ``gains`` (n, m)."""
    rows, columns = linear_sum_assignment(gains, maximize=True)
    return rows, columns
