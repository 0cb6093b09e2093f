"""What trainers have at hand becomes a group, or an error that says what is wrong."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from rewardhub.client import Client
from rewardhub.client.parts import as_media, make_group
from rewardhub.errors import InvalidInput
from rewardhub.types import Call, Group, Response
from rewardhub.wire.samples import as_reference

CALL = Call(recipe="math")


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        (None, {}),
        (math.nan, {}),
        (np.float32("nan"), {}),
        (5, {"answer": "5"}),
        (np.int64(5), {"answer": "5"}),
        (torch.tensor(5), {"answer": "5"}),
        (np.array([5]), {"answer": "5"}),
        (np.array([5, 6]), {"answer": [5, 6]}),
        (torch.tensor([5, 6]), {"answer": [5, 6]}),
        (np.str_("x"), {"answer": "x"}),
        ({"box": [1]}, {"box": [1]}),
    ],
)
def test_a_reference_of_any_make(value, reference):
    """Numbers become text and arrays lists; what a table holds for "nothing" is no reference."""
    assert as_reference(value) == reference


@pytest.mark.parametrize("field", ["responses", "images"])
@pytest.mark.parametrize("value", ["text", b"bytes", 5, None])
def test_a_list_is_asked_for(field, value):
    """One text is not taken for a list of its characters."""
    with pytest.raises(InvalidInput, match=f"{field} is .*, expected a list") as caught:
        make_group(**{"responses": ["x"], field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "HSV"])
def test_a_pil_image_of_any_mode(mode):
    """PNG holds it, or RGB stands for it."""
    image = Image.new("I", (8, 8)).convert("I;16") if mode == "I;16" else Image.new("RGB", (8, 8)).convert(mode)
    with Image.open(io.BytesIO(as_media(image).data)) as found:
        assert found.size == (8, 8)


@pytest.mark.parametrize(
    "image", [Image.new("F", (8, 8)), np.zeros((8, 8, 3)), torch.zeros(3, 8, 8), None, io.BytesIO()]
)
def test_what_is_no_image_is_named(image):
    """The message names the type or the mode, not the pixels."""
    with pytest.raises(InvalidInput, match=r"^(an image is \w+, expected|a PIL image of mode F cannot)"):
        as_media(image)


def test_arrays_and_tensors_travel(url, fake):
    """In a reference, in signals, as a token count, as a step: both doors carry the numbers."""
    response = Response("5", tokens=np.int64(3), signals={"a": np.float32(0.5), "b": torch.tensor(2)})
    reference = {"answer": np.int64(5), "box": torch.tensor([1.5, 2]), "odd": np.array([1, math.nan])}
    with Client(url) as client:
        client.score([Group("g", "", (response,), reference)], Call(recipe="math", step=np.int64(4)))
    (group,) = fake.groups.values()
    assert group.reference == {"answer": 5, "box": [1.5, 2.0], "odd": [1.0, None]}
    assert group.responses[0] == Response("5", tokens=3, signals={"a": 0.5, "b": 2.0})
    assert fake.calls[0].step == 4


@pytest.mark.parametrize(
    ("group", "call", "message"),
    [
        ({"id": "a"}, CALL, "group is an object, expected Group"),
        (Group(5, "", (Response("x"),)), CALL, "group.id is an integer, expected text"),
        (Group("a", "", ("x",)), CALL, r"group 'a': responses\[0\] is text, expected Response"),
        (Group("a", "", (), {}, (b"x",)), CALL, r"group 'a': media\[0\] is bytes, expected Media"),
        (Group("a", expected=None), CALL, "group 'a': expected is null, expected an integer"),
        (Group("a"), "math", "call is text, expected Call"),
        (Group("a"), Call(deadline_ms=2**31), "deadline_ms is 2147483648"),
        (Group("a"), Call(inputs={"m": "x"}), "inputs.m is text, expected a number"),
        (Group("a"), Call(cache="of"), "cache is 'of'"),
    ],
)
def test_what_cannot_be_sent_is_named(url, fake, group, call, message):
    """The same error through both doors, before anything is sent."""
    with Client(url) as client:
        for ask in (lambda: client.score([group], call), lambda: list(client.stream([group], call))):
            with pytest.raises(InvalidInput, match=message):
                ask()
    assert not fake.calls


@pytest.mark.parametrize("timeout_s", [1e9, math.inf])
def test_a_client_may_wait_for_ever(url, fake, timeout_s):
    """No deadline is one that the wire can still carry."""
    with Client(url, timeout_s=timeout_s) as client:
        assert client.score([Group("g", "", (Response("x"),))], CALL)[0].values
        assert list(client.stream([Group("h", "", (Response("x"),))], CALL))
        assert client.scorers()
    assert all(call.deadline_ms < 2**31 for call in fake.calls)
