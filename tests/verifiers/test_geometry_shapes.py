"""Boxes, unions, polygons and masks: formulas against other implementations, properties, hostile input."""

import json
import math
import time

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardhub.errors import ConfigError
from rewardhub.types import Group, Json, Media, Response, Score, Status
from rewardhub.verifiers.boxes import Box, box_iou, overlap
from rewardhub.verifiers.geometry.areas import area_of, area_overlap
from rewardhub.verifiers.geometry.masks import Mask, mask_overlap, read_mask
from rewardhub.verifiers.geometry.overlaps import aligned_iou, pairwise_iou, union_overlap
from rewardhub.verifiers.geometry.space import Resize
from rewardhub.verifiers.mask_iou import mask_iou
from rewardhub.verifiers.polygon_iou import MAX_VERTICES, polygon_iou
from rewardhub.verifiers.union_iou import union_iou

SQUARE = {"polygon": [[0, 0], [10, 0], [10, 10], [0, 10]]}
TWO = {"boxes": [[0, 0, 10, 10], [10, 0, 20, 10]]}

coordinate = st.integers(-1000, 1000).map(float)
side = st.integers(1, 1000).map(float)
boxes = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), coordinate, coordinate, side, side)
box_lists = st.lists(boxes, min_size=1, max_size=6).map(np.array)
rings = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=8).map(np.array)
grids = st.integers(1, 8).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 1), min_size=width, max_size=width), min_size=1, max_size=8)
)


def score(verifier, answer: object, reference: Json, media: tuple[Media, ...] = (), **params: object) -> Score:
    """The score of one answer, given as text or as JSON."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    group = Group("g", responses=(Response(text),), reference=reference, media=media)
    return verifier.bind(params).score(group, [0]).row(0)


@pytest.mark.parametrize(
    ("answer", "threshold", "value"),
    [("[0, 0, 10, 4.9]", 0.5, 0.0), ("[0, 0, 10, 5.1]", 0.5, 1.0), ("[0, 0, 10, 6.5]", 0.65, 0.0)],
)
def test_region_counts_above_its_threshold(answer: str, threshold: float, value: float) -> None:
    """Row 33 (DocThinker) and the variants of iou2d: 0.49 is 0, 0.51 is 1, the threshold itself is 0."""
    assert score(box_iou, answer, {"box": [0, 0, 10, 10]}, threshold=threshold).value == value


@pytest.mark.parametrize(
    ("answer", "convention", "value"),
    [
        ([[5, 0, 15, 10]], "continuous", 1 / 3), ([[5, 0, 15, 10]], "inclusive", 0.375),
        ([[9, 0, 19, 10]], "continuous", 1 / 19),
    ],
)  # fmt: skip
def test_box_convention_is_declared(answer: object, convention: str, value: float) -> None:
    """Fault F16 (Affordance-R1, Jigsaw-R1): neither +1 pixel nor half-open boxes unless declared."""
    assert score(union_iou, answer, {"boxes": [[0, 0, 10, 10]]}, convention=convention).value == pytest.approx(value)


def test_wrong_space_is_not_silent() -> None:
    """Fault F15 (SATORI-R1): boxes in model-input pixels are mapped by the declared resize, or not at all."""
    reference = {"boxes": [[0, 0, 1000, 500]], "size": [1000, 1000]}
    params = {"space": "model_input", "reference_space": "pixel"}
    resize = {"min_pixels": 200_704, "max_pixels": 401_408}
    assert score(union_iou, [[0, 0, 616, 308]], reference, **params, resize=resize).value == pytest.approx(1.0)
    assert score(union_iou, [[0, 0, 616, 308]], reference, **params).status is Status.REFERENCE_UNPARSEABLE
    known = {**reference, "input_size": [616, 616]}
    assert score(union_iou, [[0, 0, 616, 308]], known, **params).value == pytest.approx(1.0)
    text = "[[__import__('os').system('true'), 0, 1, 1]]"
    assert score(union_iou, text, reference).value == 0.0


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1000, 1000), (616, 616)), ((100, 100), (448, 448)), ((560, 560), (560, 560)), ((4000, 300), (2296, 168))],
)
def test_resize(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """Sides are multiples of 28 with the area in bounds: shrunk downwards, grown upwards, else rounded."""
    assert Resize(min_pixels=200_704, max_pixels=401_408).of(*size) == expected


def test_spaces_convert() -> None:
    """The size of the picture comes from the reference or from the first media."""
    params = {"space": "norm_0_1000", "reference_space": "pixel"}
    media = (Media(width=200, height=100),)
    reference = {"boxes": [[0, 0, 100, 100]]}
    assert score(union_iou, [[0, 0, 500, 1000]], reference, media, **params).value == 1.0
    assert score(union_iou, [[0, 0, 500, 1000]], reference, **params).status is Status.REFERENCE_UNPARSEABLE
    assert score(union_iou, [[0, 0, 500, 1001]], reference, media, **params).value == 0.0
    with pytest.raises(ConfigError):
        union_iou.bind({"space": "norm_0_1000", "resize": {"min_pixels": 0, "max_pixels": 5}})
    inclusive = score(union_iou, [[0, 0, 1, 1]], {"boxes": [[0, 0, 1, 1]]}, space="norm_0_1", convention="inclusive")
    assert inclusive.status is Status.INVALID_INPUT


@given(boxes, boxes, coordinate, coordinate, st.sampled_from([0.0, 1.0]))
def test_box_overlap_properties(one: tuple, other: tuple, right: float, down: float, pixel: float) -> None:
    """Symmetric, in [0, 1], 1 with itself, the same after a shift, and the scalar function's value."""
    first, second = np.array(one), np.array(other)
    iou = float(aligned_iou(first, second, pixel))
    assert iou == aligned_iou(second, first, pixel)
    assert 0.0 <= iou <= 1.0
    assert aligned_iou(first, first, pixel) == 1.0
    shift = np.array([right, down, right, down])
    assert aligned_iou(first + shift, second + shift, pixel) == pytest.approx(iou, abs=1e-12)
    assert overlap(Box(*one), Box(*other), "inclusive" if pixel else "continuous") == pytest.approx(iou, abs=1e-12)
    assert pairwise_iou(first[None], second[None], pixel)[0, 0] == iou


@given(box_lists, box_lists, coordinate)
def test_union_overlap_is_shapelys(ones: np.ndarray, others: np.ndarray, shift: float) -> None:
    """The union of boxes as shapely unites them; symmetric, blind to duplicates and to a shift."""
    one, other = (shapely.union_all(shapely.box(*each.T)) for each in (ones, others))
    expected = one.intersection(other).area / one.union(other).area
    iou = union_overlap(ones, others)
    assert iou == pytest.approx(expected, abs=1e-9)
    assert union_overlap(others, ones) == iou
    assert union_overlap(np.concatenate([ones, ones]), others) == pytest.approx(iou, abs=1e-12)
    assert union_overlap(ones, ones) == 1.0
    assert union_overlap(ones + shift, others + shift) == pytest.approx(iou, abs=1e-9)


def inside_widths(ring: np.ndarray, y: float) -> list[float]:
    """Where a horizontal line meets the ring, in order: it is inside between the first two, and so on."""
    edges = zip(ring, np.roll(ring, -1, axis=0), strict=True)
    return sorted(a[0] + (y - a[1]) * (b[0] - a[0]) / (b[1] - a[1]) for a, b in edges if (a[1] > y) != (b[1] > y))


def slab_areas(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Shared, first and second even-odd area, by slabs of the plane in which no two edges cross."""
    lines = shapely.linestrings(
        [pair for ring in (one, other) for pair in zip(ring, np.roll(ring, -1, 0), strict=True)]
    )
    meetings = [shapely.intersection(a, b) for index, a in enumerate(lines) for b in lines[:index]]
    heights = np.unique(np.concatenate([one[:, 1], other[:, 1], shapely.get_coordinates(meetings)[:, 1]]))
    total = np.zeros(3)
    for low, high in zip(heights, heights[1:], strict=False):
        cuts = [inside_widths(ring, (low + high) / 2) for ring in (one, other)]
        places = sorted([*cuts[0], *cuts[1]])
        for left, right in zip(places, places[1:], strict=False):
            in_one, in_other = (sum(cut <= left for cut in each) % 2 for each in cuts)
            total += np.array([in_one * in_other, in_one, in_other]) * (right - left) * (high - low)
    return tuple(total)


@settings(deadline=None)
@given(rings, rings, coordinate)
def test_polygon_overlap_properties(one: np.ndarray, other: np.ndarray, shift: float) -> None:
    """Even-odd areas agree with integration by slabs; symmetric, in [0, 1], blind to a shift."""
    iou = area_overlap([one], [other])
    assert 0.0 <= iou <= 1.0
    assert area_overlap([other], [one]) == pytest.approx(iou, abs=1e-9)
    assert area_overlap([one + shift], [other + shift]) == pytest.approx(iou, abs=1e-6)
    shared, first, second = slab_areas(one, other)
    assert area_of([one]) == pytest.approx(first, abs=1e-3)
    if first > 1.0 and second > 1.0:
        assert iou == pytest.approx(shared / (first + second - shared), abs=1e-6)
        assert area_overlap([one], [one]) == 1.0


@given(rings)
def test_simple_polygons_have_their_shoelace_area(ring: np.ndarray) -> None:
    """Where no edges cross, the area is that of the shoelace formula."""
    if not shapely.Polygon(ring).is_valid:
        return
    x, y = ring.T
    shoelace = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2.0
    assert area_of([ring]) == pytest.approx(shoelace, abs=1e-3)


@pytest.mark.parametrize(
    "answer",
    [
        [[0, 0], [10, 10]], [[0, 0], [5, 5], [10, 10]], [[1, 1], [1, 1], [1, 1]], [0, 0, 10, 0, 10], [[0, 0], [10, 0], [10]],
        [[0, 0], [1e12, 0], [5, 5]], "[[0, 0], [Infinity, 0], [5, 5]]", [["0", "0"], ["9", "0"], ["9", "9"]], {}, [[[]]],
        {"polygon": None}, [True, 0, 5, 0, 5, 5], "[[0, 0], [10, 0], [10, 10]", [0, 1, 2, 3, 4, 5] * 10_000,
        [[[0, 0], [1, 0], [1, 1]]] * 2_000,
    ],
)  # fmt: skip
def test_malformed_polygons_are_wrong(answer: object) -> None:
    """Too few vertices, no area, non-finite, strings, odd counts, floods: 0.0 with the reason."""
    result = score(polygon_iou, answer, SQUARE)
    assert (result.value, result.status) == (0.0, Status.OK)
    assert result.details["reason"]


@pytest.mark.parametrize(
    "value",
    [None, [], [[0, 0], [1, 1], [2, 2]], [[0, 0], [1, 0]], "x", [[0, 0], [1, 0], [math.inf, 1]], [[0] * 6] * 600],
)
def test_unusable_reference_polygon(value: object) -> None:
    """A status, never a number, even for a malformed answer."""
    for answer in ("[[0, 0], [10, 0], [10, 10]]", "[[0, 0]]"):
        assert score(polygon_iou, answer, {"polygon": value}).status is Status.REFERENCE_UNPARSEABLE


def test_hostile_polygons_end_in_time() -> None:
    """A million claimed vertices, and hundreds of edges that all cross: each answered within a second."""
    random = np.random.default_rng(0)
    zigzag = [[(index % 2) * 100, index / 5] for index in range(MAX_VERTICES)]
    noise = [(random.random((count, 2)) * 100).tolist() for count in (140, MAX_VERTICES)]
    for answer in (zigzag, *noise, [[index, index % 7] for index in range(60_000)], "[0, 1, " * 140_000):
        begun = time.thread_time()
        assert score(polygon_iou, answer, {"polygon": noise[0]}).status is Status.OK
        assert time.thread_time() - begun < 1.0


def test_coordinates_of_all_sizes() -> None:
    """From 1e-300 to 1e9 in one polygon: a value in [0, 1], no warning, no error of ours."""
    random = np.random.default_rng(5)
    for _ in range(150):
        sizes = random.uniform(-1, 1, (2, 12, 2)) * 10.0 ** random.integers(-300, 9, (2, 12, 2))
        mixed = np.where(random.random((2, 12, 2)) < 0.5, sizes, random.uniform(-1e9, 1e9, (2, 12, 2)))
        result = score(polygon_iou, mixed[0].tolist(), {"polygon": mixed[1].tolist()})
        assert result.status in (Status.OK, Status.REFERENCE_UNPARSEABLE)
        assert result.value is None or 0.0 <= result.value <= 1.0


def rle(grid: list[list[int]]) -> list[int]:
    """Run lengths of a mask, column by column, counted the slow way."""
    runs, current = [0], 0
    for cell in (cell for column in zip(*grid, strict=True) for cell in column):
        if cell != current:
            runs.append(0)
            current = cell
        runs[-1] += 1
    return runs


def compressed(runs: list[int]) -> str:
    """COCO's text for run lengths, written from its description."""
    text = ""
    for index, run in enumerate(runs):
        number = run - runs[index - 2] if index > 2 else run
        while True:
            digit, number = number & 31, number >> 5
            done = (number == 0 and not digit & 16) or (number == -1 and bool(digit & 16))
            text += chr(48 + digit + (0 if done else 32))
            if done:
                break
    return text


@given(grids, st.data())
def test_mask_encodings_agree(grid: list[list[int]], data: st.DataObject) -> None:
    """Rows, lines of digits, run lengths and compressed runs are one mask, and overlap as arrays do."""
    other = data.draw(st.lists(st.lists(st.integers(0, 1), min_size=len(grid[0]), max_size=len(grid[0])),
                               min_size=len(grid), max_size=len(grid)))  # fmt: skip
    size = [len(grid), len(grid[0])]
    lines = "\n".join("".join(map(str, row)) for row in grid)
    ways = [grid, lines, {"size": size, "counts": rle(grid)}, {"size": size, "counts": compressed(rle(grid))}]
    masks = [read_mask(way) for way in ways]
    assert all(isinstance(mask, Mask) for mask in masks)
    one, two = np.array(grid, dtype=bool), np.array(other, dtype=bool)
    expected = (one & two).sum() / (one | two).sum() if (one | two).any() else 1.0
    for mask in masks:
        assert mask_overlap(mask, read_mask(other)) == expected == mask_overlap(read_mask(other), mask)
        points = np.argwhere(np.ones_like(one))[:, ::-1].astype(float) + 0.5
        assert mask.holds(points).tolist() == one.ravel().tolist()


def test_known_compressed_mask() -> None:
    """Row mask_iou: 100 of 300 pixels each, 50 shared. And long runs with falling differences."""
    for counts in ([50, 100, 150], compressed([50, 100, 150])):
        reference = {"mask": {"size": [10, 30], "counts": [0, 100, 200]}}
        assert score(mask_iou, {"size": [10, 30], "counts": counts}, reference).value == pytest.approx(1 / 3)
    runs = [5, 4000, 70_000, 3, 12, 999_999, 1, 3_000_000]
    mask = read_mask({"size": [sum(runs), 1], "counts": compressed(runs)})
    assert mask == "size is not [height, width] within 1 to 65536"
    mask = read_mask(
        {"size": [sum(runs) // 1000, 1000], "counts": compressed([*runs[:-1], runs[-1] - sum(runs) % 1000])}
    )
    assert np.diff(mask.ends, prepend=0).tolist()[:-1] == runs[:-1]


@pytest.mark.parametrize(
    "answer",
    [
        {"size": [1e9, 1e9], "counts": [1e18]}, {"size": [2, 4], "counts": [1e300]}, {"size": [2, 4], "counts": [-1, 9]},
        {"size": [2, 4], "counts": [0.5, 7.5]}, {"size": [2, 4], "counts": ""}, {"size": [2, 4], "counts": "~~~"},
        {"size": [2, 4], "counts": "ooooooooooooooo"}, {"size": [2, 4], "counts": "P" * 500_000}, {"size": [2, 4]},
        {"size": [0, 4], "counts": [0]}, {"size": [4, 2], "counts": [0, 8]}, [[1, 1], [1]], [[2, 2, 2, 2]] * 2, [[]],
        [[1, 1, 1, 1], "1111"], {"size": "24", "counts": [8]}, "[[1, 1, 1, 1], [1, 1, 1, 1]", [[0, 1] * 100_000],
        {"size": [2, 4], "counts": [1] * 200_000}, [["1", "1", "1", "1"]] * 2, "<answer>no</answer>",
    ],
)  # fmt: skip
def test_malformed_masks_are_wrong(answer: object) -> None:
    """Claimed sizes, wrong sums, odd characters and ragged rows: 0.0 with the reason, in time."""
    begun = time.thread_time()
    result = score(mask_iou, answer, {"mask": [[1, 1, 0, 0], [1, 1, 0, 0]]})
    if answer == [[1, 1, 1, 1], "1111"]:
        assert result.value == 0.5
        return
    assert (result.value, result.status) == (0.0, Status.OK)
    assert result.details["reason"]
    assert time.thread_time() - begun < 1.0


def test_huge_masks_are_compared_unexpanded() -> None:
    """4.3 billion claimed pixels cost no more than their runs."""
    reference = {"mask": {"size": [65_536, 65_536], "counts": [0, 65_536**2]}}
    begun = time.thread_time()
    assert (
        score(mask_iou, {"size": [65_536, 65_536], "counts": [65_536**2 // 2, 65_536**2 // 2]}, reference).value == 0.5
    )
    assert time.thread_time() - begun < 0.1


def test_no_answer_at_all() -> None:
    """Nothing to score is not a wrong box."""
    for verifier, reference in ((union_iou, TWO), (polygon_iou, SQUARE), (mask_iou, {"mask": [[1]]})):
        assert score(verifier, "I cannot see it.", reference).status is Status.NO_ANSWER
        assert score(verifier, "<answer>nothing</answer>", reference).value == 0.0


def test_floods_of_boxes() -> None:
    """Above the stated number of boxes an answer is wrong; at it, the answer comes in time."""
    many = [[index, index % 17, index + 5, index % 17 + 5] for index in range(500)]
    begun = time.thread_time()
    assert 0.0 < score(union_iou, many, {"boxes": many[::-2]}).value < 1.0
    assert score(union_iou, many * 100, TWO).value == 0.0
    assert score(union_iou, many, {"boxes": [[0, 0, 1, 1]] * 2_000}).status is Status.REFERENCE_UNPARSEABLE
    assert time.thread_time() - begun < 1.0
