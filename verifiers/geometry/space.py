"""Declared coordinate spaces and box conventions: what was said and what is wanted, in one space."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from rewardhub.errors import ConfigError, ReferenceUnparseable
from rewardhub.types import Group, Json, Space
from rewardhub.verifiers.boxes import MAX_COORDINATE, MIN_SIDE, Convention
from rewardhub.verifiers.geometry.reading import MAX_ITEMS, Item, items_of, numbers

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_LIMITS = {Space.NORM_0_1: 1.0, Space.NORM_0_1000: 1000.0}


class Resize(BaseModel):
    """The resize that made the model's input: sides in multiples of ``factor``, area between the bounds.

    Source: ``smart_resize`` of Qwen2-VL. The aspect ratio is kept as well as the multiples allow.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    factor: int = Field(28, gt=0)
    min_pixels: int = Field(gt=0)
    max_pixels: int = Field(gt=0)

    def of(self, width: float, height: float) -> tuple[float, float]:
        """Width and height of the model's input for an image of this size in pixels."""
        unit, area = self.factor, width * height
        sides = [max(unit, round(side / unit) * unit) for side in (width, height)]
        if sides[0] * sides[1] > self.max_pixels:
            shrink = math.sqrt(area / self.max_pixels)
            sides = [max(unit, math.floor(side / shrink / unit) * unit) for side in (width, height)]
        elif sides[0] * sides[1] < self.min_pixels:
            grow = math.sqrt(self.min_pixels / area)
            sides = [math.ceil(side * grow / unit) * unit for side in (width, height)]
        return float(sides[0]), float(sides[1])


@dataclass(frozen=True, slots=True)
class Frame:
    """The space of the response, that of the reference, and the factors (x, y) from one to the other."""

    space: Space
    target: Space
    convention: Convention
    scale: tuple[float, float]

    @property
    def pixel(self) -> float:
        """What an inclusive box adds to its width and height."""
        return 1.0 if self.convention == "inclusive" else 0.0

    def boxes(self, items: Sequence[Item]) -> tuple[Floats, Flags]:
        """The stated boxes (n, 4) in the reference's space, and which of them are boxes at all.

        Missing numbers, non-finite or out-of-space coordinates and empty or inverted boxes are none;
        their rows are zeros.
        """
        rows = [item.box or (math.nan,) * 4 for item in items]
        raw = np.asarray(rows, dtype=np.float64).reshape(-1, 4)
        valid = self._boxes_in(raw, self.space)
        scaled = raw * np.array(self.scale * 2)
        return np.where(valid[:, None], scaled, 0.0), valid

    def points(self, points: Sequence[Sequence[float] | None]) -> tuple[Floats, Flags]:
        """The stated points (n, 2) in the reference's space, and which of them are points at all."""
        rows = [(math.nan, math.nan) if point is None else point for point in points]
        raw = np.asarray(rows, dtype=np.float64).reshape(-1, 2)
        valid = inside(raw, self.space)
        return np.where(valid[:, None], raw * np.array(self.scale), 0.0), valid

    def reference_boxes(self, value: Any, field: str, most: int = MAX_ITEMS) -> tuple[Floats, list[str]]:
        """The reference's boxes (n, 4) and labels; raises ``ReferenceUnparseable`` where one is none."""
        items = items_of(value, most) if isinstance(value, Mapping | list | tuple) else [Item(None)]
        if len(items) > most:
            raise ReferenceUnparseable(f"more than {most} boxes", field=field)
        rows = np.asarray([item.box or (math.nan,) * 4 for item in items], dtype=np.float64).reshape(-1, 4)
        valid = self._boxes_in(rows, self.target)
        if not valid.all():
            reason = f"{field}[{int(np.argmin(valid))}] is not a box [x1, y1, x2, y2] in {self.target.value}"
            raise ReferenceUnparseable(reason, field=field)
        return rows, [item.label for item in items]

    def labelled_boxes(self, entry: Json) -> tuple[Floats, list[str]]:
        """The boxes (n, 4) of ``entry["boxes"]``, with the labels they carry or those of ``entry["labels"]``."""
        listed, labels, field = entry.get("boxes"), entry.get("labels"), "reference.boxes"
        if not isinstance(listed, list | tuple):
            raise ReferenceUnparseable(f"{field} must be a list of boxes", field=field)
        if labels is None:
            return self.reference_boxes(listed, field)
        if not isinstance(labels, list | tuple) or len(labels) != len(listed):
            raise ReferenceUnparseable("reference.labels must be one label per box", field="reference.labels")
        return self.reference_boxes({"boxes": listed, "labels": labels}, field)

    def reference_points(self, value: Any, field: str) -> Floats:
        """The reference's points (n, 2), from one point or a list; raises ``ReferenceUnparseable``."""
        listed = [value] if numbers(value, 2) else value
        if not isinstance(listed, list | tuple) or not 0 < len(listed) <= MAX_ITEMS:
            raise ReferenceUnparseable(f"{field} must be 1 to {MAX_ITEMS} points [x, y]", field=field)
        pairs = [numbers(each, 2) or (math.nan, math.nan) for each in listed]
        raw = np.asarray(pairs, dtype=np.float64)
        if not inside(raw, self.target).all():
            raise ReferenceUnparseable(f"{field} holds no point [x, y] in {self.target.value}", field=field)
        return raw

    def _boxes_in(self, raw: Floats, space: Space) -> Flags:
        least = 0.0 if self.convention == "inclusive" else MIN_SIDE
        with np.errstate(invalid="ignore"):
            sides = raw[:, 2:] - raw[:, :2]
            return inside(raw, space) & (sides >= least).all(axis=1)


def inside(raw: Floats, space: Space) -> Flags:
    """Which rows are finite, of sane size, and within the space's limits."""
    low, high = (0.0, _LIMITS[space]) if space in _LIMITS else (-MAX_COORDINATE, MAX_COORDINATE)
    with np.errstate(invalid="ignore"):
        rows: Flags = np.all((raw >= low) & (raw <= high), axis=1)
    return rows


def frame_of(
    reference: Json, group: Group, space: Space, reference_space: Space | None = None,
    convention: Convention = "continuous", resize: Resize | None = None,
) -> Frame:  # fmt: skip
    """The declared frame; ``reference_space`` defaults to ``space``.

    Where the two differ, pixels need ``reference.size`` or the size of the first media, and
    ``model_input`` needs ``reference.input_size`` or ``resize``; both sizes are [width, height].
    """
    target = reference_space or space
    if convention == "inclusive" and Space.NORM_0_1 in (space, target):
        raise ConfigError("inclusive boxes need a space of whole units, not norm_0_1", field="convention")
    if target is space:
        return Frame(space, target, convention, (1.0, 1.0))
    source, wanted = (_extent(each, reference, group, resize) for each in (space, target))
    return Frame(space, target, convention, (wanted[0] / source[0], wanted[1] / source[1]))


def _extent(space: Space, reference: Json, group: Group, resize: Resize | None) -> tuple[float, float]:
    """Width and height of the whole image in this space."""
    if space in _LIMITS:
        return _LIMITS[space], _LIMITS[space]
    if space is Space.MODEL_INPUT and "input_size" not in reference and resize is not None:
        return resize.of(*_extent(Space.PIXEL, reference, group, None))
    key = "size" if space is Space.PIXEL else "input_size"
    media = group.media[0] if group.media else None
    if key not in reference and space is Space.PIXEL and media is not None and media.width and media.height:
        return float(media.width), float(media.height)
    size = numbers(reference.get(key), 2)
    if size is None or not all(0 < side < MAX_COORDINATE for side in size):
        reason = f"reference.{key} must be [width, height] to convert from or to {space.value}"
        raise ReferenceUnparseable(reason, field=f"reference.{key}")
    return size[0], size[1]
