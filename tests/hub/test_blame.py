"""Whom a value that is missing is blamed on: what made it go missing, and nothing that only stands beside it."""

import pytest

from rewardhub.types import Call, Group, Response, Status

GROUP = Group("g", "p", (Response("boom"), Response("bo"), Response("longest")))


async def statuses(hub, terms, value, **fields):
    """The statuses of ``GROUP``, whose longest response is 1 by ``spread``."""
    more = "".join(f"{name}: {stated}\n" for name, stated in fields.items())
    text = f"name: blame\nterms:\n  s: {{scorer: spread}}\n{terms}\nvalue: '{value}'\n{more}"
    (scores,) = await hub.score([GROUP], Call(recipe_text=text))
    assert all((score.value is None) is not score.status.is_verdict for score in scores)
    return scores.total.statuses


async def test_a_skipped_row_is_not_blamed_on_another(hub):
    """Where the value looks at no other row, their failures are theirs."""
    found = await statuses(hub, "  c: {scorer: crash, when: s < 1}", "c")
    assert found == [Status.INTERNAL_ERROR, Status.OK, Status.SKIPPED]


async def test_a_failure_behind_a_condition_over_the_group_is_no_skip(hub, dear):
    """Law 1: a condition that is unknown because another row failed skips nothing, for which a recipe states a number."""
    dear.fail = {"boom"}
    terms = "  d: {scorer: dear, when: s < 1}\n  o: {scorer: oracle, when: g_mean(d) > 0}"
    assert await statuses(hub, terms, "if_skipped(o, 7)") == [Status.UNAVAILABLE] * 3
    dear.fail = set()
    assert await statuses(hub, terms, "if_skipped(o, 7)") == [Status.OK] * 3


@pytest.mark.parametrize(
    ("terms", "value", "fields", "first"),
    [
        ("  o: {scorer: oracle, when: s < 1}", "s + g_mean(o)", {"group_strict": "true"}, Status.INCOMPLETE_GROUP),
        ("  o: {scorer: oracle, when: s < 1}", "s + g_mean(o)", {}, Status.OK),
        (
            "  o: {scorer: oracle, when: s < 1}\n  e: {scorer: oracle, when: s != 2 / 7}",
            "s + g_mean(if_skipped(o, 1) * 0 + o * e)",
            {},
            Status.INCOMPLETE_GROUP,
        ),
    ],
)
async def test_too_few_members_are_no_fault_of_the_recipe(hub, terms, value, fields, first):
    """Skipped members are missing to a group operator, alone or in what it is made of."""
    assert (await statuses(hub, terms, value, **fields))[0] is first
