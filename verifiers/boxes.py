"""``box_iou`` and ``giou``: one predicted box against one reference box."""

import math
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, Literal, NamedTuple

from rewardhub.errors import ConfigError, NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Group, Json, Response, Score, Space, Status
from rewardhub.verifiers.tags import stated_answer

Convention = Literal["continuous", "inclusive"]
Several = Literal["last", "first", "wrong"]

MAX_COORDINATE, MIN_SIDE = 1e9, 1e-9
_MAX_DIGITS = 40
# Each pattern is a single class repeated, or runs on at most _MAX_DIGITS characters: linear time.
_LIST = re.compile(r"\[[^\[\]]*\]")
_POINT = re.compile(r"\(([^()]*)\)")
_WORD = re.compile(r"[\w.+-]+")
_SPLIT = re.compile(r"[\s,;\[\]]+")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?|[-+]?(?:nan|inf|infinity)", re.IGNORECASE)

_TEN = {"box": [0, 0, 10, 10]}
_NAN = {"box": [0, 0, float("nan"), 10]}
_UNIT = {"box": [0, 0, 50, 100], "size": [100, 100]}


class Box(NamedTuple):
    """Corners, x to the right and y down."""

    x1: float
    y1: float
    x2: float
    y2: float


@verifier(
    "box_iou",
    sources=("rewardhub.verifiers.tags",),
    examples=(
        Example("[5, 0, 15, 10]", _TEN, 1 / 3),
        Example("[5, 0, 15, 10]", _TEN, 66 / 176, {"convention": "inclusive"}),
        Example("[9, 0, 19, 10]", _TEN, 1 / 19),
        Example("<answer>[0, 0, 10, 10]</answer>", _TEN, 1.0),
        Example('```json\n[{"bbox_2d": [0, 0, 10, 5], "label": "cat"}]\n```', _TEN, 0.5),
        Example("<|box_start|>(0,0),(10,5)<|box_end|>", _TEN, 0.5),
        Example('{"x1": 0, "y1": 0, "x2": 10, "y2": 5}', _TEN, 0.5),
        Example("[0, 0, 10, 5]", _TEN, 0.0, {"threshold": 0.5}),
        Example("[0, 0, 10, 6]", _TEN, 1.0, {"threshold": 0.5}),
        Example("[1, 1, 2, 2] or rather [0, 0, 10, 10]", _TEN, 1.0),
        Example("[1, 1, 2, 2] or rather [0, 0, 10, 10]", _TEN, 0.0, {"several": "wrong"}),
        Example("[0, 0, 0.5, 1]", _UNIT, 1.0, {"space": "norm_0_1", "reference_space": "pixel"}),
        Example("[0, 0, 500, 1000]", _UNIT, 1.0, {"space": "norm_0_1000", "reference_space": "pixel"}),
        Example("[0, 0, 50, 100]", {"box": [0, 0, 0.5, 1]}, 0.0, {"space": "norm_0_1"}),
        Example("[nan, 0, 10, 10]", _TEN, 0.0),
        Example("[10, 0, 0, 10]", _TEN, 0.0),
        Example("[0, 0, 10]", _TEN, 0.0),
        Example("I see no object", _TEN, None, status=Status.NO_ANSWER),
        Example("[0, 0, 10, 10]", _NAN, None, status=Status.REFERENCE_UNPARSEABLE),
        Example("[0, 0, 1, 1]", {"box": [0, 0, 1, 1]}, None, {"space": "norm_0_1", "convention": "inclusive"},
                status=Status.INVALID_INPUT),
    ),
)  # fmt: skip
def box_iou(
    response: Response, reference: Json, group: Group, *,
    space: Space = Space.PIXEL,
    reference_space: Space | None = None,
    convention: Convention = "continuous",
    threshold: float | None = None,
    several: Several = "last",
) -> Score:  # fmt: skip
    """Intersection over union in [0, 1], or with ``threshold`` 1.0 where it is greater, else 0.0.

    The box is the last (``several``) ``[x1, y1, x2, y2]``, ``(x1,y1),(x2,y2)`` or else the only four
    numbers of the answer tag, the ``\\boxed{}`` or the text. ``space`` is the coordinate space of the
    response, ``reference_space`` that of ``reference.box`` (the same by default). Where they differ,
    pixels need ``reference.size`` or the size of the first media, and ``model_input`` needs
    ``reference.input_size``, both [width, height]. ``convention``: continuous edges, or pixels counted
    inclusively (x2 - x1 + 1), which makes sense in whole units only. A malformed, degenerate or
    out-of-space box is wrong: 0.0 with the reason. Details: ``iou``, ``box``.
    """
    found = _compared(response, reference, group, space, reference_space, convention, several)
    if isinstance(found, str):
        return Score(0.0, details={"reason": found})
    said, wanted = found
    iou = overlap(said, wanted, convention)
    value = iou if threshold is None else float(iou > threshold)
    return Score(value, details={"iou": iou, "box": list(said)})


@verifier(
    "giou",
    range=(-1.0, 1.0),
    sources=("rewardhub.verifiers.tags",),
    examples=(
        Example("[20, 0, 30, 10]", _TEN, -1 / 3),
        Example("[0, 0, 10, 10]", _TEN, 1.0),
        Example("[5, 0, 15, 10]", _TEN, 1 / 3),
        Example("[0, 0, 10]", _TEN, -1.0),
    ),
)
def giou(
    response: Response, reference: Json, group: Group, *,
    space: Space = Space.PIXEL,
    reference_space: Space | None = None,
    several: Several = "last",
) -> Score:  # fmt: skip
    """Generalised IoU in [-1, 1]: IoU - (C - U) / C, where C is the smallest enclosing box.

    Source: Rezatofighi et al. 2019. Boxes are continuous and read as by ``box_iou``; a malformed one
    is -1.0, the lowest, with the reason.
    """
    found = _compared(response, reference, group, space, reference_space, "continuous", several)
    if isinstance(found, str):
        return Score(-1.0, details={"reason": found})
    said, wanted = found
    return Score(generalised_overlap(said, wanted), details={"box": list(said)})


def overlap(one: Box, other: Box, convention: Convention = "continuous") -> float:
    """Intersection over union of two valid boxes; symmetric, in [0, 1]."""
    pixel = 1.0 if convention == "inclusive" else 0.0
    width = min(one.x2, other.x2) - max(one.x1, other.x1) + pixel
    height = min(one.y2, other.y2) - max(one.y1, other.y1) + pixel
    shared = max(0.0, width) * max(0.0, height)
    return min(1.0, shared / (_area(one, pixel) + _area(other, pixel) - shared))


def generalised_overlap(one: Box, other: Box) -> float:
    """Generalised IoU of two valid boxes; symmetric, in [-1, 1]."""
    iou = overlap(one, other)
    shell = Box(min(one.x1, other.x1), min(one.y1, other.y1), max(one.x2, other.x2), max(one.y2, other.y2))
    union = (_area(one, 0.0) + _area(other, 0.0)) / (1.0 + iou)
    return max(-1.0, iou - (_area(shell, 0.0) - union) / _area(shell, 0.0))


def _area(box: Box, pixel: float) -> float:
    return (box.x2 - box.x1 + pixel) * (box.y2 - box.y1 + pixel)


def find_boxes(text: str, most: int | None = None) -> list[list[str]]:
    """The entries of what stands for a box, in order: innermost lists with a number in them, ``most`` at
    most, else pairs of points, else the numbers of the text, five at most. Linear in the text.
    """
    lists = map(_entries, _LIST.findall(text))
    if found := list(islice((entries for entries in lists if any(map(_is_numeral, entries))), most)):
        return found
    points = [_entries(each) for each in _POINT.findall(text)]
    points = [entries for entries in points if len(entries) == 2 and all(map(_is_numeral, entries))]
    if len(points) > 1:
        return [first + second for first, second in zip(points[::2], points[1::2], strict=False)]
    words = (match.group() for match in _WORD.finditer(text))
    loose = list(islice(filter(_is_numeral, words), 5))
    return [loose] if loose else []


def _entries(text: str) -> list[str]:
    return [entry for entry in _SPLIT.split(text) if entry]


def _is_numeral(text: str) -> bool:
    return len(text) <= _MAX_DIGITS and _NUMBER.fullmatch(text) is not None


def _compared(
    response: Response, reference: Json, group: Group, space: Space, reference_space: Space | None,
    convention: Convention, several: Several,
) -> tuple[Box, Box] | str:  # fmt: skip
    """Both boxes in one space, or why the response's is wrong."""
    if convention == "inclusive" and Space.NORM_0_1 in (space, reference_space):
        raise ConfigError("inclusive boxes need a space of whole units, not norm_0_1", field="convention")
    wanted = _reference_box(reference, reference_space or space, convention)
    said = _response_box(response.text, space, convention, several)
    if isinstance(said, str) or reference_space in (None, space):
        return said if isinstance(said, str) else (said, wanted)
    target = reference_space or space
    return _rescaled(said, _extent(space, reference, group), _extent(target, reference, group)), wanted


def _response_box(text: str, space: Space, convention: Convention, several: Several) -> Box | str:
    stated = stated_answer(text)
    candidates = find_boxes(text if stated is None else stated)
    if not candidates:
        if stated is None:
            raise NoAnswer("no box and no number in the response")
        return "no box in the answer"
    if several == "wrong" and len(candidates) > 1:
        return f"{len(candidates)} boxes, expected one"
    numbers = _numbers(candidates[0 if several == "first" else -1])
    return _box(numbers, space, convention) if isinstance(numbers, list) else numbers


def _numbers(items: list[str]) -> list[float] | str:
    if len(items) != 4:
        return f"{len(items)} entries, expected 4"
    for item in items:
        if not _is_numeral(item):
            return f"{item[:20]!r} is not a number of at most {_MAX_DIGITS} characters"
    return [float(item) for item in items]


def _box(numbers: list[float], space: Space, convention: Convention) -> Box | str:
    """The box, or why these four numbers are none."""
    box = Box(*numbers)
    if not all(map(math.isfinite, box)):
        return "a coordinate is not finite"
    if max(map(abs, box)) > MAX_COORDINATE:
        return f"a coordinate is over {MAX_COORDINATE:g}"
    limit = {Space.NORM_0_1: 1.0, Space.NORM_0_1000: 1000.0}.get(space)
    if limit is not None and not all(0.0 <= number <= limit for number in box):
        return f"a coordinate is outside {space.value}"
    width, height = box.x2 - box.x1, box.y2 - box.y1
    empty = min(width, height) < 0 if convention == "inclusive" else min(width, height) < MIN_SIDE
    return "the box is empty: a corner is not left of and above the other" if empty else box


def _reference_box(reference: Json, space: Space, convention: Convention) -> Box:
    numbers = reference.get("box")
    if not isinstance(numbers, list | tuple) or len(numbers) != 4 or not all(map(_is_number, numbers)):
        raise ReferenceUnparseable("reference.box must be four numbers", field="reference.box")
    try:
        box = _box([float(number) for number in numbers], space, convention)
    except OverflowError:
        box = "a coordinate is too large"
    if isinstance(box, str):
        raise ReferenceUnparseable(f"reference.box: {box}", field="reference.box")
    return box


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _extent(space: Space, reference: Mapping[str, Any], group: Group) -> tuple[float, float]:
    """Width and height of the whole image in this space."""
    if space is Space.NORM_0_1:
        return 1.0, 1.0
    if space is Space.NORM_0_1000:
        return 1000.0, 1000.0
    key = "size" if space is Space.PIXEL else "input_size"
    size = reference.get(key)
    if size is None and space is Space.PIXEL and group.media and group.media[0].width and group.media[0].height:
        return float(group.media[0].width), float(group.media[0].height)
    valid = isinstance(size, list | tuple) and len(size) == 2 and all(map(_is_number, size))
    if not valid or not all(0 < side < MAX_COORDINATE for side in size or ()):
        reason = f"reference.{key} must be [width, height] to convert from or to {space.value}"
        raise ReferenceUnparseable(reason, field=f"reference.{key}")
    return float(size[0]), float(size[1])  # type: ignore[index]


def _rescaled(box: Box, source: tuple[float, float], target: tuple[float, float]) -> Box:
    across, down = target[0] / source[0], target[1] / source[1]
    return Box(box.x1 * across, box.y1 * down, box.x2 * across, box.y2 * down)
