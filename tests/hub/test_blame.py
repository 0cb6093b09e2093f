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


async def test_what_was_not_sent_is_blamed_in_its_own_row(hub):
    """A signal that another response lacks, and the steps of a term that was skipped, are not missing here."""
    sent = Group("g", "p", (Response("a", signals={"x": 1}), Response("ab", signals={"x": 1}), Response("abc")))
    terms = "terms: {s: {scorer: spread}, o: {scorer: oracle, when: s < 0.5}}"
    for value, found in (
        ("o + signal('x')", [Status.OK, Status.SKIPPED, Status.INVALID_INPUT]),
        ("s + g_mean(signal('x'))", [Status.OK, Status.OK, Status.OK]),
        ("s + steps_min(o)", [Status.INVALID_INPUT, Status.SKIPPED, Status.SKIPPED]),
    ):
        (scores,) = await hub.score([sent], Call(recipe_text=f'name: b\n{terms}\nvalue: "{value}"'))
        assert scores.total.statuses == found, value
    strict = f"name: b\n{terms}\nvalue: \"s + g_mean(signal('x'))\"\ngroup_strict: true"
    (scores,) = await hub.score([sent], Call(recipe_text=strict))
    assert scores.total.statuses == [Status.INVALID_INPUT] * 3
    assert scores[0].details["field"] == "signals.x"
