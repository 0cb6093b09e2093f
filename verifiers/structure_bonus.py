"""``structure_bonus``: a grounding answer's shape, whatever it says."""

from collections.abc import Mapping
from typing import Any, Literal

from rewardhub.errors import NoAnswer
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Space
from rewardhub.verifiers.geometry.reading import Wrong, four_numbers, json_object, numbers
from rewardhub.verifiers.geometry.space import Frame
from rewardhub.verifiers.geometry.tracks import frame_name, reference_track

Task = Literal["temporal", "spatial", "spatio_temporal", "tracking", "segmentation_image", "segmentation_video"]

_FOUR = {"boxes": {str(frame): [0, 0, 10, 10] for frame in range(4)}}
_THREE = '{"boxes": {"0": [1, 1, 2, 2], "1": [1, 1, 2, 2], "2": [1, 1, 2, 2]}}'
_POINTS = '"positive_points": [[1, 2], [3, 4], [5, 6]], "negative_points": [[1, 2], [3, 4], [5, 6]]'


@verifier(
    "structure_bonus",
    range=(0.0, 0.5),
    sources=(
        "rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.geometry.tracks",
        "rewardhub.verifiers.geometry.space",
        "rewardhub.verifiers.boxes", "rewardhub.verifiers.tags",
    ),
    examples=(
        Example(_THREE, _FOUR, 0.25 + 0.1875, {"task": "tracking"}),
        Example(_THREE, _FOUR, 0.1875, {"task": "spatio_temporal"}),
        Example('{"time": [0, 9], "boxes": {"0": [1, 1, 2, 2]}}', _FOUR, 0.3125, {"task": "spatio_temporal"}),
        Example('<answer>{"time": [10, 20]}</answer>', {}, 0.5, {"task": "temporal"}),
        Example('{"time": 10}', {}, 0.0, {"task": "temporal"}),
        Example('{"boxes": [1, 2, 3, 4]}', {}, 0.5, {"task": "spatial"}),
        Example(f'{{"boxes": [1, 2, 3, 4], {_POINTS}}}', {}, 0.5, {"task": "segmentation_image"}),
        Example(f'{{"boxes": [1, 2, 3, 4], {_POINTS}}}', {}, 0.0, {"task": "segmentation_video"}),
        Example("a dog", {}, 0.0, {"task": "spatial"}),
    ),
)  # fmt: skip
def structure_bonus(response: Response, reference: Json, *, task: Task) -> Score:
    """How far the answer has the JSON shape of its grounding task, in [0, 0.5].

    ``temporal``, ``spatial`` and both ``segmentation`` tasks: 0.5 for the shape. ``tracking`` and
    ``spatio_temporal``: 0.25 for the shape and 0.25 times the share of the reference's frames (``boxes``)
    that the answer names. Tasks without structure have no bonus to earn. Source: OneThinker.
    """
    framed = task in ("tracking", "spatio_temporal")
    wanted = _frames(reference) if framed else set()
    try:
        answer = json_object(response)
    except NoAnswer:
        return Score(0.0, details={"reason": "no JSON object in the response"})
    except Wrong as wrong:
        return wrong.score()
    shaped = _shaped(answer, task)
    if not framed:
        return Score(0.5 * shaped, details={"shaped": shaped})
    boxes = answer.get("boxes")
    said = {frame_name(name) for name in boxes} if isinstance(boxes, Mapping) else set()
    return Score(0.25 * shaped + 0.25 * len(said & wanted) / len(wanted), details={"shaped": shaped})


def _frames(reference: Json) -> set[str]:
    """The names of the reference's frames."""
    track = reference_track(reference.get("boxes"), Frame(Space.PIXEL, Space.PIXEL, "inclusive", (1.0, 1.0)))
    return set(track)


def _shaped(answer: Json, task: Task) -> bool:
    boxes, time = answer.get("boxes"), answer.get("time")
    if task == "temporal":
        return numbers(time, 2) is not None
    if task in ("tracking", "spatio_temporal"):
        timed = task == "tracking" or numbers(time, 2) is not None
        return timed and isinstance(boxes, Mapping) and all(four_numbers(box) for box in boxes.values())
    if four_numbers(boxes) is None:
        return False
    pointed = task == "spatial" or all(_three_points(answer.get(f"{kind}_points")) for kind in ("positive", "negative"))
    return pointed and (task != "segmentation_video" or numbers([time], 1) is not None)


def _three_points(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(numbers(each, 2) for each in value)
