"""Many tests here hold a verifier to a time, which is its own: what other tests left in memory is no part of it."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def no_garbage_of_others() -> Iterator[None]:
    """A collection that comes in between walks through what the test itself made, not through all of torch."""
    gc.freeze()
    yield
    gc.unfreeze()
