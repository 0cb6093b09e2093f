"""Which terms an expression cannot have a value without, by its word and by what it gives."""

import numpy as np
import pytest

from rewardhub.recipes.expression import compile_expression
from rewardhub.recipes.functions import Scope
from rewardhub.types import Call, Group, Response

NAMES = ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("a", "a"),
        ("0 * a + b", "ab"),
        ("clip(a, 0, max(b, 1))", "ab"),
        ("a if b > 0 else c", ""),
        ("where(a, b, c)", ""),
        ("a if b else c", "b"),
        ("a or b", ""),
        ("not a", "a"),
        ("a > 0.5", ""),
        ("a * (b > 0.5)", "a"),
        ("div(a, b, 1)", ""),
        ("a - g_mean(a)", "a"),
        ("g_count(a) + b", "b"),
        ("if_skipped(a, b)", "a"),
        ("a + where(b, a, c)", "a"),
    ],
)
def test_what_an_expression_needs(text, needs):
    """Without a term that it needs no row has a value, whatever the others are."""
    expression = compile_expression(text, dict.fromkeys(NAMES), "value")
    assert expression.needs == set(needs)
    for name in needs:
        for others in (0.0, 1.0, -3.0):
            scope = Scope(Group("g", "p", (Response("x"),) * 2), Call(), minimum=1)
            scope.values = {each: np.full(2, np.nan if each == name else others) for each in NAMES}
            assert np.isnan(expression(scope)).all()
