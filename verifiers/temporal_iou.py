"""``temporal_iou`` and ``keyframe_hit``: a stated time span against the reference's."""

from rewardhub.errors import ConfigError, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.scorer import need
from rewardhub.types import Json, Response, Score
from rewardhub.verifiers.geometry.reading import MAX_ITEMS, Wrong, answer_text, missing, numbers
from rewardhub.verifiers.geometry.spans import find_span, reference_span, span_iou

_SOURCES = (
    "rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.geometry.spans",
    "rewardhub.verifiers.boxes", "rewardhub.verifiers.tags",
)  # fmt: skip
_LATE = {"time": [15, 25]}


@verifier(
    "temporal_iou",
    libraries=("google-re2",),
    sources=_SOURCES,
    examples=(
        Example("10.0 - 20.0", _LATE, 1 / 3),
        Example("[10, 20]", _LATE, 1 / 3),
        Example('<answer>{"time": [10, 20]}</answer>', _LATE, 1 / 3),
        Example('{"start": 10, "end": 20}', _LATE, 1 / 3),
        Example("00:01:05 to 00:01:15", {"time": [65, 75]}, 1.0),
        Example("between 1:05 and 1:15", {"time": [65, 75]}, 1.0),
        Example("It happens from 5.5 s–9.0 s.", {"time": "5.4 to 9.1"}, 3.5 / 3.7),
        Example("[0, 5]", {"time": [10, 20]}, 0.0),
        Example("[0, 10]", {"time": [2, 4]}, 0.2),
        Example("20 - 10", _LATE, 0.0),
        Example("10 - 20, or rather 15 - 25", _LATE, 1 / 3),
        Example("5.5 - 9.0", {"time": [5.4, 9.1]}, 1.0, {"threshold": 0.5}),
        Example("[0, 6]", {"time": [0, 10]}, 2 / 3, {"ramp": [0.2, 0.8]}),
        Example("[0, 1]", {"time": [0, 10]}, 0.0, {"ramp": [0.2, 0.8]}),
    ),
)  # fmt: skip
def temporal_iou(
    response: Response, reference: Json, *, threshold: float | None = None, ramp: tuple[float, float] | None = None
) -> Score:
    """Intersection over union of two time spans, in [0, 1].

    The span is the first in the answer tag, the ``\\boxed{}`` or the text: "a to b", "a - b", [a, b], each
    in seconds, MM:SS, HH:MM:SS or with units. The reference is ``time``: [start, end] in seconds, or such
    a text. A span that does not run forward is wrong. ``threshold``: 1.0 where the IoU is at least as
    great, else 0.0. ``ramp`` (low, high): (IoU - low) / (high - low), clamped. Source: TimeLens, OneThinker;
    ``ramp`` of VITAL.
    """
    if ramp is not None and not ramp[0] < ramp[1]:
        raise ConfigError("ramp must be two ascending numbers", field="ramp")
    wanted = reference_span(reference.get("time"), "reference.time")
    try:
        said = _stated_span(response)
    except Wrong as wrong:
        return wrong.score()
    iou = span_iou(said, wanted)
    value = iou if threshold is None else float(iou >= threshold)
    if ramp is not None:
        value = min(1.0, max(0.0, (value - ramp[0]) / (ramp[1] - ramp[0])))
    return Score(value, details={"iou": iou, "time": list(said)})


@verifier(
    "keyframe_hit",
    libraries=("google-re2",),
    sources=_SOURCES,
    examples=(
        Example("10 to 20", {"times": [12, 18]}, 1.0),
        Example("10 to 15", {"times": [12, 18]}, 0.5),
        Example("10 to 15", {"times": [12, 18]}, 1.0, {"tolerance_s": 3.0}),
        Example("30 to 40", {"times": [12, 18]}, 0.0),
    ),
)
def keyframe_hit(response: Response, reference: Json, *, tolerance_s: float = 0.0) -> Score:
    """The share of the reference's key ``times`` (seconds) inside the stated span, in [0, 1].

    The span is read as by ``temporal_iou``; its ends count, and ``tolerance_s`` widens both. A long span
    earns recall for free: use it beside ``temporal_iou``. Source: LOVE-R1.
    """
    listed = need(reference, "times", (list, tuple))
    times = numbers(listed, len(listed))
    if not times or len(times) > MAX_ITEMS or not all(0.0 <= time < float("inf") for time in times):
        raise ReferenceUnparseable(
            f"reference.times must be 1 to {MAX_ITEMS} times in seconds", field="reference.times"
        )
    try:
        start, end = _stated_span(response)
    except Wrong as wrong:
        return wrong.score()
    hits = sum(start - tolerance_s <= time <= end + tolerance_s for time in times)
    return Score(hits / len(times), details={"hits": hits, "time": [start, end]})


def _stated_span(response: Response) -> tuple[float, float]:
    text, stated = answer_text(response)
    span = find_span(text)
    if span is None:
        raise missing("time span", stated)
    return span
