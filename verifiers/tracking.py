"""``tracking``: one object's boxes over the frames of a video."""

from rewardhub.registry import Example, verifier
from rewardhub.types import Group, Json, Response, Score, Space
from rewardhub.verifiers.boxes import Convention
from rewardhub.verifiers.geometry.reading import Wrong, json_object
from rewardhub.verifiers.geometry.space import frame_of
from rewardhub.verifiers.geometry.tracks import reference_track, stated_track, track_ious

_FOUR = {"boxes": {str(second): [0, 0, 10, 10] for second in range(4)}}


@verifier(
    "tracking",
    libraries=("numpy",),
    sources=(
        "rewardhub.verifiers.geometry.reading", "rewardhub.verifiers.geometry.space",
        "rewardhub.verifiers.geometry.overlaps", "rewardhub.verifiers.geometry.tracks",
        "rewardhub.verifiers.boxes", "rewardhub.verifiers.tags",
    ),
    examples=(
        Example('<answer>{"boxes": {"0": [0, 0, 10, 10], "1": [0, 0, 10, 10]}}</answer>', _FOUR, 0.5),
        Example('{"boxes": {"3": [0, 0, 10, 5]}}', _FOUR, 0.125),
        Example('{"boxes": {"9": [0, 0, 10, 10]}}', _FOUR, 0.0),
        Example('{"boxes": {"0": [0, 0, 10], "1": [0, 0, 10, 10]}}', _FOUR, 0.25),
        Example('{"boxes": [0, 0, 10, 10]}', _FOUR, 0.0),
    ),
)  # fmt: skip
def tracking(
    response: Response, reference: Json, group: Group, *,
    space: Space = Space.PIXEL,
    reference_space: Space | None = None,
    convention: Convention = "continuous",
) -> Score:  # fmt: skip
    """The mean IoU over all frames of the reference, in [0, 1]; a missing or malformed box counts 0.

    The response is a JSON object with ``boxes``: frame name to [x1, y1, x2, y2]; the reference is alike.
    Frames that only the response names change nothing. Source: OneThinker.
    """
    frame = frame_of(reference, group, space, reference_space, convention)
    wanted = reference_track(reference.get("boxes"), frame)
    try:
        said = stated_track(json_object(response).get("boxes"))
    except Wrong as wrong:
        return wrong.score()
    ious = track_ious(said, wanted, frame)
    return Score(float(ious.sum()) / len(wanted), details={"frames": len(wanted), "found": len(ious)})
