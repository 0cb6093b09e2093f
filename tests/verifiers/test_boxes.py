"""``box_iou`` and ``giou``: spaces, conventions, the parser, and properties."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.types import Group, Json, Media, Response, Score, Status
from rewardhub.verifiers.boxes import Box, box_iou, find_boxes, generalised_overlap, giou, overlap

TEN = {"box": [0, 0, 10, 10]}


def score(text: str, reference: Json, verifier=box_iou, media: tuple[Media, ...] = (), **params: object) -> Score:
    """The score of one response."""
    group = Group("g", responses=(Response(text),), reference=reference, media=media)
    return verifier.bind(params).score(group, [0]).row(0)


@pytest.mark.parametrize(
    "text",
    [
        "[0, 0, 10, 5]", "[0,0,10,5]", "[0 0 10 5]", "[0.0, 0, 1e1, 5.]", "[+0, -0, 10, 5]", "[[0, 0, 10, 5]]",
        '{"bbox_2d": [0, 0, 10, 5]}', '[{"bbox_2d": [0, 0, 10, 5], "label": "a dog"}]', "```json\n[0, 0, 10, 5]\n```",
        "(0,0),(10,5)", "<|box_start|>(0,0),(10,5)<|box_end|>", "(0, 0) (10, 5)",
        "x1=0, y1=0, x2=10, y2=5", "left 0 top 0 right 10 bottom 5.", "0,0,10,5", "(0, 0, 10, 5)",
        '{"x1": 0, "y1": 0, "x2": 10, "y2": 5}', "<answer>[0, 0, 10, 5]</answer>", "\\boxed{[0, 0, 10, 5]}",
        "<think>[3, 3, 4, 4]</think><answer>(0,0),(10,5)</answer>", "[1, 1, 2, 2], no: [0, 0, 10, 5]",
        "The image is [see above]: [0, 0, 10, 5]", "object (dog) at (0,0),(10,5)",
    ],
)  # fmt: skip
def test_ways_to_write_a_box(text: str) -> None:
    """Every usual notation reads as the same box."""
    result = score(text, TEN)
    assert (result.value, result.details["box"]) == (0.5, [0, 0, 10, 5])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[nan, 0, 10, 10]", "not finite"), ("[0, 0, inf, 10]", "not finite"), ("[0, 0, 1e400, 10]", "not finite"),
        ("[0, 0, 10]", "3 entries"), ("[0, 0, 10, 10, 0.9]", "5 entries"), ("[0, 0, ten, 10]", "not a number"),
        ("[10, 0, 0, 10]", "empty"), ("[0, 0, 0, 10]", "empty"), ("[0, 0, 1e12, 10]", "over 1e+09"),
        (f"[0, 0, {'9' * 20_000}, 10]", "not a number"), ("<answer>no idea</answer>", "no box"), ("7", "1 entries"),
        ("[0, 0, 1_0, 10]", "not a number"), ("[0, 0, 0x10, 10]", "not a number"), ("[٠, 0, 10, 10]", "not a number"),
    ],
)  # fmt: skip
def test_malformed_box_is_wrong(text: str, reason: str) -> None:
    """0.0 with status ok and the reason."""
    result = score(text, TEN)
    assert (result.value, result.status) == (0.0, Status.OK)
    assert reason in result.details["reason"]


def test_no_box_at_all_is_no_answer() -> None:
    """Nothing to score."""
    assert score("I cannot see a dog", TEN).status is Status.NO_ANSWER


@pytest.mark.parametrize(
    "box",
    [None, [], [0, 0, 10], [0, 0, 10, 10, 1], "0 0 10 10", [0, 0, "10", 10], [0, 0, True, 10], [0, 0, math.nan, 10],
     [0, 0, math.inf, 10], [10, 0, 0, 10], [0, 0, 0, 0], [0, 0, 10**400, 10], {"x1": 0}],
)  # fmt: skip
def test_unusable_reference_is_no_number(box: object) -> None:
    """A reference that is no box is the caller's fault, and the field is named."""
    result = score("[0, 0, 10, 10]", {"box": box})
    assert (result.value, result.status, result.details["field"]) == (
        None,
        Status.REFERENCE_UNPARSEABLE,
        "reference.box",
    )


def test_conventions() -> None:
    """Continuous 1/3 against 0.375 with inclusive pixels; one shared pixel column is 0.0526 or 0.1."""
    assert score("[5, 0, 15, 10]", TEN).value == pytest.approx(1 / 3)
    assert score("[5, 0, 15, 10]", TEN, convention="inclusive").value == pytest.approx(0.375)
    assert score("[9, 0, 19, 10]", TEN).value == pytest.approx(1 / 19)
    assert score("[10, 0, 10, 10]", TEN, convention="inclusive").value == pytest.approx(11 / 121)
    assert (
        score("[0, 0, 1, 1]", {"box": [0, 0, 1, 1]}, space="norm_0_1", convention="inclusive").status
        is Status.INVALID_INPUT
    )


def test_threshold_is_strict() -> None:
    """An overlap of exactly the threshold does not pass."""
    assert score("[0, 0, 10, 5]", TEN, threshold=0.5).value == 0.0
    assert score("[0, 0, 10, 5.1]", TEN, threshold=0.5).value == 1.0
    assert score("[0, 0, 10, 5.1]", TEN, threshold=0.65).value == 0.0
    assert score("[0, 0, 10, 5]", TEN, threshold=0.5).details["iou"] == 0.5


def test_spaces() -> None:
    """One box in four spaces, against a reference in pixels and in each other space."""
    written = {
        "pixel": [40, 60, 200, 240], "norm_0_1": [0.1, 0.2, 0.5, 0.8], "norm_0_1000": [100, 200, 500, 800],
        "model_input": [56, 56, 280, 224],
    }  # fmt: skip
    sizes = {"size": [400, 300], "input_size": [560, 280]}
    for space, said in written.items():
        for other, box in written.items():
            result = score(str(said), {"box": box, **sizes}, space=space, reference_space=other)
            assert result.value == pytest.approx(1.0), (space, other)


def test_size_comes_from_the_reference_or_the_media() -> None:
    """A size that is needed and missing is the caller's fault; one that is not needed is not asked for."""
    reference = {"box": [40, 60, 200, 240]}
    said = dict(space="norm_0_1", reference_space="pixel")
    image = Media(sha256="0", width=400, height=300)
    assert score("[0.1, 0.2, 0.5, 0.8]", reference, media=(image,), **said).value == pytest.approx(1.0)
    missing = score("[0.1, 0.2, 0.5, 0.8]", reference, **said)
    assert (missing.status, missing.details["field"]) == (Status.REFERENCE_UNPARSEABLE, "reference.size")
    assert score("[40, 60, 200, 240]", reference).value == 1.0
    for size in ([0, 300], [400], [math.nan, 300], "400x300", [True, 300]):
        assert score("[0, 0, 1, 1]", {**reference, "size": size}, **said).status is Status.REFERENCE_UNPARSEABLE
    unsized = score("[1, 1, 2, 2]", reference, space="model_input", reference_space="pixel")
    assert unsized.details["field"] == "reference.input_size"


def test_wrong_space_is_told() -> None:
    """Pixels where fractions were declared are wrong and say so, not silently rescaled."""
    result = score("[40, 60, 200, 240]", {"box": [0.1, 0.2, 0.5, 0.8]}, space="norm_0_1")
    assert (result.value, result.details["reason"]) == (0.0, "a coordinate is outside norm_0_1")


def test_which_of_several() -> None:
    """The last box by default, the first or none where declared."""
    text = "[0, 0, 10, 10] or [0, 0, 10, 5]"
    assert score(text, TEN).value == 0.5
    assert score(text, TEN, several="first").value == 1.0
    assert score(text, TEN, several="wrong").value == 0.0


def test_giou() -> None:
    """The hand-computed rows: disjoint, equal, overlapping, malformed."""
    assert score("[20, 0, 30, 10]", TEN, giou).value == pytest.approx(-1 / 3)
    assert score("[0, 0, 10, 10]", TEN, giou).value == 1.0
    assert score("[5, 0, 15, 10]", TEN, giou).value == pytest.approx(1 / 3)
    assert score("[5, 5, 15, 15]", TEN, giou).value == pytest.approx(25 / 175 - 50 / 225)
    assert score("[nan, 0, 1, 1]", TEN, giou).value == -1.0


sides = st.floats(-1e9, 1e9, allow_nan=False)
boxes = st.tuples(sides, sides, st.floats(1e-6, 1e9), st.floats(1e-6, 1e9)).map(
    lambda box: Box(box[0], box[1], box[0] + box[2], box[1] + box[3])
).filter(lambda box: box.x2 - box.x1 >= 1e-9 and box.y2 - box.y1 >= 1e-9)  # fmt: skip


@given(boxes, boxes, st.sampled_from(["continuous", "inclusive"]))
def test_overlap_is_symmetric_and_bounded(one: Box, other: Box, convention: str) -> None:
    """IoU is symmetric, in [0, 1], and 1 with itself; GIoU in [-1, IoU]."""
    iou = overlap(one, other, convention)
    assert iou == overlap(other, one, convention)
    assert 0.0 <= iou <= 1.0
    assert overlap(one, one, convention) == pytest.approx(1.0)
    wide = generalised_overlap(one, other)
    assert wide == generalised_overlap(other, one)
    assert -1.0 <= wide <= overlap(one, other) + 1e-9


@given(st.text(max_size=100))
def test_any_text_is_answered(text: str) -> None:
    """Any text gets a number or no_answer."""
    result = score(text, TEN)
    assert result.status in (Status.OK, Status.NO_ANSWER)


@pytest.mark.parametrize("part", ["[", "]", "[1", "[1,2,3,4]", "(1,2)", "(", "1 ", "a ", " ", "9", "[ ,", "1,"])
def test_linear_time(part: str) -> None:
    """A megabyte of anything is read at once."""
    begun = time.thread_time()
    find_boxes((part * 1_000_000)[:1_000_000])
    assert time.thread_time() - begun < 3.0
