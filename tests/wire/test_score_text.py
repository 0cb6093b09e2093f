"""The text of a score line against the plain encoder."""

import json

from hypothesis import given
from hypothesis import strategies as st

from rewardhub.types import Column, GroupScores, Status, Timings
from rewardhub.wire.lines import dumps, scores_to_json
from rewardhub.wire.score_text import scores_text

NUMBERS = st.none() | st.floats() | st.integers(-5, 5).map(float)
DETAILS = st.none() | st.dictionaries(
    st.text(max_size=4), st.text(max_size=4) | st.integers() | st.floats(), max_size=2
)


@st.composite
def columns(draw, size):
    def rows(values):
        return st.lists(values, min_size=size, max_size=size)

    return Column(
        draw(rows(NUMBERS)),
        draw(rows(st.sampled_from(list(Status)))),
        draw(st.text(max_size=5)),
        details=draw(st.none() | rows(DETAILS)),
        confidence=draw(st.none() | rows(st.none() | st.floats(0, 1))),
        steps=draw(st.none() | rows(st.tuples() | st.tuples(st.floats(0, 1), st.none()))),
        cached=draw(st.none() | rows(st.booleans())),
    )


@st.composite
def scored(draw):
    size = draw(st.integers(0, 5))
    parts = draw(st.dictionaries(st.text(max_size=5), columns(size), max_size=2))
    return GroupScores(draw(st.text(max_size=5)), draw(columns(size)), parts, list(range(size)), True, Timings(1, 2, 3))


@given(scored(), st.booleans())
def test_the_text_says_what_the_plain_encoder_says(scores, details):
    """Whatever the columns hold, decoding the text gives the same object."""
    plain = json.loads(dumps(scores_to_json(scores, details=details)))
    assert json.loads(scores_text(scores, details=details)) == plain
