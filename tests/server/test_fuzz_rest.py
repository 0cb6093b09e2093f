"""The REST door under whatever its OpenAPI document allows, and what it does not."""

import pytest

schemathesis = pytest.importorskip("schemathesis")
pytestmark = [pytest.mark.slow]
