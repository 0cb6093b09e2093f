"""``detection``: precision, recall, F1 and average precision of stated boxes, over one image or many."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from rewardhub.errors import ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Group, Json, Response, Score, Space
from rewardhub.verifiers.box_set import comparable
from rewardhub.verifiers.boxes import Convention
from rewardhub.verifiers.geometry.overlaps import pairwise_iou
from rewardhub.verifiers.geometry.precision import Interpolation, Matching, average_precision, hits_of
from rewardhub.verifiers.geometry.reading import (
    MAX_ITEMS,
    Item,
    Wrong,
    answer_text,
    find_json,
    items_of,
    missing,
    stated_items,
)
from rewardhub.verifiers.geometry.space import Flags, Floats, Share, frame_of

Measure = Literal["f1", "precision", "recall", "weighted", "ap"]

_THREE = {"boxes": [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]}
_DENSE = "[[0, 0, 10, 10], [20, 0, 30, 10], [60, 0, 70, 10], [80, 0, 90, 10]]"
_RANKED = '[{"box": [0, 0, 10, 10], "score": 0.9}, {"box": [60, 0, 70, 10], "score": 0.8}, {"box": [20, 0, 30, 10]}]'
_IMAGES = {"images": {"a": [[0, 0, 10, 10]], "b": [[0, 0, 10, 10]], "c": []}}
_SAID = '{"images": {"a": [{"box": [0, 0, 10, 10], "score": 0.4}], "b": [{"box": [50, 0, 60, 10], "score": 0.6}]}}'
_PETS = {"boxes": [{"box": [0, 0, 10, 10], "label": "cat"}, {"box": [20, 0, 30, 10], "label": "dog"}]}


@dataclass(frozen=True, slots=True)
class _Image:
    """One image's detections, best confidence first, and its boxes."""

    ious: Floats
    scores: Floats
    said: list[str]
    labels: list[str]


@verifier(
    "detection",
    libraries=("numpy", "scipy"),
    sources=(
        "rewardhub.verifiers.box_set", "rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.geometry.space",
        "rewardhub.verifiers.geometry.overlaps", "rewardhub.verifiers.geometry.precision",
        "rewardhub.verifiers.boxes", "rewardhub.verifiers.tags",
    ),
    examples=(
        Example(_DENSE, _THREE, 0.5, {"measure": "precision"}),
        Example(_DENSE, _THREE, 2 / 3, {"measure": "recall"}),
        Example(_DENSE, _THREE, 7 / 12, {"measure": "weighted"}),
        Example(_DENSE, _THREE, 4 / 7),
        Example("[[0, 0, 10, 10], [0, 0, 10, 10]]", {"boxes": [[0, 0, 10, 10]]}, 0.5, {"measure": "precision"}),
        Example("[[0, 0, 10, 5]]", {"boxes": [[0, 0, 10, 10]]}, 1.0),
        Example(_RANKED, _THREE, 2 / 3, {"measure": "ap"}),
        Example(_SAID, _IMAGES, 0.25, {"measure": "ap"}),
        Example(_SAID, _IMAGES, 0.5),
        Example('[{"box": [0, 0, 10, 10], "label": "cat"}]', _PETS, 0.5, {"measure": "ap"}),
        Example('[{"box": [0, 0, 10, 10], "label": "dog"}]', _PETS, 0.0),
        Example("[]", {"boxes": []}, 1.0),
        Example("[]", _THREE, 0.0),
    ),
)  # fmt: skip
def detection(
    response: Response, reference: Json, group: Group, *,
    measure: Measure = "f1",
    iou: float | Annotated[tuple[float, ...], Field(min_length=1)] = 0.5,
    weight: Share = 0.5,
    matching: Matching | None = None,
    interpolation: Interpolation = "every_point",
    space: Space = Space.PIXEL,
    reference_space: Space | None = None,
    convention: Convention = "continuous",
) -> Score:  # fmt: skip
    """Precision, recall, F1, ``weight`` · precision + (1 - ``weight``) · recall, or (mean) average precision.

    A detection hits a box where their IoU is at least ``iou``, one to one; of several thresholds the
    mean is taken. ``matching`` is ``optimal`` by default and ``voc`` for ``ap`` (see ``hits_of``); ``ap``
    is the mean over the reference's labels, with ``interpolation`` (see ``average_precision``). The
    reference is ``boxes`` (and ``labels``) of one image, or ``images``: an object of image name to boxes,
    or to an object of ``boxes``, ``labels`` and ``size``; the response is alike, and hits of all images
    are counted together. Boxes are lists of four numbers or objects with ``box`` (``bbox``, ``bbox_2d``),
    ``label`` and ``score`` (1.0 where missing); labels are compared where the reference has any. A
    malformed box is a false detection; more than 1,000 boxes in all are wrong. With no box and no
    detection the value is 1.0.
    """
    thresholds = iou if isinstance(iou, tuple) else (iou,)
    frame_options = (space, reference_space, convention)
    wanted = _wanted(reference)
    truths = {name: frame_of(entry, group, *frame_options).labelled_boxes(entry) for name, entry in wanted.items()}
    if sum(len(boxes) for boxes, _ in truths.values()) > MAX_ITEMS:
        raise ReferenceUnparseable(f"more than {MAX_ITEMS} boxes", field="reference")
    try:
        said = _said(response, reference)
    except Wrong as wrong:
        return wrong.score()
    images = []
    for name in {**truths, **said}:
        frame = frame_of(wanted.get(name, reference), group, *frame_options)
        images.append(_image(said.get(name, []), truths.get(name, _NOTHING), frame.boxes, frame.pixel))
    if measure == "ap":
        values = [_mean_ap(images, each, matching or "voc", interpolation) for each in thresholds]
        return Score(math.fsum(values) / len(values), details={"ap": values})
    rates = [_rates(images, each, matching or "optimal", weight) for each in thresholds]
    value = math.fsum(rate[measure] for rate in rates) / len(rates)
    return Score(value, details=rates[0] if len(rates) == 1 else {"rates": rates})


_NOTHING: tuple[Floats, list[str]] = (np.zeros((0, 4)), [])


def _wanted(reference: Json) -> dict[str, Mapping[str, Any]]:
    """The reference's images, each with its boxes and sizes; the only image has no name."""
    images = reference.get("images", {"": reference})
    if not isinstance(images, Mapping) or not 0 < len(images) <= MAX_ITEMS:
        reason = f"reference.images must be an object of 1 to {MAX_ITEMS} image names to boxes"
        raise ReferenceUnparseable(reason, field="reference.images")
    return {
        str(name): each if isinstance(each, Mapping) else {**reference, "boxes": each, "labels": None}
        for name, each in images.items()
    }


def _said(response: Response, reference: Json) -> dict[str, list[Item]]:
    """The response's detections per image."""
    if "images" not in reference:
        return {"": stated_items(response)}
    text, stated = answer_text(response)
    found = find_json(text)
    if found is None and "{" not in text:
        raise missing("JSON object of images", stated)
    images = found.get("images", found) if isinstance(found, Mapping) else None
    if not isinstance(images, Mapping):
        raise Wrong("the answer is not a JSON object of image name to boxes")
    said = {name: items_of(each) for name, each in islice(images.items(), MAX_ITEMS + 1)}
    if max(len(said), sum(map(len, said.values()))) > MAX_ITEMS:
        raise Wrong(f"more than {MAX_ITEMS} boxes or images")
    return said


def _image(items: list[Item], truth: tuple[Floats, list[str]], place: Any, pixel: float) -> _Image:
    # A detection without a usable confidence cannot be a hit, and ranks first so that it costs most.
    scores = np.array([math.inf if each.score is None or math.isnan(each.score) else each.score for each in items])
    order = np.argsort(-scores, kind="stable")
    ranked = [items[index] for index in order]
    said, valid = place(ranked)
    valid = valid & np.isfinite(scores[order])
    wanted, labels = truth
    ious = np.where(comparable(ranked, valid, labels), pairwise_iou(said, wanted, pixel), -1.0)
    return _Image(ious, scores[order], [each.label for each in ranked], labels)


def _rates(images: list[_Image], threshold: float, matching: Matching, weight: float) -> dict[str, float]:
    hits = sum(int(hits_of(image.ious, threshold, matching).sum()) for image in images)
    said, truths = sum(len(image.said) for image in images), sum(len(image.labels) for image in images)
    precision = hits / said if said else float(not truths)
    recall = hits / truths if truths else float(not said)
    f1 = 2.0 * hits / (said + truths) if said + truths else 1.0
    weighted = weight * precision + (1.0 - weight) * recall
    return {"precision": precision, "recall": recall, "f1": f1, "weighted": weighted, "hits": hits}


def _mean_ap(images: list[_Image], threshold: float, matching: Matching, interpolation: Interpolation) -> float:
    """The mean over the reference's labels of average precision; of everything where there are no labels."""
    labelled = any(label for image in images for label in image.labels)
    ranks: dict[str, list[tuple[Floats, Flags, int]]] = {} if labelled else {"": []}
    for image in images:
        said = image.said if labelled else [""] * len(image.said)
        for label in dict.fromkeys((*image.labels, *said)):
            rows = np.flatnonzero([label == each for each in said])
            columns = np.flatnonzero([label == each for each in image.labels])
            hits = hits_of(image.ious[np.ix_(rows, columns)], threshold, matching)
            ranks.setdefault(label, []).append((image.scores[rows], hits, len(columns)))
    values = [_ap(ranks[label], interpolation) for label in sorted(ranks) if not labelled or _truths(ranks[label])]
    return math.fsum(values) / len(values)


def _truths(ranks: list[tuple[Floats, Flags, int]]) -> int:
    return sum(truths for _, _, truths in ranks)


def _ap(ranks: list[tuple[Floats, Flags, int]], interpolation: Interpolation) -> float:
    scores = np.concatenate([np.zeros(0), *(scores for scores, _, _ in ranks)])
    hits = np.concatenate([np.zeros(0, dtype=bool), *(hits for _, hits, _ in ranks)])
    return average_precision(scores, hits, _truths(ranks), interpolation)
