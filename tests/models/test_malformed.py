"""Requests that no type checker saw: an error of the caller's in their own rows, whatever the kind."""

from pathlib import Path

import pytest

from rewardhub.models import Card, load
from rewardhub.models.model import RewardModel
from rewardhub.types import Group, Media, Response, Status

OK = (Response("red"), Response("blue and so"))
WITHOUT = {
    "no frames": Media(kind="video"), "no bytes": Media(kind="video", frames=("a",), data=b""),
    "fewer": Media(kind="video", frames=("a", "b"), data=b"\1\0\0\0x"), "cut": Media(kind="video", frames=("a",), data=b"x"),
}  # fmt: skip
BROKEN = {
    "none": Group("b", None, OK), "number": Group("b", 5, OK), "mapping": Group("b", {"role": "user"}, OK),
    "message": Group("b", "What?", (Response(messages=(3,)),)),
    **{f"prompt {name}": Group("b", "What?", OK, media=(media,)) for name, media in WITHOUT.items()},
    **{f"answer {name}": Group("b", "What?", (Response("x", media=(media,)),)) for name, media in WITHOUT.items()},
}  # fmt: skip


@pytest.fixture(scope="module", params=["yes_no", "pairwise", "implicit"])
def model(request, tiny: Path) -> RewardModel:
    more = {"implicit": {"reference": tiny}} if request.param == "implicit" else {"choices": ("1", "2")}
    return load(Card(name="m", kind=request.param, path=tiny, system="", **more))


@pytest.mark.parametrize("name", BROKEN)
def test_its_own_rows_fail_alone(model, groups, name):
    """Neighbours keep their scores."""
    neighbour = groups[2]
    alone = model.score([neighbour])[0].values
    before, broken, behind = model.score([neighbour, BROKEN[name], neighbour])
    assert set(broken.statuses) == {Status.INVALID_INPUT}
    assert before.values == behind.values == pytest.approx(alone, abs=1e-5)
