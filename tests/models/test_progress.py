"""Signs of getting on: what is allowed to take long, and what others may take."""

import io
import time

import pytest
from PIL import Image

import rewardhub.models.pictures as pictures
from rewardhub.errors import InvalidInput
from rewardhub.models.pictures import PIXEL_S, decoded
from rewardhub.models.progress import Pace, Progress, progress


@pytest.fixture
def clock(monkeypatch):
    found = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: found[0])
    return found


def test_what_is_allowed_to_take_long_is_no_measure(clock):
    """R6: a large image has its own time; what comes behind it has what was measured of its like."""
    ours, pace = Progress(), Pace()
    pace.learn(0, 0.01)
    with ours.work(pace):
        assert ours.patience_s == pytest.approx(0.1)
        ours.allow(20.0)
        clock[0] += 5
        assert (ours.patience_s, ours.silent_s) == (20.0, 5.0)
        ours.step()
        assert ours.patience_s == pytest.approx(0.1)
        clock[0] += 1
        assert ours.silent_s > ours.patience_s
        ours.step()
    assert pace.patience_s(0) == pytest.approx(10.0)


def test_an_image_is_allowed_what_its_pixels_take(monkeypatch):
    """R6: while 24 million pixels are decoded, and then cut, nobody takes the worker for hung."""
    buffer = io.BytesIO()
    Image.new("L", (6000, 4000)).save(buffer, "PNG")
    seen = []
    decode = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda data: (seen.append(progress.patience_s), decode(data))[1])
    pace = Pace()
    pace.learn(0, 0.001)
    with progress.work(pace):
        decoded(buffer.getvalue())
        seen.append(progress.patience_s)
    assert seen == [PIXEL_S * 24_000_000] * 2
    with pytest.raises(InvalidInput, match="over the limit"):
        decoded(buffer.getvalue().replace((6000).to_bytes(4, "big"), (600_000).to_bytes(4, "big"), 1))
