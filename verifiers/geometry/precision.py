"""Which detections are hits, and the average precision of hits ranked by confidence."""

from typing import Literal

import numpy as np

from rewardhub.verifiers.geometry.overlaps import assign
from rewardhub.verifiers.geometry.space import Flags, Floats

Matching = Literal["optimal", "voc", "coco"]
Interpolation = Literal["every_point", "11_point", "101_point"]


def hits_of(ious: Floats, threshold: float, matching: Matching) -> Flags:
    """Which of an image's detections (rows of ``ious``, best confidence first) hit a box (columns).

    A hit has IoU >= ``threshold`` and takes its box. ``voc``: each detection tries its best box only;
    ``coco``: its best box that is not taken; ``optimal``: as many hits as any matching has.
    """
    if not ious.size:
        return np.zeros(len(ious), dtype=bool)
    return {"voc": _voc, "coco": _coco, "optimal": _optimal}[matching](ious, threshold)


def _voc(ious: Floats, threshold: float) -> Flags:
    best = ious.argmax(axis=1)
    rows = np.flatnonzero(ious[np.arange(len(ious)), best] >= threshold)
    _, first = np.unique(best[rows], return_index=True)
    hits = np.zeros(len(ious), dtype=bool)
    hits[rows[first]] = True
    return hits


def _coco(ious: Floats, threshold: float) -> Flags:
    hits = np.zeros(len(ious), dtype=bool)
    free = np.ones(ious.shape[1], dtype=bool)
    for row in np.flatnonzero((ious >= threshold).any(axis=1)):
        left = np.where(free, ious[row], -1.0)
        best = int(left.argmax())
        hits[row] = left[best] >= threshold
        free[best] &= not hits[row]
    return hits


def _optimal(ious: Floats, threshold: float) -> Flags:
    # One more hit outweighs any gain in IoU, which only decides between equally large matchings.
    gains = np.where(ious >= threshold, 1.0 + ious / (2.0 * min(ious.shape)), 0.0)
    rows, columns = assign(gains)
    hits = np.zeros(len(ious), dtype=bool)
    hits[rows] = gains[rows, columns] > 0.0
    return hits


def average_precision(scores: Floats, hits: Flags, truths: int, interpolation: Interpolation = "every_point") -> float:
    """The area under the interpolated precision-recall curve of one class, in [0, 1].

    ``scores`` and ``hits`` are those of every detection of the data set, ``truths`` the number of boxes
    that there are. Precision at a recall is the greatest at that recall or above. ``every_point``
    integrates over recall (Pascal VOC since 2010), ``11_point`` (VOC 2007) and ``101_point`` (COCO) take
    the mean over evenly spaced recalls. Equal scores keep their order. 1.0 where there is neither.
    """
    if not truths:
        return float(not len(scores))
    ranked = hits[np.argsort(-scores, kind="stable")]
    found = np.cumsum(ranked)
    recall, precision = found / truths, found / np.arange(1, len(ranked) + 1)
    ceiling = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    if interpolation == "every_point":
        return float((np.diff(recall, prepend=0.0) * ceiling[:-1]).sum())
    recalls = np.linspace(0.0, 1.0, 11 if interpolation == "11_point" else 101)
    return float(ceiling[np.searchsorted(recall, recalls, side="left")].mean())
