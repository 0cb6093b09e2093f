"""Time spans, tracks and both together: notations, catalogue rows, faults, hostile input."""

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.errors import ConfigError
from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.geometry.reading import Wrong
from rewardhub.verifiers.geometry.spans import find_span, span_iou
from rewardhub.verifiers.spatio_temporal import spatio_temporal
from rewardhub.verifiers.structure_bonus import structure_bonus
from rewardhub.verifiers.temporal_iou import keyframe_hit, temporal_iou
from rewardhub.verifiers.tracking import tracking

BOX = [0, 0, 10, 10]
FOUR = {"boxes": {"0": BOX, "1": BOX, "2": BOX, "3": BOX}}
BOTH = {"time": [0, 4], **FOUR}

moment = st.integers(0, 10_000).map(lambda tenths: tenths / 10)
spans = st.tuples(moment, moment).filter(lambda pair: pair[0] < pair[1])


def score(verifier, answer: object, reference: Json, **params: object) -> Score:
    """The score of one answer, given as text or as JSON."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return verifier.bind(params).score(Group("g", responses=(Response(text),), reference=reference), [0]).row(0)


@pytest.mark.parametrize(
    "text",
    [
        "65 - 75", "65-75", "65–75", "65—75", "65~75", "65 to 75", "from 65 to 75", "65 s to 75 s", "65s-75s",
        "65.0 seconds to 75.0 seconds", "[65, 75]", "[65,75]", "(65, 75)", "1:05 - 1:15", "01:05-01:15", "1:05.0 to 1:15.0",
        "00:01:05 to 00:01:15", "0:01:05,0:01:15", '{"time": [65, 75]}', '{"time": ["00:01:05", "00:01:15"]}',
        '{"start": 65, "end": 75}', '{"start_time": 65.0, "end_time": 75.0}', "start=65, end=75", "Answer:65-75",
        "between 65 and 75 seconds", "1 min 5 s to 1 min 15 s", "1m5s - 1m15s", "1 minute 5 seconds until 75 seconds",
        "<answer>65 to 75</answer> and not 1 to 2", "\\boxed{65 - 75}", "In the 3 scenes shown, 65 - 75.", "65 TO 75",
        "<think>1 to 2</think><answer>65 to 75</answer>", "The event happens in the 65 - 75 seconds.", "+65 to +75",
    ],
)  # fmt: skip
def test_ways_to_write_a_span(text: str) -> None:
    """Every usual notation reads as the same span."""
    result = score(temporal_iou, text, {"time": [65, 75]})
    assert (result.value, result.details["time"]) == (1.0, [65.0, 75.0])


@pytest.mark.parametrize(
    ("text", "span"),
    [("1 to 2 minutes", (60, 120)), ("1.5 h - 2 h", (5400, 7200)), ("1:00:00 to 1:30:00", (3600, 5400)),
     ("59:00 - 61:00", (3540, 3660)), ("10 - 20 and 30 - 40", (10, 20)), ("0-1", (0, 1)), ("1 h 30 min to 2 h", (5400, 7200))],
)  # fmt: skip
def test_units_and_first_span(text: str, span: tuple) -> None:
    """A time without a unit takes the other's; the first span counts."""
    assert find_span(text) == span


@pytest.mark.parametrize("text", ["20 - 10", "10 - 10", "-5 to 10", "1:75 to 2:00", "1:70:00 to 2:00:00", "5 to -10"])
def test_spans_that_are_none(text: str) -> None:
    """Row 60 (TimeLens) and temporal_iou: a reversed, empty or negative span is wrong, never repaired."""
    with pytest.raises(Wrong):
        find_span(text)
    assert score(temporal_iou, text, {"time": [5, 25]}).value == 0.0


def test_no_span() -> None:
    """A number alone is no span; in an answer tag that is wrong, elsewhere nothing was answered."""
    for text in ("at 10 seconds", "", "x10-20y", "1 2", "10 20"):
        assert score(temporal_iou, text, {"time": [0, 9]}).status is Status.NO_ANSWER
        assert score(temporal_iou, f"<answer>{text}</answer>", {"time": [0, 9]}).value == 0.0


@pytest.mark.parametrize(
    "value", [None, [5], [5, 5], [9, 5], [0, math.inf], [-1, 5], "soon", "9 to 5", [True, 5], ["0", "5"], 7, {}]
)
def test_unusable_reference_span(value: object) -> None:
    """A status, never a number."""
    for verifier in (temporal_iou, spatio_temporal):
        assert score(verifier, "1 to 2", {"time": value, "boxes": {"0": BOX}}).status is Status.REFERENCE_UNPARSEABLE


def test_ramp_and_threshold() -> None:
    """Row 59 (VITAL): IoU 0.6 between 0.2 and 0.8 is 0.667; row 18 (Video-STaR): kept from 0.5 on."""
    assert score(temporal_iou, "0 to 6", {"time": [0, 10]}, ramp=[0.2, 0.8]).value == pytest.approx(2 / 3)
    assert score(temporal_iou, "0 to 9", {"time": [0, 10]}, ramp=[0.2, 0.8]).value == 1.0
    assert score(temporal_iou, "0 to 5", {"time": [0, 10]}, threshold=0.5).value == 1.0
    assert score(temporal_iou, "0 to 4.9", {"time": [0, 10]}, threshold=0.5).value == 0.0
    assert score(temporal_iou, "5.4 to 9.1", {"time": "5.5 s–9.0 s"}).value == pytest.approx(0.946, abs=5e-4)
    assert score(temporal_iou, "0 to 5", {"time": [0, 10]}, ramp=[0.8, 0.2]).status is Status.INVALID_INPUT


def test_key_times() -> None:
    """Row 20 (LOVE-R1): the span that covers both key times has recall 1, ends included."""
    assert score(keyframe_hit, "12 to 18", {"times": [12, 18]}).value == 1.0
    assert score(keyframe_hit, "18 to 12", {"times": [12, 18]}).value == 0.0
    for times in ([], None, ["12"], [math.nan], [1] * 1001, "12"):
        assert score(keyframe_hit, "12 to 18", {"times": times}).status is Status.REFERENCE_UNPARSEABLE


@given(spans, spans, moment)
def test_span_overlap_properties(one: tuple, other: tuple, shift: float) -> None:
    """Symmetric, in [0, 1], 1 with itself, blind to a shift; and what the text says."""
    iou = span_iou(one, other)
    assert iou == span_iou(other, one)
    assert 0.0 <= iou <= 1.0
    assert span_iou(one, one) == 1.0
    moved = [(start + shift, end + shift) for start, end in (one, other)]
    assert span_iou(*moved) == pytest.approx(iou, abs=1e-9)
    assert score(temporal_iou, f"{one[0]} to {one[1]}", {"time": list(other)}).value == pytest.approx(iou)


@pytest.mark.parametrize(
    ("boxes", "value"),
    [
        ({"0": BOX, "1": BOX}, 0.5), ({"00": BOX, "1": BOX, " 2 ": BOX, "3": BOX}, 1.0), ({"0": BOX, "77": BOX}, 0.25),
        ({"0": [0, 0, 10, "10"]}, 0.0), ({"0": [10, 10, 0, 0], "1": BOX}, 0.25), ({"0": [0, 0, 10, math.nan], "1": BOX}, 0.25),
        ({}, 0.0), ([BOX], 0.0), (None, 0.0),
    ],
)  # fmt: skip
def test_tracking_rows(boxes: object, value: float) -> None:
    """Row tracking: the mean over all frames of the reference; what is missing or malformed counts 0."""
    assert score(tracking, {"boxes": boxes}, FOUR).value == value


def test_missing_frames() -> None:
    """Row spatio_temporal: 0.75 over common frames; with ``frames=reference`` leaving frames out costs."""
    said = {"time": [0, 4], "boxes": {"0": [0, 0, 10, 5]}}
    assert score(spatio_temporal, said, BOTH).value == 0.75
    assert score(spatio_temporal, said, BOTH, frames="reference").value == 0.5 + 0.5 * 0.125
    assert score(spatio_temporal, {**said, "boxes": {}}, BOTH).value == 0.5
    assert score(spatio_temporal, {**said, "time": ["0", "4"]}, BOTH).value == 0.25
    for bad in ([4, 0], [0, math.nan], [0], None, "0 to 4"):
        result = score(spatio_temporal, {**said, "time": bad}, BOTH)
        assert result.value == 0.25
        assert result.details["time_reason"]


def test_tracks_in_other_spaces() -> None:
    """The declared spaces hold for every frame."""
    reference = {"boxes": {"0": [0, 0, 50, 100]}, "size": [100, 100]}
    params = {"space": "norm_0_1000", "reference_space": "pixel"}
    assert score(tracking, {"boxes": {"0": [0, 0, 500, 1000]}}, reference, **params).value == 1.0
    inclusive = score(tracking, {"boxes": {"0": [5, 0, 15, 10]}}, {"boxes": {"0": BOX}}, convention="inclusive")
    assert inclusive.value == 0.375


@pytest.mark.parametrize(
    "value", [None, {}, [], "x", {"0": [1, 2, 3]}, {"0": [9, 9, 0, 0]}, {"0": None}, {"0": [0, 0, 1, math.inf]}]
)
def test_unusable_reference_track(value: object) -> None:
    """A status, never a number."""
    for verifier in (tracking, spatio_temporal):
        result = score(verifier, {"boxes": {"0": BOX}}, {"time": [0, 1], "boxes": value})
        assert result.status is Status.REFERENCE_UNPARSEABLE


def test_floods_end_in_time() -> None:
    """A megabyte of digits, colons, signs or frames: answered within a second."""
    frames = {str(index): BOX for index in range(10_000)}
    cases = [
        *((temporal_iou, (part * 1_000_000)[:999_999], {"time": [0, 1]}) for part in
          ("1", "1:", "1 ", "1 to ", "1-", "1 min ", "1.1", "-", '"1",')),
        (tracking, {"boxes": frames}, {"boxes": frames}), (spatio_temporal, {"time": [0, 1], "boxes": frames}, BOTH),
        (tracking, {"boxes": {str(index): 0 for index in range(60_000)}}, FOUR),
        (tracking, '{"boxes": ' * 90_000, FOUR), (tracking, '{"boxes": {"0": [' + "9," * 400_000, FOUR),
    ]  # fmt: skip
    for verifier, answer, reference in cases:
        begun = time.thread_time()
        assert score(verifier, answer, reference).status in (Status.OK, Status.NO_ANSWER)
        assert time.thread_time() - begun < 1.0, (verifier.info.name, str(answer)[:20])


def test_structure_bonus_row() -> None:
    """Row structure_bonus: tracking with 3 of 4 frames is 0.25 + 0.1875; at most 0.5 for any task."""
    three = {"boxes": {"0": BOX, "1": BOX, "2": BOX}}
    assert score(structure_bonus, three, FOUR, task="tracking").value == 0.25 + 0.1875
    assert score(structure_bonus, FOUR, FOUR, task="tracking").value == 0.5
    assert (
        score(structure_bonus, {"boxes": {str(index): BOX for index in range(99)}}, FOUR, task="tracking").value == 0.5
    )
    assert score(structure_bonus, {"boxes": [1, 2, 3]}, FOUR, task="tracking").value == 0.0
    assert score(structure_bonus, three, {}, task="tracking").status is Status.REFERENCE_UNPARSEABLE


def test_no_structure_is_free() -> None:
    """Fault F17 (OneThinker): tasks without structure have no bonus of 0.5 to collect."""
    assert score(structure_bonus, "any answer", {}, task="temporal").value == 0.0
    with pytest.raises(ConfigError):
        structure_bonus.bind({"task": "open-ended"})
    assert structure_bonus.info.range == (0.0, 0.5)


@given(st.text(alphabet='0123456789:.,-–+ "[]{}ehmsto', max_size=60))
def test_no_text_is_an_error_of_ours(text: str) -> None:
    """Noise that resembles times is a verdict, never ``internal_error``."""
    for verifier in (temporal_iou, tracking, spatio_temporal):
        for wrapped in (text, f'{{"time": [{text}], "boxes": {{"0": [{text}]}}}}'):
            assert score(verifier, wrapped, BOTH).status in (Status.OK, Status.NO_ANSWER), wrapped
