"""Detection, matched sets of boxes and points: published figures, catalogue rows, faults, hostile input."""

import itertools
import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.box_set import box_point_set, box_set
from rewardhub.verifiers.detection import detection
from rewardhub.verifiers.geometry.overlaps import pairwise_iou
from rewardhub.verifiers.geometry.precision import average_precision, hits_of
from rewardhub.verifiers.geometry.reading import find_json, find_points
from rewardhub.verifiers.points import points
from rewardhub.verifiers.segmentation_prompt import segmentation_prompt

THREE = {"boxes": [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]}
ONE = {"objects": [{"box": [100, 100, 200, 200], "point": [150, 150]}]}

boxes = st.builds(
    lambda x, y, w, h: [x, y, x + w, y + h],
    st.integers(0, 20), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20),
)  # fmt: skip


def score(verifier, answer: object, reference: Json, **params: object) -> Score:
    """The score of one answer, given as text or as JSON."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return verifier.bind(params).score(Group("g", responses=(Response(text),), reference=reference), [0]).row(0)


def toy(folder: Path) -> tuple[dict, dict]:
    """The public samples: detections with confidence, and boxes, by image."""

    def rows(name: str) -> dict[str, list[list[float]]]:
        files = sorted((folder / name).glob("*.txt"))
        lines = {file.stem: file.read_text().split("\n") for file in files}
        return {
            stem: [[float(cell) for cell in line.split()[1:]] for line in each if line] for stem, each in lines.items()
        }

    corners = lambda x, y, width, height: [x, y, x + width, y + height]  # noqa: E731
    said = {
        name: [{"box": corners(*row[1:]), "score": row[0]} for row in each] for name, each in rows("detections").items()
    }
    return said, {name: [corners(*row) for row in each] for name, each in rows("groundtruths").items()}


@pytest.mark.parametrize(("convention", "percent"), [("inclusive", 24.57), ("continuous", 22.54)])
def test_published_average_precision(data_dir: Path, convention: str, percent: float) -> None:
    """AP at IoU 0.3 with every-point interpolation over seven images, as published; 24 detections, 15 boxes."""
    said, wanted = toy(data_dir / "detection_ap_toy")
    params = {"measure": "ap", "iou": 0.3, "convention": convention}
    result = score(detection, {"images": said}, {"images": wanted}, **params)
    assert 100 * float(result) == pytest.approx(percent, abs=0.005)
    assert score(detection, said, {"images": wanted}, **params).value == result.value


def test_published_ranking(data_dir: Path) -> None:
    """The published precision after each rank, from the same hits; and the function for whole data sets."""
    said, wanted = toy(data_dir / "detection_ap_toy")
    scores, hits = [], []
    for name, each in said.items():
        ranked = sorted(each, key=lambda item: -item["score"])
        ious = pairwise_iou(np.array([item["box"] for item in ranked], float), np.array(wanted[name], float), 1.0)
        hits += hits_of(ious, 0.3, "voc").tolist()
        scores += [item["score"] for item in ranked]
    order = np.argsort(-np.array(scores), kind="stable")
    found = np.cumsum(np.array(hits)[order])
    text = (data_dir / "detection_ap_toy/expected_results.txt").read_text()
    published = [float(cell) for cell in text.split("Precision: [")[1].split("]")[0].replace("'", "").split(",")]
    assert [round(hit / (rank + 1), 2) for rank, hit in enumerate(found.tolist())] == pytest.approx(
        published, abs=0.011
    )
    value = average_precision(np.array(scores), np.array(hits), 15)
    assert value == pytest.approx(0.2457, abs=5e-5)


@pytest.mark.parametrize(
    ("interpolation", "expected"),
    [("every_point", 0.25 + 0.25 * 2 / 3 + 0.25 * 0.6), ("11_point", (3 * 1 + 3 * 2 / 3 + 2 * 0.6) / 11),
     ("101_point", (26 * 1 + 25 * 2 / 3 + 25 * 0.6) / 101)],
)  # fmt: skip
def test_interpolations(interpolation: str, expected: float) -> None:
    """Hits at ranks 1, 3 and 5 of four boxes: precision 1, 2/3, 3/5 at recall 1/4, 1/2, 3/4; by hand."""
    scores, hits = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([True, False, True, False, True])
    assert average_precision(scores, hits, 4, interpolation) == pytest.approx(expected)


def test_precision_and_recall_rows() -> None:
    """Row 26 (DIP-R1): two of four detections hit two of three boxes."""
    said = [[0, 0, 10, 10], [20, 0, 30, 10], [60, 0, 70, 10], [80, 0, 90, 10]]
    result = score(detection, said, THREE, measure="weighted")
    assert result.value == pytest.approx(0.5 * 0.5 + 0.5 * 2 / 3)
    assert result.details == {
        "precision": 0.5, "recall": pytest.approx(2 / 3), "f1": pytest.approx(4 / 7),
        "weighted": result.value, "hits": 2,
    }  # fmt: skip
    assert score(detection, said, THREE, measure="weighted", weight=0.8).value == pytest.approx(0.4 + 0.4 / 3)


def test_one_box_is_hit_once() -> None:
    """Repeating a right box costs precision, in every matching."""
    for matching in ("optimal", "voc", "coco"):
        result = score(
            detection, [[0, 0, 10, 10]] * 3, {"boxes": [[0, 0, 10, 10]]}, measure="precision", matching=matching
        )
        assert result.value == pytest.approx(1 / 3)


def test_matchings_differ_where_they_should() -> None:
    """Two detections both nearest the same box: VOC drops the second, COCO gives it the other box."""
    reference = {"boxes": [[0, 0, 10, 10], [0, 4, 10, 14]]}
    said = [{"box": [0, 1, 10, 11], "score": 0.9}, {"box": [0, 1.5, 10, 11.5], "score": 0.8}]
    values = [
        score(detection, said, reference, measure="ap", matching=each).value for each in ("voc", "coco", "optimal")
    ]
    assert values == [0.5, 1.0, 1.0]


@given(st.lists(boxes, max_size=5), st.lists(boxes, max_size=5))
def test_optimal_matching_is_brute_force(said: list, wanted: list) -> None:
    """No permutation matches more boxes, and none a greater sum of IoU for ``box_set``."""
    if not said or not wanted:
        value = score(detection, said, {"boxes": wanted}).value
        assert value == score(box_set, said, {"boxes": wanted}).value == float(not said and not wanted)
        return
    ious = pairwise_iou(np.array(said, float), np.array(wanted, float))
    short = ious if len(said) <= len(wanted) else ious.T
    orders = itertools.permutations(range(short.shape[1]), len(short))
    picks = [short[np.arange(len(short)), list(order)] for order in orders]
    assert hits_of(ious, 0.5, "optimal").sum() == max(int((pick >= 0.5).sum()) for pick in picks)
    best = max(float(pick.sum()) for pick in picks) / max(ious.shape)
    assert score(box_set, said, {"boxes": wanted}).value == pytest.approx(best)


def test_labels_and_images() -> None:
    """Mean over labels of the reference; images by name; an image that nobody named counts as missed."""
    reference = {
        "images": {
            "a": {"boxes": [[0, 0, 10, 10]], "labels": ["cat"]},
            "b": {"boxes": [[0, 0, 9, 9]], "labels": ["dog"]},
        }
    }
    cat = {"box": [0, 0, 10, 10], "label": "Cat "}
    assert score(detection, {"a": [cat]}, reference, measure="ap").value == 0.5
    assert score(detection, {"b": [cat]}, reference, measure="ap").value == 0.0
    assert score(detection, {"images": {"a": [cat], "z": [cat]}}, reference, measure="precision").value == 0.5
    assert score(detection, {"images": {"a": [cat]}}, reference, measure="recall").value == 0.5
    numbered = {"boxes": [[0, 0, 10, 10]], "labels": [3]}
    assert score(detection, [{"box": [0, 0, 10, 10], "class": 3}], numbered).value == 1.0
    assert score(box_set, {"boxes": [[0, 0, 10, 10]], "labels": [4]}, numbered).value == 0.0
    scaled = {"images": {"a": {"boxes": [[0, 0, 10, 10]], "size": [20, 20]}}}
    params = {"space": "norm_0_1000", "reference_space": "pixel"}
    assert score(detection, {"a": [[0, 0, 500, 500]]}, scaled, **params).value == 1.0


def test_several_thresholds_are_averaged() -> None:
    """COCO's mean over IoU thresholds: 0.5 holds at 0.5 only."""
    params = {"iou": [0.5, 0.75], "measure": "ap"}
    assert score(detection, [[0, 0, 10, 6]], {"boxes": [[0, 0, 10, 10]]}, **params).value == 0.5
    assert detection.bind({"iou": [0.5]}).params["iou"] == (0.5,)


@pytest.mark.parametrize("bad", ['{"box": [0, 0, 10]}', "[10, 10, 0, 0]", "7", '"x"', "null", "[0, 0, NaN, 10]", "{}"])
def test_malformed_detection_is_a_false_one(bad: str) -> None:
    """It matches nothing, and it is counted."""
    result = score(detection, f'[{{"box": [0, 0, 10, 10]}}, {bad}]', {"boxes": [[0, 0, 10, 10]]}, measure="precision")
    assert result.value == 0.5


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity", '"high"', "null", "true", "1e999"])
def test_unusable_confidence_is_a_miss(bad: str) -> None:
    """No ranking trick: such a detection cannot be a hit."""
    said = f'[{{"box": [0, 0, 10, 10], "score": {bad}}}]'
    assert score(detection, said, {"boxes": [[0, 0, 10, 10]]}, measure="ap").value == 0.0


def test_tracks_over_the_cap_are_wrong_not_cut() -> None:
    """Affordance-R1 cuts at 120 objects, so surplus ones cost nothing; here more are wrong."""
    hit = {"bbox_2d": [100, 100, 200, 200], "point_2d": [150, 150]}
    assert score(box_point_set, [hit] * 120, ONE).value == pytest.approx(3 / 120)
    assert score(box_point_set, [hit] * 121, ONE).value == 0.0
    assert score(box_point_set, [hit] * 121, ONE, max_objects=200).value == pytest.approx(3 / 121)


@pytest.mark.parametrize(
    ("box", "point", "params", "value"),
    [
        ([100, 100, 164, 200], [150, 150], {}, 2.0),  # IoU 0.64, mean difference 9
        ([100, 100, 166, 200], [150, 150], {}, 3.0),
        ([100, 100, 164, 200], [150, 150], {"iou": 0.5}, 3.0),  # VisionReasoner's threshold
        ([100, 100, 160, 200], [150, 150], {}, 1.0),  # mean difference 10 is not below 10
        ([100, 100, 200, 200], [180, 150], {}, 2.0),  # 30 px away is not nearer than 30
        ([100, 100, 200, 200], [179, 150], {}, 3.0),
        ([100, 100, 150, 200], [150, 150], {}, 1.0),  # on the edge of its own box
        ([100, 100, 149, 200], [150, 150], {}, 0.0),  # beside its own box
    ],
)
def test_affordance_edges(box: list, point: list, params: dict, value: float) -> None:
    """Row 64 and hungarian_boxes_points: each gate at its edge."""
    reference = {"objects": [{"box": [100, 100, 200, 200], "point": [150, 150]}]}
    assert score(box_point_set, [{"bbox_2d": box, "point_2d": point}], reference, **params).value == value


def test_affordance_matching_is_best() -> None:
    """Objects in another order, one of them surplus: B row box_match_set, the sum over the larger count."""
    reference = {
        "objects": [{"box": [0, 0, 100, 100], "point": [50, 50]}, {"box": [300, 300, 400, 400], "point": [350, 350]}]
    }
    said = [
        {"bbox_2d": [300, 300, 400, 400], "point_2d": [350, 350]}, {"bbox_2d": [900, 900, 950, 950], "point_2d": [1, 1]},
        {"bbox_2d": [0, 0, 100, 100], "point_2d": [50, 50]},
    ]  # fmt: skip
    assert score(box_point_set, said, reference).value == pytest.approx(2.0)
    assert score(box_point_set, [], reference).value == 0.0
    assert score(box_point_set, [], reference, measure="fields").value == 0.0
    inclusive = score(box_point_set, [{"bbox_2d": [0, 0, 64, 100]}], reference, convention="inclusive", iou=0.64)
    assert inclusive.value == 1.0  # 65·101 / 101² = 0.6436 with pixels counted, and mean difference 9: over 2 objects


@given(st.lists(boxes, min_size=1, max_size=6), st.randoms())
def test_a_set_matches_itself_in_any_order(said: list, random) -> None:
    """The value is 1 for the reference itself, however it is listed."""
    shuffled = random.sample(said, len(said))
    for verifier in (box_set, detection):
        assert score(verifier, shuffled, {"boxes": said}).value == pytest.approx(1.0)


@given(st.lists(boxes, min_size=1, max_size=5), st.lists(boxes, min_size=1, max_size=5))
def test_box_sets_are_symmetric(one: list, other: list) -> None:
    """In [0, 1], and the same when prediction and reference change places."""
    value = score(box_set, one, {"boxes": other}).value
    assert 0.0 <= value <= 1.0
    assert score(box_set, other, {"boxes": one}).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("(1, 2)", [(1, 2)]), ("[[1, 2], [3, 4]]", [(1, 2), (3, 4)]), ('{"point_2d": [1.5, 2]}', [(1.5, 2)]),
     ("(1, 2, 3)", [None]), ("(see) [1, 2]", [(1, 2)]), ("(1, x)", [None]), ("nothing", []), ("[" * 9, [])],
)  # fmt: skip
def test_ways_to_write_points(text: str, expected: list) -> None:
    """Brackets of either kind; what holds a number but is no pair is no point, and is counted."""
    assert find_points(text) == expected


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [
        ("(10, 10)", {"box": [0, 0, 10, 10]}, 1.0), ("(10.001, 10)", {"box": [0, 0, 10, 10]}, 0.0),
        ("<answer>(5, 5)</answer> or (50, 50)", {"box": [0, 0, 10, 10]}, 1.0),
        ("(1, 1), (2)", {"box": [0, 0, 10, 10]}, 0.5), ("(1e400, 1)", {"box": [0, 0, 10, 10]}, 0.0),
        ("(4, 0)", {"mask": [[1, 1, 1, 1]]}, 0.0), ("(3.99, 0.99)", {"mask": [[1, 1, 1, 1]]}, 1.0),
        ("(-0.5, 0)", {"mask": [[1, 1, 1, 1]]}, 0.0), ("<answer>left</answer>", {"box": [0, 0, 10, 10]}, 0.0),
    ],
)  # fmt: skip
def test_points_in_places(answer: str, reference: Json, value: float) -> None:
    """Rows 10 and 64, points_in_box: a point on the edge counts as inside; a mask's pixels are half open."""
    assert score(points, answer, reference).value == value


def test_points_need_one_target() -> None:
    """No silent choice between a box and a mask; a mask is in pixels."""
    assert score(points, "(1, 1)", {"box": [0, 0, 1, 1], "point": [1, 1]}).status is Status.REFERENCE_UNPARSEABLE
    assert score(points, "(1, 1)", {}).status is Status.REFERENCE_UNPARSEABLE
    masked = {"mask": [[1]], "size": [1, 1]}
    assert score(points, "(0.5, 0.5)", masked, space="norm_0_1").status is Status.REFERENCE_UNPARSEABLE
    assert score(points, "(0.5, 0.5)", masked, space="norm_0_1", reference_space="pixel").value == 1.0
    assert score(points, "somewhere", {"box": [0, 0, 1, 1]}).status is Status.NO_ANSWER


def test_segmentation_rows() -> None:
    """Row 74, segmentation_prompt: 0.7450 for the image, 0.6604 for the video."""
    reference = {
        "box": [0, 0, 100, 100],
        "positive_points": [[20, 20], [50, 50], [80, 80]],
        "negative_points": [[150, 20]] * 3,
    }
    shifted = [[x + 10, y] for x, y in reference["positive_points"]]
    said = {"boxes": [0, 0, 100, 50], "positive_points": shifted, "negative_points": reference["negative_points"]}
    assert score(segmentation_prompt, said, reference).value == pytest.approx(0.7450, abs=5e-5)
    said = {**said, "positive_points": reference["positive_points"][::-1], "time": 6.0}
    assert score(segmentation_prompt, said, {**reference, "time": 4.0}).value == pytest.approx(0.6604, abs=5e-5)
    assert score(segmentation_prompt, said, reference, video=True).status == "reference_unparseable"
    for bad in ({"time": "6"}, {"time": float("nan")}, {"time": True}):
        assert score(segmentation_prompt, {**said, **bad}, {**reference, "time": 4.0}).value == pytest.approx(0.55)
    for bad in ([[1, 2]] * 2, [[1, 2]] * 4, [[1, 2, 3]] * 3, "x", [["1", "2"]] * 3):
        assert score(segmentation_prompt, {**said, "positive_points": bad}, reference).value == pytest.approx(0.5)


def test_unusable_references() -> None:
    """Each a status, whatever the answer."""
    cases = [
        (detection, {"images": {}}), (detection, {"images": [1]}), (detection, {"boxes": [[0, 0, 1]]}),
        (detection, {"images": {"a": None}}), (detection, {"boxes": [[0, 0, 1, 1]], "labels": ["a", "b"]}), (detection, {"boxes": [[0, 0, 1, 1]] * 1001}), (box_set, {"boxes": "x"}),
        (box_point_set, {"objects": []}), (box_point_set, {"objects": [{"box": [0, 0, 1, 1]}]}),
        (box_point_set, {"objects": [{"box": [1, 1, 0, 0], "point": [0, 0]}]}), (points, {"points": []}),
        (points, {"point": [0, float("inf")]}), (points, {"boxes": []}), (points, {"mask": [[2]]}),
        (segmentation_prompt, {"box": [0, 0, 1, 1], "positive_points": [[0, 0]]}),
    ]  # fmt: skip
    for verifier, reference in cases:
        for answer in ("[[0, 0, 10, 10]]", '{"boxes": []}', "[10, 0, 0, 10]"):
            assert score(verifier, answer, reference).status is Status.REFERENCE_UNPARSEABLE, (
                verifier.info.name,
                reference,
            )


def test_floods_end_in_time() -> None:
    """A hundred thousand boxes, images, labels, points or objects: answered within a second each."""
    thousand = [[index % 90, index % 70, index % 90 + 20, index % 70 + 30] for index in range(1000)]
    labelled = [{"box": box, "label": str(index), "score": 0.5} for index, box in enumerate(thousand[:900])]
    names = {str(index): [] for index in range(60_000)}
    cases = [
        (detection, thousand, {"boxes": thousand}, {}), (detection, thousand * 40, THREE, {}),
        (detection, thousand, {"boxes": thousand}, {"measure": "ap", "matching": "coco"}),
        (detection, labelled, {"boxes": labelled}, {"measure": "ap"}), (detection, names, {"images": {"a": []}}, {}),
        (box_set, thousand, {"boxes": thousand}, {}), (box_set, "[" * 999_999, THREE, {}),
        (points, "(1, 2)" * 150_000, {"points": [[1, 2]] * 1000}, {}), (points, "(1,2)" * 999, {"boxes": thousand}, {}),
        (points, "(1,2)" * 999, {"points": [[index, 0] for index in range(999)]}, {}),
        (box_point_set, [{"bbox_2d": [0, 0, 9, 9]}] * 30_000, ONE, {}),
        (segmentation_prompt, '{"boxes": [' + "9" * 900_000, {"box": [0, 0, 1, 1], "positive_points": [[0, 0]],
                                                                "negative_points": [[0, 0]]}, {}),
    ]  # fmt: skip
    for verifier, answer, reference, params in cases:
        begun = time.thread_time()
        assert score(verifier, answer, reference, **params).status in (Status.OK, Status.NO_ANSWER)
        assert time.thread_time() - begun < 1.0, (verifier.info.name, str(answer)[:40])


@pytest.mark.parametrize("depth", [10, 200, 450, 900, 990, 1100, 50_000])
def test_deep_nesting_is_a_verdict(depth: int) -> None:
    """Neither the JSON reader nor what walks its result runs out of stack."""
    half = depth // 2
    texts = [
        '{"boxes":' * depth + "1" + "}" * depth,
        "[" * depth + "1" + "]" * depth,
        '{"boxes":[' * half + "]}" * half,
    ]
    for verifier, reference in (
        (detection, THREE),
        (box_set, THREE),
        (box_point_set, ONE),
        (points, {"box": [0, 0, 9, 9]}),
    ):
        for text in texts:
            assert score(verifier, text, reference).value in (0.0, None)
            assert score(verifier, text, reference).status in (Status.OK, Status.NO_ANSWER)


@given(st.text(alphabet='[]{}():,"0123456789.-eE boxespointime\\NaNInfinity', max_size=80))
def test_no_text_is_an_error_of_ours(text: str) -> None:
    """Noise that resembles answers is a verdict, never ``internal_error``."""
    cases = [(detection, THREE), (detection, {"images": {"a": [[0, 0, 1, 1]]}}), (box_set, THREE), (box_point_set, ONE),
             (points, {"box": [0, 0, 1, 1]}), (points, {"points": [[0, 0]]}), (points, {"mask": [[1]]})]  # fmt: skip
    for verifier, reference in cases:
        for wrapped in (text, f"<answer>[{text}]</answer>", f'{{"boxes": {text}}}'):
            assert score(verifier, wrapped, reference).status in (Status.OK, Status.NO_ANSWER), wrapped
    find_json(text)
