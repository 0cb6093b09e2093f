"""What a model said in a query that is prompt and response in one text."""

import time

import pytest

from rewardhub.errors import InvalidInput
from rewardhub.wire.samples import said


@pytest.mark.parametrize("query", ["<" + "image" * 100_000, "<image" * 100_000, " " * 500_000, "<image>" * 70_000])
def test_a_query_made_to_take_long_does_not(query):
    """The time goes with the length, whatever stands where the prompt should."""
    started = time.process_time()
    for prompt in ("x", query + "x"):
        with pytest.raises(InvalidInput, match="q does not begin with its prompt"):
            said(query, prompt, "q")
    assert time.process_time() - started < 5
